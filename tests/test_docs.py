"""README and docs: the pages, configs, commands and keys that they name are there."""

import importlib.util
import re
from pathlib import Path

import pytest

from vq_jax.config_files import find_config
from vq_jax.tasks import TASKS, default_config
from vq_jax.training.run_dir import flatten

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / 'README.md', ROOT / 'ARCHITECTURE.md', *sorted((ROOT / 'docs').glob('*.md'))]
# Files, and keys of code of one's own.
OTHERS = {
    'json',
    'py',
    'brightness',
    'custom_quantizer.warmup_steps',
    'custom_quantizer.num_codes',
    'custom_conditioner.width',
}
page = pytest.mark.parametrize('page', PAGES, ids=lambda path: path.stem)


def anchors(path):
    """The anchors that a forge gives to the headings of a page."""
    text = re.sub(r'```.*?```', '', path.read_text(), flags=re.DOTALL)
    for heading in re.findall(r'^#+ (.*)$', text, re.MULTILINE):
        yield re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


@page
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if target.startswith('https://'):
            continue
        name, _, anchor = target.partition('#')
        file = (page.parent / name) if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@page
def test_commands_and_configs_are_there(page):
    text = page.read_text()
    for name in re.findall(r'python -m (vq_jax\.\w+)', text):
        assert importlib.util.find_spec(name), name
    for name in re.findall(r'configs/\w+/\w+\.py', text):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r'(?<![/\w])(\w+)\.py\b', text):
        if list((ROOT / 'configs').glob(f'*/{name}.py')):
            find_config(name)  # raises where two are called so
    for name in re.findall(r'experiments/(\w+)', text):
        assert (ROOT / 'experiments' / name).is_dir(), name
    for name in re.findall(r'`(vq_jax/[\w/]+(?:\.py|/))`', text):
        assert (ROOT / name).exists(), name


@page
def test_keys_are_those_of_configs(page):
    known = {path for task in TASKS for path in flatten(default_config(task).to_dict())}
    sections = {path.rpartition('.')[0] for path in known}
    named = re.findall(r'(?<!\w)config\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)(?!\w|\()', page.read_text())
    assert {name for name in named if name not in known | sections | OTHERS} == set()


def test_reference_of_keys_is_made_from_docstrings():
    path = ROOT / 'docs' / 'keys.py'
    spec = importlib.util.spec_from_file_location('docs_keys', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.FILE.read_text() == module.page(), 'make it anew by `python docs/keys.py`'

"""The package as it is installed: what it says of itself, and that it works from anywhere."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vq_jax
from tests.runs import ROOT
from vq_jax.config_files import CONFIGS, find_config

COMMANDS = (
    'convert',
    'describe',
    'edit',
    'embed',
    'evaluate',
    'experiment',
    'prepare',
    'report',
    'sample',
    'summary',
    'tokenize',
    'train',
)


def elsewhere(folder, *words, **environment):
    """What a command prints that is started in another folder than the project's."""
    process = subprocess.run(
        [sys.executable, '-m', *map(str, words)],
        cwd=folder,
        env=os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_the_version_is_said_once():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    assert re.fullmatch(r'\d+\.\d+\.\d+', vq_jax.__version__)
    assert project['tool']['setuptools']['dynamic']['version'] == {'attr': 'vq_jax.__version__'}
    assert 'version' in project['project']['dynamic'] and 'version' not in project['project']


def test_the_folder_of_a_clone_is_not_taken_for_the_package(tmp_path):
    """Where both are called vq_jax, a path to the package comes first, which `package-dir` lets pip write.

    Python runs without its site-packages, in which another clone may be installed.
    """
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    folder = ROOT / project['tool']['setuptools']['package-dir']['']
    (tmp_path / 'vq_jax').mkdir()
    site, find = f'site.addsitedir({str(tmp_path / "site")!r})', 'importlib.util.find_spec("vq_jax").origin'
    code = f'import importlib.util, site; {site}; print({find})'
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'editable.pth').write_text(str(folder))
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    printed = subprocess.run(
        [sys.executable, '-S', '-c', code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(printed.strip()) == ROOT / 'vq_jax' / '__init__.py'


def test_the_commands_are_listed(tmp_path):
    heading, blank, *lines = elsewhere(tmp_path, 'vq_jax').splitlines()
    assert vq_jax.__version__ in heading and not blank
    names = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert tuple(names) == COMMANDS
    assert all('`' not in about and len(about) > 10 for about in names.values())
    for name in COMMANDS:
        assert (ROOT / 'vq_jax' / f'{name}.py').is_file()


@pytest.mark.parametrize(
    'word, hint',
    [('trian', 'did you mean python -m vq_jax.train?'), ('zzz', f'there are {", ".join(COMMANDS)}.')],
)
def test_a_command_that_is_written_otherwise(monkeypatch, capsys, word, hint):
    monkeypatch.setattr(sys, 'argv', ['vq_jax', word])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module('vq_jax', run_name='__main__')
    assert caught.value.code == 2
    assert capsys.readouterr().err == (f'error: commands are started as python -m vq_jax.COMMAND; {hint}\n')


def test_listing_the_commands_imports_no_large_package(tmp_path):
    code = 'import runpy, sys; runpy.run_module("vq_jax", run_name="__main__"); print(*sys.modules)'
    printed = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert not {'jax', 'flax', 'absl'} & set(printed.split())


def test_help_imports_no_jax():
    """Whoever asks for it waits for a fraction of a second."""
    code = (
        'import atexit, runpy, sys\n'
        'name = sys.argv[1]\n'
        "atexit.register(lambda: print('jax' in sys.modules))\n"
        "runpy.run_module(f'vq_jax.{name}', run_name='__main__', alter_sys=True)\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, '-c', code, name, '--help'], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for name in COMMANDS
    ]
    for name, process in zip(COMMANDS, started, strict=True):
        printed, _ = process.communicate()
        assert '--help' in printed or 'flags:' in printed, name
        assert printed.splitlines()[-1] == 'False', name


def test_configs_are_those_of_the_project():
    paths = sorted((ROOT / 'configs').glob('*/*.py'))
    assert sorted(CONFIGS.glob('*/*.py')) == [CONFIGS / path.relative_to(ROOT / 'configs') for path in paths]
    assert paths and not list((ROOT / 'configs').glob('*.py'))
    # Each is found by its name alone.
    assert [Path(find_config(path.stem)).resolve() for path in paths] == paths


@pytest.mark.slow
def test_a_sweep_is_run_from_anywhere(tmp_path):
    """The code of docs/sweeps.md, with fewer steps."""
    (code,) = re.findall(
        r'```python\n# table.py\n(.*?)```', (ROOT / 'docs' / 'sweeps.md').read_text(), re.DOTALL
    )
    sweep = tmp_path / 'codebook'
    sweep.mkdir()
    assert "'steps': 300" in code
    (sweep / 'table.py').write_text(
        code.replace("'steps': 300", "'steps': 2, 'data.eval_split': 'test[:64]'")
    )
    (tmp_path / 'here').mkdir()
    elsewhere(tmp_path / 'here', 'vq_jax.experiment', '../codebook', '--rows=codes_16')
    assert (tmp_path / 'here' / 'runs' / 'codebook' / 'codes_16' / 'config.json').is_file()
    table = (sweep / 'table.md').read_text()
    assert re.search(r'\| 16 codes \| \d', table) and '| 64 codes | not run' in table


def test_what_is_installed_has_all_that_the_commands_need(tmp_path):
    """Built as for a wheel, from a copy: building writes into the folder of the project."""
    pytest.importorskip('setuptools')
    names = ('vq_jax', 'configs', 'pyproject.toml', 'requirements.txt', 'README.md')
    subprocess.run(['cp', '-r', *(str(ROOT / name) for name in names), str(tmp_path)], check=True)
    installed = tmp_path / 'installed'
    build = [sys.executable, '-c', 'import setuptools; setuptools.setup()', 'build_py', '-d', str(installed)]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    built, here = (
        {
            str(path.relative_to(root))
            for path in [*root.rglob('*'), *(root / 'vq_jax' / 'configs').glob('*/*')]
        }
        for root in (installed, ROOT)
    )
    here = {name for name in here if name.startswith('vq_jax/') and '__pycache__' not in name}
    assert here <= built, here - built
    assert {'vq_jax/py.typed', 'vq_jax/configs/image/quickstart.py', 'vq_jax/reporting/page.html'} <= here
    code = 'import vq_jax; print(vq_jax.__file__, vq_jax.__version__)'
    environment = os.environ | {'PYTHONPATH': str(installed)}
    printed = subprocess.run(
        [sys.executable, '-c', code],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == f'{installed}/vq_jax/__init__.py {vq_jax.__version__}\n'
    keys = elsewhere(installed, 'vq_jax.train', '--config=quickstart', '--help', PYTHONPATH=str(installed))
    assert '--config.quantizer.num_codes=256' in keys

"""The house rules: who imports whom."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / 'vq_jax'
LEVELS = {
    'errors': -4,
    'processes': -4,
    'files': -3,
    'locks': -2,
    'spec': -3,
    'buckets': -1,
    'config_files': -1,
    'extensions': -1,
    'json_files': -1,
    'npz_files': -1,
    'text_tokenizers': -1,
    'tokenizer_files': -2,
    'ops': 0,
    'weights': 0,
    'quantizers': 1,
    'media': 1,
    'models': 2,
    'data': 2,
    'sampling': 3,
    'training': 3,
    'tables': 4,
    'tasks': 4,
    'evaluators': 5,
    'reporting': 5,
}
ENTRY = 6
FILES = sorted(ROOT.rglob('*.py'))


def level(parts):
    """The level of a module, by the path of its name below vq_jax."""
    return LEVELS.get(parts[0], ENTRY) if parts else LEVELS['errors']


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path} has a relative import'
            if node.module == 'vq_jax':
                yield from (f'vq_jax.{alias.name}' for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_its_level_and_below(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    own = ENTRY if parts == ('__init__',) else level(parts)
    folder = parts[0] if len(parts) > 1 else None
    for name in imported(path):
        assert name.split('.')[0] != 'torch'
        if name.startswith('vq_jax.'):
            other = name.split('.')[1:]
            if folder is None or other[0] != folder:
                below = level(other) < own or (own == ENTRY and folder is None)
                assert below, f'{path} imports {name}'


@pytest.mark.parametrize('folder', ['ops', 'quantizers', 'models', 'sampling'])
def test_what_can_be_used_without_a_config_speaks_of_none(folder):
    """Of its own attributes alone; `vq_jax.training.config.build` puts the path of the config before."""
    paths = sorted((ROOT / folder).glob('*.py'))
    assert paths
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert 'config.' not in node.value, f'{path}, line {node.lineno}: {node.value}'


def files_imported(path):
    """The files that a file imports, where it does; of a name that is a file itself, that one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(f'{node.module}.{alias.name}', node.module) for alias in node.names]
        else:
            continue
        for candidates in names:
            places = [ROOT.parent.joinpath(*name.split('.')) for name in candidates]
            files = [file for place in places for file in (place.with_suffix('.py'), place / '__init__.py')]
            yield from [file for file in files if file.is_file()][:1]


def test_imports_make_no_circle():
    """Not even those inside of functions, which would only hide it."""
    graph = {path: set(files_imported(path)) for path in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # raises with the files of a circle

"""Tables of papers: missing rows are run, once, and what was seen stands beside the paper's number."""

import csv
import importlib.util
import json

import pytest

from tests.runs import ROOT, run
from vq_jax.errors import UserError
from vq_jax.tables import read_table, run_rows, write_table
from vq_jax.tasks import complete_config

FOLDERS = sorted(path.parent for path in (ROOT / 'experiments').glob('*/table.py'))
TABLE = """
from vq_jax.tables import Row, Table

fast = {{'steps': 2, 'eval_every': 2, 'batch_size': 16, 'model.channels': 8}}

def get_table():
    rows = (
        Row('first', 'First', 'configs/quickstart.py', {{'MSE': 'mse'}}, fast, {{'MSE': '0.01'}}),
        Row('second', 'Second', 'configs/quickstart.py', {{'use': 'codes_used'}}, {{**fast, 'seed': {seed}}}),
        Row('large', 'Large', 'configs/quickstart.py', {{'MSE': 'mse'}}, large=True),
    )
    return Table('Two small runs and a large one', 'Nobody 2000', rows)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = tmp_path / 'experiment'
    folder.mkdir()
    (folder / 'table.py').write_text(TABLE.format(seed=1))
    return folder


def rows_of(folder):
    with (folder / 'table.csv').open() as file:
        return {row['run']: row for row in csv.DictReader(file)}


def test_rows_are_run_once_and_written_down(folder, tmp_path):
    work = tmp_path / 'runs'
    write_table(folder)
    assert {row['MSE, ours'] for row in rows_of(folder).values()} == {'not run', ''}
    run_rows(folder, work, ['first'])
    logged = [json.loads(line) for line in (work / 'first' / 'metrics.jsonl').read_text().splitlines()]
    mse = [line['mse'] for line in logged if line['split'] == 'eval'][-1]
    table = rows_of(folder)
    assert table['First']['MSE, ours'] == f'{mse:.4g}' and table['First']['MSE, paper'] == '0.01'
    assert table['First']['data'] == 'digits test' and table['First']['steps'] == '2'
    assert table['Second']['use, ours'] == 'not run'
    text = (folder / 'table.md').read_text()
    assert '--rows second' in text and '--rows large' in text and '--rows first' not in text

    before = (work / 'first' / 'metrics.jsonl').stat().st_mtime_ns
    output, _ = run([folder, f'--workdir={work}'], module='vq_jax.experiment')
    assert 'Second: python -m vq_jax.train' in output and 'First:' not in output and 'Large:' not in output
    assert (work / 'first' / 'metrics.jsonl').stat().st_mtime_ns == before
    assert float(rows_of(folder)['Second']['use, ours']) > 0

    # A row whose config has changed was not run.
    (folder / 'table.py').write_text(TABLE.format(seed=2))
    write_table(folder)
    assert rows_of(folder)['Second']['use, ours'] == 'not run'
    assert rows_of(folder)['First']['MSE, ours'] == f'{mse:.4g}'


def test_mistakes(folder, tmp_path):
    with pytest.raises(UserError, match="no row 'thrid'; it has first, second, large"):
        run_rows(folder, tmp_path, ['thrid'])
    with pytest.raises(UserError, match=r'holds no table\.py'):
        read_table(tmp_path)
    _, errors = run([tmp_path / 'nosuch'], module='vq_jax.experiment', status=2)
    assert errors.splitlines()[-1].startswith(f'error: {tmp_path}/nosuch holds no table.py')


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_every_row_has_a_config_and_numbers_that_can_be(folder, monkeypatch, tmp_path):
    """And what is written down was made of the results that are there."""
    monkeypatch.chdir(ROOT)
    table = read_table(folder)
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names)
    for row in table.rows:
        path, _, argument = row.config.partition(':')
        spec = importlib.util.spec_from_file_location('config', ROOT / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = complete_config(module.get_config(argument) if argument else module.get_config())
        config.update_from_flattened_dict(row.resolved(tmp_path))  # raises for keys that are not there
    copy = tmp_path / folder.name
    copy.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    write_table(copy)
    assert (copy / 'table.csv').read_text() == (folder / 'table.csv').read_text()


def test_every_folder_is_found():
    assert {path.name for path in FOLDERS} >= {'vqvae_2017', 'codebook_size', 'priors'}

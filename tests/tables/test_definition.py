"""Which rows build on which, and what their numbers are a function of."""

import pytest

from vq_jax.errors import UserError
from vq_jax.tables import Comparison, Row, read_table

TOKENIZER = 'configs/quickstart.py'
PRIOR = 'configs/quickstart_prior.py'
ROWS = """
    Row('tokenizer', 'A', 'configs/quickstart.py', {'MSE': 'mse'}, {'seed': SEED}),
    Row('classifier', 'B', 'configs/classifier.py', {'accuracy': 'accuracy'}),
    Row('prior', 'C', 'configs/quickstart_prior.py', {}, {'tokenizer.workdir': '{tokenizer}'},
        comparison=Comparison('classifier', NUM)),
    Row('again', 'D', '{prior}', {}, {'sampling.top_p': 0.9}),
"""


def fingerprints(write, seed=0, num=10):
    return read_table(write(ROWS, before=f'SEED, NUM = {seed}, {num}')).fingerprints


def test_what_a_row_builds_on(tmp_path):
    row = Row('a', 'A', PRIOR, {}, {'tokenizer.workdir': '{b}', 'steps': 3}, comparison=Comparison('c'))
    assert row.needs == ('b', 'c') and row.trains and row.run == 'a'
    assert row.resolved(tmp_path) == {'tokenizer.workdir': f'{tmp_path}/b', 'steps': 3}
    again = Row('d', 'D', '{a}', {}, {'sampling.top_p': 0.9}, comparison=Comparison('inception'))
    assert again.needs == ('a',) and not again.trains and again.run == 'a'


def test_a_fingerprint_changes_with_the_row_and_with_those_it_builds_on(write):
    before = fingerprints(write)
    assert fingerprints(write) == before and len(set(before.values())) == 4
    reseeded = fingerprints(write, seed=1)
    assert {name for name in before if reseeded[name] != before[name]} == {'tokenizer', 'prior', 'again'}
    more = fingerprints(write, num=20)
    assert {name for name in before if more[name] != before[name]} == {'prior', 'again'}


def test_a_config_file_is_read_once(write, monkeypatch):
    rows = ''.join(f"Row('r{i}', 'R', 'configs/once.py', {{}}, {{'seed': {i}}})," for i in range(50))
    folder = write(rows)
    (folder / 'configs').mkdir()
    config = 'from pathlib import Path\nfrom vq_jax.tasks import default_config\ndef get_config():\n'
    config += "    with Path('read').open('a') as file: file.write('.')\n    return default_config('vqvae')\n"
    (folder / 'configs' / 'once.py').write_text(config)
    monkeypatch.chdir(folder)
    table = read_table(folder)
    assert len(set(table.fingerprints.values())) == 50
    assert table.fingerprints == table.fingerprints
    assert (folder / 'read').read_text() == '.'


def test_the_path_of_a_table_may_have_a_colon(tmp_path):
    folder = tmp_path / 'a:b'
    folder.mkdir()
    rows = "Row('r', 'R', 'own.py', {}), Row('s', 'S', 'own.py:7', {})"
    (folder / 'table.py').write_text(
        f'from vq_jax.tables import Row, Table\n\ndef get_table():\n    return Table("T", "S", ({rows}))\n'
    )
    (folder / 'own.py').write_text(
        'from vq_jax.tasks import default_config\n\ndef get_config(seed="3"):\n'
        '    config = default_config("vqvae")\n    config.seed = int(seed)\n    return config\n'
    )
    table = read_table(folder)
    assert [row.run_config(tmp_path)['seed'] for row in table.rows] == [3, 7]
    assert len(set(table.fingerprints.values())) == 2


@pytest.mark.parametrize(
    'rows, words',
    [
        ("Row('a', 'A', '{b}', {}),", "the row a of .* builds on 'b', which no row before it is"),
        (f"Row('a', 'A', '{TOKENIZER}', {{}}, comparison=Comparison('b')),", "builds on 'b'"),
        (
            f"Row('a', 'A', '{TOKENIZER}', {{}}), Row('b', '', '{{a}}', {{}}), Row('c', '', '{{b}}', {{}}),",
            "the row c of .* builds on 'b', which trains nothing",
        ),
        (f"Row('a', 'A', '{TOKENIZER}', {{}})," * 2, "the name of the row 'a' of .* is taken"),
        (f"Row('inception', 'A', '{TOKENIZER}', {{}}),", "the name of the row 'inception' of .* is taken"),
    ],
)
def test_rows_that_do_not_fit(write, rows, words):
    with pytest.raises(UserError, match=words):
        read_table(write(rows))


def test_a_folder_without_a_table(tmp_path):
    with pytest.raises(UserError, match=r'holds no table\.py'):
        read_table(tmp_path)


@pytest.mark.parametrize(
    'text, words',
    [
        ('TABLE = 1', "AttributeError: module 'table.py' has no attribute 'get_table'"),
        ('def get_table(:', 'SyntaxError: '),
        ('import nosuch', "ModuleNotFoundError: No module named 'nosuch'"),
        ('def get_table():\n    return 1 / 0', 'ZeroDivisionError: division by zero'),
        ('def get_table():\n    return {}', r'get_table\(\) of .*table\.py must return a'),
    ],
)
def test_a_table_with_mistakes_is_told_in_a_sentence(tmp_path, text, words):
    (tmp_path / 'table.py').write_text(text)
    with pytest.raises(UserError, match=words) as told:
        read_table(tmp_path)
    assert 'table.py' in str(told.value) and '\n' not in str(told.value)


def test_in_a_run_directory_nothing_is_run(tmp_path):
    ran = tmp_path / 'ran'
    (tmp_path / 'config.json').write_text('{}')
    (tmp_path / 'table.py').write_text(f'open({str(ran)!r}, "w")')
    with pytest.raises(UserError, match='is a run, in which no program is run'):
        read_table(tmp_path)
    assert not ran.exists()

"""Plots of rows: their points, and the same bytes for the same numbers."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from vq_jax.tables import Plot, Row, Table, write_table
from vq_jax.tables.plots import draw, points_of
from vq_jax.tables.results import Results

NUMBERS = {'MSE': 'mse', 'use': 'codebook_usage'}
CONFIG = 'configs/image/quickstart.py'
SVG = '{http://www.w3.org/2000/svg}'


@pytest.fixture
def seen(tmp_path):
    """Rows of two kinds with 2, 4 and 8 codes, of which the last was not run."""
    rows = tuple(
        Row(f'{kind}{k}', f'{kind}, {k}', CONFIG, NUMBERS, {'seed': k}, facts={'codes': k, 'kind': kind})
        for kind in 'ab'
        for k in (2, 4, 8)
    )
    table = Table('', '', rows)
    results = Results(tmp_path, table)
    for row in rows:
        if row.facts['codes'] < 8:
            metrics = {'mse': 1 / row.facts['codes'] + (row.facts['kind'] == 'b'), 'codebook_usage': 0.5}
            made = {'data': 'digits test', 'steps': 5, 'hardware': '2 cores', 'commit': 'abc'}
            results.save(row, {'metrics': metrics, **made})
    return rows, Results(tmp_path, table)


def test_points(seen):
    assert points_of(Plot('p', 'codes', 'MSE', 'kind'), *seen) == {
        'a': [(2, 0.5), (4, 0.25)],
        'b': [(2, 1.5), (4, 1.25)],
    }
    named = points_of(Plot('p', 'use', 'MSE'), *seen)
    assert named == {'a, 2': [(0.5, 0.5)], 'a, 4': [(0.5, 0.25)], 'b, 2': [(0.5, 1.5)], 'b, 4': [(0.5, 1.25)]}
    assert points_of(Plot('p', 'nothing', 'MSE', 'kind'), *seen) == {}


def test_a_drawing_is_a_function_of_the_numbers(seen):
    plot = Plot('p', 'codes', 'MSE', 'kind', log_x=True)
    lines = points_of(plot, *seen)
    svg = draw(plot, lines)
    assert draw(plot, lines) == svg
    assert draw(plot, {**lines, 'b': [(2, 1.5), (4, 1.0)]}) != svg
    assert 'date' not in svg and not any(line.endswith(' ') for line in svg.splitlines())
    texts = {text.text for text in ET.fromstring(svg).iter(f'{SVG}text')}
    assert texts >= {'codes', 'MSE', 'a', 'b', '2', '4'}


def test_names_are_drawn_as_they_are():
    """Dollars begin no formula, which this one would end in an error."""
    name = r'5$ \frac$ <b>&amp; 50%'
    svg = draw(Plot('p', 'x$_1$', 'y'), {name: [(1, 1)]})
    assert {name, 'x$_1$'} <= {text.text for text in ET.fromstring(svg).iter(f'{SVG}text')}


def test_names_stay_in_their_cells_and_commands(tmp_path):
    (tmp_path / 'table.py').write_text(
        'from vq_jax.tables import Row, Table\n'
        'def get_table():\n'
        f"    rows = Row('a b;c', 'one | two\\nthree', '{CONFIG}', {{'loss': 'loss'}}),\n"
        "    return Table('', '', rows)\n"
    )
    write_table(tmp_path)
    text = (tmp_path / 'table.md').read_text()
    assert r'| one \| two three | not run |' in text and f"{tmp_path} --rows 'a b;c'" in text


def test_a_drawing_has_its_points_where_they_belong():
    """Equal ratios are equal distances on a logarithmic axis."""
    svg = draw(Plot('p', 'x', 'y', log_x=True, log_y=True), {'line': [(1, 1), (10, 100), (1000, 10_000)]})
    (path,) = (
        path.get('d')
        for path in ET.fromstring(svg).iter(f'{SVG}path')
        if path.get('d', '').count('L') == 2 and path.get('clip-path')
    )
    x, y = np.array([point.split() for point in path[1:].split('L')], float).T
    assert np.diff(x)[1] == pytest.approx(2 * np.diff(x)[0], rel=1e-4)
    assert np.diff(y)[1] == pytest.approx(np.diff(y)[0], rel=1e-4) and np.diff(y)[0] < 0

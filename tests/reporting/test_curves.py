"""Curves thinned to few points, and the charts of several runs."""

import json

import numpy as np
import pytest

from tests.reporting.recorded import record, trained
from vq_jax.reporting import read_runs
from vq_jax.reporting.curves import LIMIT, averages, make_charts, thin
from vq_jax.reporting.runs import Series


def test_short_curves_are_whole():
    assert thin(np.zeros(LIMIT)).tolist() == list(range(LIMIT))


@pytest.mark.parametrize('n', [1001, 4999, 100_000])
def test_thinning_keeps_extremes_ends_and_gaps(n):
    values = np.random.default_rng(n).standard_normal(n)
    values[n // 3] = np.nan
    kept = thin(values)
    assert len(kept) <= LIMIT
    assert (np.diff(kept) > 0).all()
    assert {0, n - 1, n // 3, np.nanargmin(values), np.nanargmax(values)} <= set(kept.tolist())
    # The highest and lowest of every stretch, not of the whole alone.
    for stretch in np.array_split(np.arange(n), LIMIT // 5):
        inside = values[kept[(kept >= stretch[0]) & (kept <= stretch[-1])]]
        assert np.nanmin(inside) == np.nanmin(values[stretch])
        assert np.nanmax(inside) == np.nanmax(values[stretch])


def test_a_curve_that_is_never_finite():
    assert len(thin(np.full(5000, np.nan))) <= LIMIT
    assert averages(Series(list(range(5000)), [np.nan] * 5000)) == ([], [])


def test_averages_are_of_all_points():
    # Spikes upwards: the mean of what thinning keeps would be far above that of the curve.
    values = np.where(np.arange(20_000) % 50 == 0, 1.0, 0.0)
    steps, means = averages(Series(list(range(0, 40_000, 2)), values.tolist()))
    np.testing.assert_allclose(means, 0.02)
    assert values[thin(values)].mean() > 0.2
    np.testing.assert_allclose(np.diff(steps), 200)


def test_charts_put_training_and_evaluation_of_a_number_together(tmp_path):
    runs = read_runs([trained(tmp_path / 'a'), trained(tmp_path / 'b')])
    charts = {chart['name']: chart for chart in make_charts(runs)}
    assert {name: chart['group'] for name, chart in charts.items()} == {
        'loss': 'eval',
        'psnr': 'eval',
        'rate': 'train',
        'examples_per_second': 'speed',
    }
    assert [(c['run'], c['split']) for c in charts['loss']['curves']] == [
        (0, 'train'),
        (0, 'eval'),
        (1, 'train'),
        (1, 'eval'),
    ]


def test_charts_hold_the_logged_numbers_exactly(tmp_path):
    workdir = trained(tmp_path / 'run', factor=1 / 3)
    logged = {}
    for line in map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines()):
        for name in line.keys() - {'step', 'split', 'examples'}:
            logged.setdefault((name, line['split']), []).append((line['step'], line[name]))
    drawn = {
        (chart['name'], curve['split']): list(zip(curve['steps'], curve['values'], strict=True))
        for chart in json.loads(json.dumps(make_charts(read_runs([workdir]))))
        for curve in chart['curves']
    }
    assert drawn == logged


def test_what_is_not_finite_is_a_gap_and_counted(tmp_path):
    values = [1.0, float('nan'), 0.5, float('inf')]
    log = [(step, 'train', {'loss': value}) for step, value in enumerate(values, 1)]
    workdir = record(tmp_path / 'run', log)
    with (workdir / 'metrics.jsonl').open('a') as file:  # as Python's json writes it
        file.write(
            '{"step": 5, "split": "train", "loss": NaN}\n{"step": 6, "split": "train", "loss": -Infinity}\n'
        )
    ((curve,),) = (chart['curves'] for chart in make_charts(read_runs([workdir])))
    assert curve['values'] == [1.0, None, 0.5, None, None, None]
    assert curve['not_finite'] == [4, 2]


def test_a_hundred_thousand_lines(tmp_path):
    workdir = record(tmp_path / 'run')
    values = np.random.default_rng(0).standard_normal(100_000).tolist()
    with (workdir / 'metrics.jsonl').open('w') as file:
        for step, value in enumerate(values, 1):
            file.write(json.dumps({'step': step, 'split': 'train', 'loss': value}) + '\n')
    ((curve,),) = (chart['curves'] for chart in make_charts(read_runs([workdir])))
    assert len(curve['steps']) <= LIMIT
    assert (min(curve['values']), max(curve['values'])) == (min(values), max(values))
    assert all(values[step - 1] == value for step, value in zip(curve['steps'], curve['values'], strict=True))

"""The logged numbers of several runs as curves, few enough points to draw in a browser."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vq_jax.reporting.runs import RecordedRun, Series

LIMIT = 1000  # points of a curve
_KEPT = 5  # points that a stretch of a thinned curve may keep
# How many examples were counted: in the table, beside the numbers that it belongs to.
_NOT_DRAWN = ('examples',)


def thin(values: np.ndarray) -> np.ndarray:
    """Which points of a curve to draw.

    A curve of more than `LIMIT` points is cut into equal stretches, of each of which the first, the last,
    the smallest, the largest and the first that is not finite are kept. Drawn less than `LIMIT / 5` pixels
    wide, it looks as with all points.

    Args:
        values: float [n], with NaN where a number was not finite.

    Returns:
        int [at most `LIMIT`], indices in rising order.
    """
    if len(values) <= LIMIT:
        return np.arange(len(values))
    kept: set[int] = set()
    for stretch in np.array_split(np.arange(len(values)), LIMIT // _KEPT):
        part = values[stretch]
        finite = np.isfinite(part)
        kept |= {stretch[0], stretch[-1]}
        if finite.any():
            kept |= {stretch[np.nanargmin(part)], stretch[np.nanargmax(part)]}
        if not finite.all():
            kept.add(stretch[np.argmin(finite)])
    return np.array(sorted(kept))


def averages(series: Series) -> tuple[list[float], list[float]]:
    """Mean step and mean value of each stretch of a curve that is too long to draw.

    What `thin` keeps are extremes, which a moving average over them would be drawn to; it goes over these.
    """
    steps, values = np.array(series.steps, np.float64), np.array(series.values)
    stretches = [s[np.isfinite(values[s])] for s in np.array_split(np.arange(len(values)), LIMIT // _KEPT)]
    stretches = [s for s in stretches if len(s)]
    # Divided before the sum, which might overflow.
    means = [float((values[s] / len(s)).sum()) for s in stretches]
    return [float(steps[s].mean()) for s in stretches], means


def make_charts(runs: Sequence[RecordedRun]) -> list[dict[str, Any]]:
    """What is drawn: a chart for each number, with a curve for each run and split that logged it.

    Numbers that are evaluated come first, then those of training alone, then those of the machine, each in
    the order of the log.

    Returns:
        JSON values. A chart has `group`, `name` and `curves`; a curve has `run` (index), `split`, `steps`,
        `values` (null where not finite), `averages` (steps and values; null if no point was left out), and
        `not_finite`: how many of its numbers were not, and the step of the first.
    """
    charts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for index, run in enumerate(runs):
        for split, names in run.log.items():
            for name, series in names.items():
                if name not in _NOT_DRAWN:
                    group = 'speed' if split == 'speed' else ''
                    charts.setdefault((group, name), []).append(_curve(index, split, series))

    def group_of(key: tuple[str, str]) -> str:
        return key[0] or ('train' if {c['split'] for c in charts[key]} == {'train'} else 'eval')

    grouped = [{'group': group_of(key), 'name': key[1], 'curves': curves} for key, curves in charts.items()]
    return sorted(grouped, key=lambda chart: ('eval', 'train', 'speed').index(chart['group']))


def _curve(run: int, split: str, series: Series) -> dict[str, Any]:
    values = np.array(series.values)
    kept = thin(values)
    finite = np.isfinite(values)
    return {
        'run': run,
        'split': split,
        'steps': [series.steps[i] for i in kept],
        'values': [series.values[i] if finite[i] else None for i in kept],
        'averages': averages(series) if len(kept) < len(values) else None,
        'not_finite': [int((~finite).sum()), series.steps[int(np.argmin(finite))]],
    }

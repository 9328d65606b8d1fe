"""Plots of a table, as SVG that is the same bytes for the same numbers."""

import io
from collections.abc import Sequence
from typing import Any

from vq_jax.tables.definition import Plot, Row
from vq_jax.tables.results import Results

_STYLE = {
    'svg.hashsalt': 'vq_jax',  # names of clips and markers are otherwise random
    'svg.fonttype': 'none',
    'text.parse_math': False,  # names may hold dollars
    'font.size': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.alpha': 0.3,
}
_MARKERS = 'osD^vP'


def points_of(plot: Plot, rows: Sequence[Row], results: Results) -> dict[str, list[tuple[float, float]]]:
    """The points (x, y) of each line, by its name, in the order of the rows; without rows not run."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        x, y = (_value(name, row, results) for name in (plot.x, plot.y))
        if x is not None and y is not None and (not plot.series or plot.series in row.facts):
            line = str(row.facts[plot.series]) if plot.series else row.title
            lines.setdefault(line, []).append((x, y))
    return lines


def draw(plot: Plot, lines: dict[str, list[tuple[float, float]]]) -> str:
    """The SVG of the lines of a plot."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout='constrained')
        axes = figure.subplots()
        for i, (name, points) in enumerate(lines.items()):
            axes.plot(*zip(*points, strict=True), marker=_MARKERS[i % len(_MARKERS)], label=name)
        for axis, logarithmic in ((axes.xaxis, plot.log_x), (axes.yaxis, plot.log_y)):
            if logarithmic:
                getattr(axes, f'set_{axis.axis_name}scale')('log')
                axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axis.set_major_formatter('{x:,g}')
                axis.set_minor_formatter(NullFormatter())
        counts = sorted({x for points in lines.values() for x, _ in points})
        if plot.log_x and all(float(x).is_integer() for x in counts):  # of codes, say: those that there are
            axes.set_xticks(counts)
            axes.xaxis.minorticks_off()
        axes.set(xlabel=plot.x, ylabel=plot.y)
        axes.legend(frameon=False, fontsize='small')
        file = io.StringIO()
        figure.savefig(file, format='svg', metadata={'Date': None, 'Creator': None})
    # Lines end in blanks, which tools that look after text files take away.
    return '\n'.join(line.rstrip() for line in file.getvalue().splitlines()) + '\n'


def _value(name: str, row: Row, results: Results) -> Any:
    if name in row.facts:
        return row.facts[name]
    return results.number(row, name) if name in row.metrics else None

"""Writes what is known of a table: Markdown, CSV and plots."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from vq_jax.tables.definition import Row, Table, read_table
from vq_jax.tables.plots import draw, points_of
from vq_jax.tables.results import Results
from vq_jax.training.run_dir import write_atomically


def write_table(folder: Path) -> None:
    """Writes `table.md`, `table.csv` and the plots of what was seen so far."""
    table = read_table(folder)
    results = Results(folder, table)
    cells = make_cells(table, results)
    file = io.StringIO()
    csv.writer(file, lineterminator='\n').writerows(cells)
    write_atomically(folder / 'table.csv', file.getvalue())
    heads, *lines = cells
    text = [f'# {table.title}', '', about(table), '']
    text += ['| ' + ' | '.join(line) + ' |' for line in (heads, ['---'] * len(heads), *lines)]
    plots = make_plots(table, results)
    for title, name, svg in plots:
        write_atomically(folder / name, svg)
        text += ['', f'![{title}]({name})']
    for path in folder.glob('plot_*.svg'):
        if path.name not in {name for _, name, _ in plots}:
            path.unlink()
    lacking = [row for row in table.rows if results.of(row) is None]
    if lacking:
        text += ['', 'Rows that were not run, and how to run them:', '', '```']
        text += [command(folder, row) for row in lacking]
        text += ['```']
    write_atomically(folder / 'table.md', '\n'.join(text) + '\n')


def about(table: Table) -> str:
    """The source and the remarks."""
    return f'{table.source}. {table.remarks}'.strip()


def command(folder: Path, row: Row) -> str:
    """What runs a row."""
    return f'python -m vq_jax.experiment {folder.as_posix()} --rows {row.name}'


def make_cells(table: Table, results: Results) -> list[list[str]]:
    """The heads of the columns, and the cells of each row."""
    columns = [f'{name}, {whose}' for name, whose in table.columns]
    heads = ['run', *columns, 'data', 'steps', 'hardware', 'commit']
    return [heads, *(_cells(row, table.columns, results) for row in table.rows)]


def make_plots(table: Table, results: Results) -> list[tuple[str, str, str]]:
    """Title, name of the file, and SVG of each plot that has a point."""
    plots = []
    for plot in table.plots:
        if lines := points_of(plot, table.rows, results):
            plots.append((f'{plot.y} against {plot.x}', f'plot_{plot.name}.svg', draw(plot, lines)))
    return plots


def _cells(row: Row, columns: Sequence[tuple[str, str]], results: Results) -> list[str]:
    cells, result = [row.title], results.of(row)
    for name, whose in columns:
        if whose == 'paper' or name not in row.numbers:
            cells.append(row.paper.get(name, '') if whose == 'paper' else '')
        elif result is None:
            cells.append('not run')
        else:
            number = result['numbers'][row.numbers[name]]
            cells.append('not measured' if number is None else f'{number:.4g}')
    if result is None:
        return cells + [''] * 4
    return [*cells, result['data'], f'{result["steps"]:,}', result['hardware'], result['commit']]

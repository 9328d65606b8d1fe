"""What is known of a table, and the files that are made of it: Markdown, CSV and plots."""

import csv
import dataclasses
import html
import io
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from vq_jax.files import write_atomically
from vq_jax.tables.definition import Row, read_table
from vq_jax.tables.plots import draw, points_of
from vq_jax.tables.results import Results


@dataclasses.dataclass(frozen=True)
class Figure:
    """A plot: what it shows, the name of its file, and the content of that."""

    title: str
    name: str
    svg: str


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is known of a table.

    Attributes:
        title: what it shows.
        about: its source, and what a reader must know.
        heads: of the columns.
        rows: what `cells` are of, in order.
        cells: of each row, as many as there are heads.
        figures: the plots that have a point.
        commands: what runs the rows that were not run.
    """

    title: str
    about: str
    heads: list[str]
    rows: tuple[Row, ...]
    cells: list[list[str]]
    figures: list[Figure]
    commands: list[str]


def summarize(folder: Path) -> Summary:
    """What is known of the table of a folder; raises `UserError` if there is none."""
    table = read_table(folder)
    results = Results(folder, table)
    drawn = [(plot, points_of(plot, table.rows, results)) for plot in table.plots]
    return Summary(
        title=table.title,
        about=f'{table.source}. {table.remarks}'.strip(),
        heads=['run', *map(', '.join, table.columns), 'data', 'steps', 'hardware', 'commit'],
        rows=table.rows,
        cells=[_cells(row, table.columns, results) for row in table.rows],
        figures=[
            Figure(f'{plot.y} against {plot.x}', f'plot_{plot.name}.svg', draw(plot, lines))
            for plot, lines in drawn
            if lines
        ],
        commands=[
            shlex.join(['python', '-m', 'vq_jax.experiment', folder.as_posix(), '--rows', row.name])
            for row in table.rows
            if results.of(row) is None
        ],
    )


def write_table(folder: Path) -> None:
    """Writes `table.md`, `table.csv` and the plots of what was seen so far, and `configs.json`."""
    Results(folder, read_table(folder)).keep_configs()
    known = summarize(folder)
    file = io.StringIO()
    csv.writer(file, lineterminator='\n').writerows(
        [map(_in_spreadsheet, row) for row in (known.heads, *known.cells)]
    )
    write_atomically(folder / 'table.csv', file.getvalue())
    text = [f'# {known.title}', '', known.about, '']
    lines = [known.heads, ['---'] * len(known.heads), *known.cells]
    text += ['| ' + ' | '.join(map(_in_table, line)) + ' |' for line in lines]
    for image in known.figures:
        write_atomically(folder / image.name, image.svg)
        text += ['', f'![{image.title}]({image.name})']
    for path in folder.glob('plot_*.svg'):
        if path.name not in {image.name for image in known.figures}:
            path.unlink()
    if known.commands:
        text += ['', 'Rows that were not run, and how to run them:', '', '```', *known.commands, '```']
    write_atomically(folder / 'table.md', '\n'.join(text) + '\n')


def _in_table(text: str) -> str:
    """A cell of a Markdown table, which a bar or the end of the line ends; without HTML, links and images."""
    shown = html.escape(' '.join(text.split()), quote=False)
    return re.sub(r'[|\[\]`]', lambda found: '\\' + found[0], shown)


def _in_spreadsheet(text: str) -> str:
    """A cell of a CSV file that no spreadsheet takes for a formula; numbers stay, signs included."""
    if not text.startswith(('=', '+', '-', '@', '\t', '\r')):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _cells(row: Row, columns: Sequence[tuple[str, str]], results: Results) -> list[str]:
    cells, result = [row.title], results.of(row)
    for name, whose in columns:
        if whose == 'paper' or name not in row.metrics:
            cells.append(row.paper.get(name, '') if whose == 'paper' else '')
        elif result is None:
            cells.append('not run')
        else:
            number = results.number(row, name)
            cells.append('not measured' if number is None else f'{number:.4g}')
    if result is None:
        return cells + [''] * 4
    commit, dash, dirty = result['commit'].partition('-')
    return [*cells, result['data'], f'{result["steps"]:,}', result['hardware'], commit[:7] + dash + dirty]

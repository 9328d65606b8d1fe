"""The part of a page that shows tables of experiments."""

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vq_jax.reporting.runs import RecordedRun
from vq_jax.reporting.safe import escape


@dataclasses.dataclass(frozen=True)
class RecordedTable:
    """What is known of a table.

    Attributes:
        title: what it shows.
        about: its source, and what a reader must know.
        heads: of the columns.
        cells: of each row, as many as there are heads.
        workdirs: of each row, where its run is if it has one.
        plots: title and SVG of each.
        commands: what runs the rows that were not run.
    """

    title: str
    about: str
    heads: list[str]
    cells: list[list[str]]
    workdirs: list[Path]
    plots: list[tuple[str, str]]
    commands: list[str]


def show_tables(tables: Sequence[RecordedTable], runs: Sequence[RecordedRun]) -> str:
    """A section of HTML for each table; rows whose run is on the page have its colour."""
    indices = {run.workdir: i for i, run in enumerate(runs)}
    return ''.join(
        _section(number, 'Table' if len(tables) == 1 else table.title, table, indices)
        for number, table in enumerate(tables)
    )


def _section(number: int, heading: str, table: RecordedTable, indices: dict[Path, int]) -> str:
    heads = ''.join(f'<th scope="col">{escape(head)}</th>' for head in table.heads)
    rows = ''.join(
        f'<tr><th scope="row">{_swatch(indices.get(workdir.resolve()))}{escape(cells[0])}</th>'
        + ''.join(f'<td class="{_class(cell)}">{escape(cell)}</td>' for cell in cells[1:])
        + '</tr>'
        for cells, workdir in zip(table.cells, table.workdirs, strict=True)
    )
    plots = ''.join(
        f'<figure><img src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}" '
        f'alt="{escape(title)}"><figcaption>{escape(title)}</figcaption></figure>'
        for title, svg in table.plots
    )
    commands = '\n'.join(table.commands)
    return (
        f'<section class="experiment" aria-labelledby="table-{number}">'
        f'<h2 id="table-{number}">{escape(heading)}</h2><p>{escape(table.about)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">'
        f'<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        + (f'<div class="plots">{plots}</div>' if plots else '')
        + (
            f'<details><summary>Rows that were not run ({len(table.commands)})</summary>'
            f'<pre><code>{escape(commands)}</code></pre></details>'
            if commands
            else ''
        )
        + '</section>'
    )


def _class(cell: str) -> str:
    return 'quiet' if cell in ('not run', 'not measured') else 'number'


def _swatch(index: int | None) -> str:
    return '' if index is None else f'<span class="swatch" data-colour="{index}"></span>'

"""Rows of a benchmark in several parts: written as they come, and shown as a table."""

import contextlib
import json
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

OURS = 'vq_jax'

_COLUMNS = (
    'what',
    'computes in',
    'by',
    'ms',
    'examples/s',
    'TFLOP/s',
    'of peak',
    'MiB',
    'speed, ours / theirs',
    'note',
)


class LeftOutError(Exception):
    """Why something was not measured that is no fault of what was to be measured."""


class Rows:
    """A file with a line of JSON for each row; of the rows of one thing, the last one counts.

    A row says `what` is measured, `by` whom, in which `dtype`, its `state` ('begun', 'ok', 'failed', 'left
    out'), with the `reason` of the last two, and figures, of which the table shows 'ms', 'examples_per_s',
    'tflops', 'share_of_peak', 'memory_mib', 'ratio' (median, least, most) and 'note'.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, what: str, by: str = OURS, dtype: str = '', state: str = 'ok', **figures: object) -> None:
        """Writes a row."""
        row = {'what': what, 'by': by, 'dtype': dtype, 'state': state, **figures}
        with open(self.path, 'a') as file:
            file.write(json.dumps(row) + '\n')

    @contextlib.contextmanager
    def trying(self, what: str, by: str = OURS, dtype: str = '') -> Iterator[None]:
        """Says that a row is begun, which whoever enters this adds, and makes a row of an error."""
        self.add(what, by, dtype, 'begun')
        with self.keeping_errors(what, by, dtype):
            yield

    @contextlib.contextmanager
    def keeping_errors(self, what: str, by: str = OURS, dtype: str = '') -> Iterator[None]:
        """Makes of an error a row with its reason, and goes on; the traceback is printed."""
        try:
            yield
        except LeftOutError as error:
            self.add(what, by, dtype, 'left out', reason=str(error))
        except Exception as error:
            traceback.print_exc()
            first = (str(error).splitlines() or [''])[0][:200]
            self.add(what, by, dtype, 'failed', reason=f'{type(error).__name__}: {first}')

    def give_up(self, what: str, reason: str) -> None:
        """Says of all rows that are begun that they failed, or else that all of `what` did."""
        begun = [row for row in self.read() if row['state'] == 'begun']
        for row in begun or [{'what': what, 'by': OURS, 'dtype': ''}]:
            self.add(row['what'], row['by'], row['dtype'], 'failed', reason=reason)

    def read(self) -> list[dict]:
        """The rows that count, in the order in which their things first came."""
        rows = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                row = json.loads(line)
                rows[row['what'], row['by'], row['dtype']] = row
        return list(rows.values())


def table(rows: Sequence[dict]) -> str:
    """Rows as a table in Markdown."""
    lines = [_COLUMNS, ('---',) * len(_COLUMNS), *map(_cells, rows)]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def failures(rows: Sequence[dict]) -> list[dict]:
    """The rows of what failed of ours."""
    return [row for row in rows if row['by'] == OURS and row['state'] == 'failed']


def share(left: float, weights: Sequence[float]) -> float:
    """The part of the time left for the first of several parts with such weights.

    What one part does not use, those after it share.
    """
    return left * weights[0] / sum(weights)


def _cells(row: dict) -> tuple[str, ...]:
    def number(name: str, form: str) -> str:
        return format(row[name], form) if row.get(name) is not None else ''

    ratio = '{:.2f} ({:.2f} to {:.2f})'.format(*row['ratio']) if 'ratio' in row else ''
    note = row.get('note', '')
    if row['state'] != 'ok':
        note = ': '.join(filter(None, (row['state'], row.get('reason'))))
    return (
        row['what'],
        row['dtype'],
        row['by'],
        number('ms', ',.2f'),
        number('examples_per_s', ',.1f'),
        number('tflops', ',.2f'),
        number('share_of_peak', '.3f') or ('unknown' if 'share_of_peak' in row else ''),
        number('memory_mib', ',d'),
        ratio,
        note.replace('|', '/'),
    )

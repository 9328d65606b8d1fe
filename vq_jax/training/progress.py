"""What the user sees of a run: a bar on a terminal, lines elsewhere."""

import datetime
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO, TypeVar

import jax
import rich.progress
from absl import logging
from rich.console import Console
from rich.table import Table

T = TypeVar('T')

_SILENCE = 60.0  # seconds after which a line says how far a run is, where there is no bar


def make_console(*, quiet: bool = False) -> Console:
    """A console that prints paths, names and labels as they are: nothing in them is markup.

    Where nothing more can be written, what runs goes on unseen.
    """
    return Console(file=_Unfailing(sys.stdout), quiet=quiet, highlight=False, markup=False, emoji=False)


class Progress:
    """Shows what a run does and how far it is, from the first second.

    On a terminal that is one line that changes, with a bar that moves with every step, and above it what
    stays true. Elsewhere everything is a line.

    Attributes:
        console: where it is shown; a quiet one in all processes but the first.
    """

    def __init__(self, *, active: bool = True) -> None:
        self.console = make_console(quiet=not active)
        self._steps = 0
        self._done: set[str] = set()  # lines of what is being done that were shown
        self._held: dict[str, str | None] = {}  # what is wrong, by the split whose metrics say so
        self._last_line = time.monotonic()
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn('{task.description}', markup=False),
            rich.progress.BarColumn(),
            rich.progress.TextColumn('{task.fields[position]}', markup=False),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn('{task.fields[metrics]}', markup=False),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task('starting', total=None, position='', metrics='')

    def __enter__(self) -> 'Progress':
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def doing(self, what: str) -> None:
        """Shows what is being done now, such as 'reading the data'."""
        self._bar.update(self._task, description=what)
        if not self.console.is_terminal and what not in self._done:
            self._done.add(what)
            self.line(what)

    def line(self, text: str) -> None:
        """Shows a line that stays."""
        self._last_line = time.monotonic()
        self.console.print(text, soft_wrap=True)

    def begin(self, step: int, steps: int) -> None:
        """Shows how far a run is before its first step in this process."""
        self._steps = steps
        self._bar.update(self._task, total=steps, completed=step, position=f'{step}/{steps}')

    def step(self, step: int) -> None:
        """Moves the bar to a step that was handed to the devices."""
        self._bar.update(self._task, description='training', completed=step, position=f'{step}/{self._steps}')
        if not self.console.is_terminal and time.monotonic() - self._last_line > _SILENCE:
            self.line(f'step {step}/{self._steps}')

    def update(self, step: int, values: Mapping[str, float], speed: Mapping[str, float]) -> None:
        """Shows the loss of a step that was logged, and the speed, as far as it is known."""
        shown = [f'loss {values["loss"]:.4g}']
        if 'examples_per_second' in speed:
            shown.append(f'{speed["examples_per_second"]:.0f} examples/s')
        if 'peak_memory_gib' in speed:
            shown.append(f'{speed["peak_memory_gib"]:.1f} GiB at most')
        text = '  '.join(shown)
        self._bar.update(self._task, metrics=text)
        if not self.console.is_terminal:
            left = round((self._steps - step) * speed.get('seconds_per_step', 0.0))
            more = f'  {datetime.timedelta(seconds=left)} left' if left else ''
            self.line(f'step {step}/{self._steps}  {text}{more}')

    def warn(self, step: int, split: str, warning: str | None) -> None:
        """Shows a warning of the metrics of a split, once for as long as it holds; None ends it."""
        # After the first colon stand numbers, which change from one step to the next.
        held = warning and warning.partition(':')[0]
        if held and held != self._held.get(split):
            self.line(f'step {step}/{self._steps}  warning: {warning}')
        self._held[split] = held

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows what an evaluation found, in one line."""
        text = '  '.join(f'{name} {value:.4g}' for name, value in metrics.items())
        self.line(f'step {step}/{self._steps}  eval: {text}')


class _Unfailing:
    """A stream that is given up when it cannot be written: its disk may be full, or its reader gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        # What the stream still holds goes there too, or Python would fail at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        logging.warning('the output cannot be written (%s); the run goes on.', error.strerror or error)


def peak_memory() -> dict[str, float]:
    """'peak_memory_gib', the most that was in use of a device's memory, where the device tells it."""
    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get('peak_bytes_in_use')
    return {} if peak is None else {'peak_memory_gib': peak / 2**30}


def track(items: Sequence[T], what: str, *, shown: bool = True) -> Iterator[T]:
    """Goes through items, with a bar on a terminal, and a line at the end of each tenth elsewhere."""
    console = make_console(quiet=not shown)
    columns = (
        rich.progress.TextColumn('{task.description} {task.completed:.0f}/{task.total:.0f}', markup=False),
        rich.progress.SpinnerColumn(),
        rich.progress.BarColumn(),
        rich.progress.TimeElapsedColumn(),
    )
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=len(items))
        for done, item in enumerate(items, 1):
            yield item
            bar.advance(task)
            tenth = max(1, len(items) // 10)
            if not console.is_terminal and (done % tenth == 0 or done == len(items)):
                console.print(f'{what} {done}/{len(items)}')


def print_table(console: Console, title: str, metrics: Mapping[str, float]) -> None:
    """Prints metrics as a table, under a title that keeps its line however narrow they are."""
    _print_rows(console, title, ('metric', 'value'), metrics.items())


def print_curves(
    console: Console, title: str, along: str, at: Sequence[int], curves: Mapping[str, Sequence[float]]
) -> None:
    """Prints curves side by side as a table, with a row for their means first.

    Args:
        console: where.
        title: as for `print_table`.
        along: what the numbers `at` count.
        at: of each row.
        curves: values of each row, by name.
    """
    means = ('mean', *(sum(curve) / len(curve) for curve in curves.values()))
    _print_rows(console, title, (along, *curves), [means, *zip(at, *curves.values(), strict=True)])


def _print_rows(
    console: Console, title: str, heads: Sequence[str], rows: Iterable[Sequence[str | float]]
) -> None:
    """Rows whose first cell is a text or a number, and the others numbers."""
    console.print(title, soft_wrap=True)
    table = Table(*heads)
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f'{value:,}' if isinstance(value, int) else f'{value:.6g}'

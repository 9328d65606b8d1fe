"""What the user sees of a run: a bar on a terminal, lines elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import rich.progress
from rich.console import Console
from rich.table import Table

T = TypeVar('T')


def make_console(*, quiet: bool = False) -> Console:
    """A console that prints paths, names and labels as they are: nothing in them is markup."""
    return Console(quiet=quiet, highlight=False, markup=False, emoji=False)


class Progress:
    """Shows how far a run is.

    Attributes:
        console: where it is shown; a quiet one in all processes but the first.
    """

    def __init__(self, start: int, steps: int, *, active: bool = True) -> None:
        self.console = make_console(quiet=not active)
        self._steps = steps
        self._held: dict[str, str | None] = {}  # what is wrong, by the split whose numbers say so
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn('step {task.completed:.0f}/{task.total:.0f}'),
            rich.progress.BarColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn('{task.fields[numbers]}', markup=False),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task('', total=steps, completed=start, numbers='')

    def __enter__(self) -> 'Progress':
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def update(self, step: int, values: Mapping[str, float], speed: Mapping[str, float]) -> None:
        """Shows the loss and the speed of a step that was logged."""
        text = f'loss {values["loss"]:.4g}  {speed["images_per_second"]:.0f} images/s'
        self._bar.update(self._task, completed=step, numbers=text)
        if not self.console.is_terminal:
            self.console.print(f'step {step}/{self._steps}  {text}')

    def warn(self, step: int, split: str, warning: str | None) -> None:
        """Shows a warning of the numbers of a split, once for as long as it holds; None ends it."""
        # After the first colon stand numbers, which change from one step to the next.
        held = warning and warning.partition(':')[0]
        if held and held != self._held.get(split):
            self.console.print(f'step {step}/{self._steps}  warning: {warning}', soft_wrap=True)
        self._held[split] = held

    def evaluated(self, step: int, numbers: Mapping[str, float]) -> None:
        """Shows what an evaluation found, in one line."""
        text = '  '.join(f'{name} {value:.4g}' for name, value in numbers.items())
        self.console.print(f'step {step}/{self._steps}  eval: {text}', soft_wrap=True)


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


def print_table(console: Console, title: str, numbers: Mapping[str, float]) -> None:
    """Prints named numbers as a table."""
    table = Table('metric', 'value', title=title, title_justify='left')
    for name, value in numbers.items():
        table.add_row(name, f'{value:,}' if isinstance(value, int) else f'{value:.6g}')
    console.print(table)

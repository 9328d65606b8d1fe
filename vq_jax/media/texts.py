"""Texts for people, one after the other."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Protocol

from vq_jax.errors import printable


class TextLog(Protocol):
    """A log that keeps texts."""

    def text(self, step: int, name: str, text: str) -> None:
        """Keeps a text."""


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts to read.

    Attributes:
        folder: where their files lie in a run directory.
        rows: what each batch of texts shows, and its texts, one for each column.
        columns: what each column is of; empty if nothing is said.
    """

    folder: ClassVar[str] = 'texts'

    rows: tuple[tuple[str, tuple[str, ...]], ...]
    columns: tuple[str, ...] = ()

    def of_columns(self, names: Sequence[str]) -> 'Texts':
        """The texts with names of their columns, if there are as many and nothing is said of them yet."""
        fit = not self.columns and all(len(texts) == len(names) for _, texts in self.rows)
        return dataclasses.replace(self, columns=tuple(names)) if fit else self

    def joined(self) -> str:
        """All texts, each below a line that says what it is; what a terminal would obey is written out."""
        parts = []
        for shown, texts in self.rows:
            for i, text in enumerate(texts):
                of = f', {printable(self.columns[i])}' if self.columns else ''
                parts.append(f'--- {printable(shown)} {i + 1}{of} ---\n{readable(text)}\n')
        return '\n'.join(parts)

    def files(self, name: str) -> dict[str, bytes]:
        """The content of a text file in UTF-8, by its name."""
        return {f'{name}.txt': self.joined().encode()}

    def log(self, log: TextLog, step: int, name: str) -> None:
        """Has a log keep the texts of a step."""
        log.text(step, name, self.joined())


def readable(text: str) -> str:
    """A text whose characters every terminal shows and none obeys, with escapes as Python writes them."""
    return ''.join(c if c.isprintable() or c in '\n\t' else repr(c)[1:-1] for c in text)

"""What every place that pictures come from has in common."""

from collections.abc import Sequence
from typing import Protocol


class Source(Protocol):
    """Examples in a fixed order, still encoded; pickled into worker processes.

    Attributes:
      name: What to call the data set and split in messages.
      class_names: Names of the classes, in the order of the labels; empty if there are no labels.
      channels: 1 or 3, what the pictures have by themselves.
      shape: Height and width of every picture, where the data set declares it, else None.
      use_orientation: Whether pictures are turned as their EXIF orientation says.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    shape: tuple[int, int] | None
    use_orientation: bool

    def __len__(self) -> int:
        """Returns the number of examples."""
        ...

    def read(self, indices: Sequence[int]) -> list[tuple[bytes | Exception, int]]:
        """Returns the encoded picture, or why it cannot be read, and the label of each index.

        A source without labels gives 0 for each. What cannot be read is an `OSError` or a `UserError`.
        """
        ...

    def describe(self, index: int) -> str:
        """Returns what a person needs to find the example: a path, or a record number."""
        ...


def plural(number: int, noun: str) -> str:
    """Returns for example '1 picture' or '1,234 pictures'."""
    return f'{number:,} {noun}' + ('' if number == 1 else 's')

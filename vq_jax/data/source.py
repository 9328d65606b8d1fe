"""What every place that images come from has in common."""

import re
from collections.abc import Collection, Sequence
from typing import Protocol

# Names that one split goes by.
SPLIT_NAMES = (('train', 'training'), ('validation', 'val', 'valid', 'dev'), ('test', 'testing'))


class Source(Protocol):
    """Examples in a fixed order, still encoded; pickled into worker processes.

    Attributes:
      name: What to call the data set and split in messages.
      class_names: Names of the classes, in the order of the labels; empty if there are no labels.
      channels: 1 or 3, what the images have by themselves.
      shape: Height and width of every image, where the data set declares it, else None.
      use_orientation: Whether images are turned as their EXIF orientation says.
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
        """Returns the encoded image, or why it cannot be read, and the label of each index.

        A source without labels gives 0 for each. For what cannot be read there is the error that says why.
        """
        ...

    def describe(self, index: int) -> str:
        """Returns what a person needs to find the example: a path, or a record number."""
        ...


def plural(number: int, noun: str) -> str:
    """Returns for example '1 image' or '1,234 images'."""
    return f'{number:,} {noun}' + ('' if number == 1 else 's')


def known_split(split: str, known: Collection[str]) -> str:
    """Returns a split by the names that a data set has for its parts.

    Args:
      split: In the syntax of tensorflow-datasets, such as 'validation[:90%]'.
      known: Names of the splits there are, such as 'train' and 'val'.

    Returns:
      The same where all names are known, or have no other in `SPLIT_NAMES` that is; here 'val[:90%]'.
    """

    def by_known_name(found: re.Match) -> str:
        name = found[0]
        for names in SPLIT_NAMES:
            if name in names and name not in known:
                return next((other for other in names if other in known), name)
        return name

    return re.sub(r'[A-Za-z_]\w*', by_known_name, split)

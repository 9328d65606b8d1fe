"""What all sources of data have in common."""

import dataclasses
import re
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np

from vq_jax.spec import Kind

# Names that one split goes by.
SPLIT_NAMES = (('train', 'training'), ('validation', 'val', 'valid', 'dev'), ('test', 'testing'))


@dataclasses.dataclass
class Examples:
    """What the pipeline is given of a data set at a time, before augmentation.

    Attributes:
      values: [b ...] as the `spec` of the data set says, or, before a random crop, a list of b arrays of
        their own sizes; anything where an example is undecodable.
      labels: int32 [b].
      good: bool [b], False where the example is undecodable.
    """

    values: np.ndarray | list[np.ndarray | None]
    labels: np.ndarray
    good: np.ndarray


class Source(Protocol):
    """Examples in a fixed order, still encoded; pickled into worker processes.

    Attributes:
      name: What to call the data set and split in messages.
      class_names: Names of the classes, in the order of the labels; empty if there are no labels.
      kind: What all examples are.
      shape: Of every example as the data set declares it, `(*grid, channels)`; a size of the grid that it
        does not declare is None.
      rate: See `Spec`; None where the data set does not declare it.
      use_orientation: Whether images are turned as their EXIF orientation says.
    """

    name: str
    class_names: tuple[str, ...]
    kind: Kind
    shape: tuple[int | None, ...]
    rate: float | None
    use_orientation: bool

    def __len__(self) -> int:
        """Returns the number of examples."""

    def read(self, indices: Sequence[int]) -> list[tuple[Any, int]]:
        """Returns what is stored of each example, for its `Transform` to decode, and its label.

        A source without labels gives 0 for each. For what cannot be read there is the `Exception` that says
        why.
        """

    def describe(self, index: int) -> str:
        """Returns what a person needs to find the example: a path, or a record number."""


def known_split(split: str, known: Collection[str]) -> str:
    """Returns a split, in the syntax of tensorflow-datasets, by the names that a data set has for its parts.

    With the known names 'train' and 'val', 'validation[:90%]' is 'val[:90%]'. A name that has no known other
    in `SPLIT_NAMES` stays.
    """

    def by_known_name(found: re.Match) -> str:
        name = found[0]
        for names in SPLIT_NAMES:
            if name in names and name not in known:
                return next((other for other in names if other in known), name)
        return name

    return re.sub(r'[A-Za-z_]\w*', by_known_name, split)

"""What all sources of data have in common."""

import abc
import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from vq_jax.errors import UserError
from vq_jax.spec import ConditionSpec, Kind, Tokens

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
      conditions: [b ...] by their names, as the source says.
    """

    values: np.ndarray | list[np.ndarray | None]
    labels: np.ndarray
    good: np.ndarray
    conditions: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Record(NamedTuple):
    """What a source stores of an example.

    Attributes:
      stored: The example, for its `Transform` to decode: of an image, the content of a file or uint8 [h w c];
        of sound, that or the path of one, or integers of 16 bits [n c] and their rate; of video the path or
        the content of a file, the path of a folder of frames, the contents of files of them, or uint8
        [t h w c]; of text a `str`, or, where `shape` says its length, the array of its tokens. Where it
        cannot be read, the `Exception` that says why.
      label: Number of its class; 0 without labels.
      conditions: Arrays by their names, as `Source.conditions` says; of an example that cannot be read, none.
      captions: Texts that say what it shows, where the source is `captioned`.
    """

    stored: Any
    label: int = 0
    conditions: Mapping[str, Any] = MappingProxyType({})
    captions: Sequence[str] = ()


class Source(abc.ABC):
    """Examples in a fixed order, still encoded; pickled into worker processes.

    Attributes:
      name: What to call the data set and split in messages.
      class_names: Names of the classes, in the order of the labels; empty if there are no labels.
      conditions: What else there is of each example, by the names that it has in batches, such as
        `{'angle': ConditionSpec(())}`.
      captioned: Whether records have captions, of which the data set makes the condition `text`; they may
        be left out where the config has no `caption_length`.
      kind: What all examples are.
      shape: Of every example as the data set declares it, `(*grid, channels)`; a size of the grid that it
        does not declare is None.
      rate: See `Spec`; None where the data set does not declare it.
      tokens: See `Spec`.
      use_orientation: Whether images are turned as their EXIF orientation says.
    """

    name: str
    class_names: tuple[str, ...] = ()
    conditions: Mapping[str, ConditionSpec] = MappingProxyType({})
    captioned: bool = False
    kind: Kind
    shape: tuple[int | None, ...]
    rate: float | None = None
    tokens: Tokens | None = None
    use_orientation: bool = False

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of examples."""

    @abc.abstractmethod
    def read(self, indices: Sequence[int]) -> list[Record]:
        """Returns what is stored of each example."""

    def describe(self, index: int) -> str:
        """Returns what a person needs to find the example: a path, or a record number."""
        return f'{self.name} example {index}'


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


def parts_of(split: str, sizes: Mapping[str, int]) -> list[tuple[str, range]]:
    """Returns the stretches of a data set's parts that a split is, in the syntax of tensorflow-datasets.

    With a part 'train' of 100 examples, 'train[90%:]' is `[('train', range(90, 100))]`.

    Args:
      split: As in a config.
      sizes: How many examples each part has, by its name.

    Raises:
      UserError: If it is none of them.
    """
    import tensorflow_datasets as tfds  # takes half a second

    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0)
        for name, size in sizes.items()
    }
    try:
        parts = tfds.core.ReadInstruction.from_spec(known_split(split, sizes)).to_absolute(infos)
    except (ValueError, NotImplementedError) as error:  # the latter of a part of 'all'
        raise UserError(
            f'there is no split {split!r}; the data set has {", ".join(sizes)}, and parts of these such as '
            "'train[90%:]'."
        ) from error
    return [(part.splitname, range(sizes[part.splitname])[part.from_ : part.to]) for part in parts]

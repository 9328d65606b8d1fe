"""What the transforms of all kinds of data have in common."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from vq_jax.data.config import DataConfig
from vq_jax.errors import UserError
from vq_jax.spec import Spec


class Undecodable(Exception):
    """Stored data that cannot be turned into an example; the message says why."""


@dataclasses.dataclass(frozen=True)
class Around:
    """A stretch of an example that training cuts a crop out of.

    Attributes:
      values: [n ...].
      first: Where in it the example begins that evaluation sees; it may end before the example does.
    """

    values: np.ndarray
    first: int

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.values.nbytes


class Transform:
    """Turns what a source stores into examples of one `Spec`.

    This base class leaves examples as they are; those of kinds of data are made of a config and a source,
    and have a `spec` as soon as these tell it. A transform is pickled into worker processes.

    Attributes:
      noun: What an example is called in messages.
      keys: The keys of `DataConfig` that are read for this kind of data, and not for every kind.
      suffixes: How the names of files of this kind end, in lower case.
      file_shape: Of what is in such files, with None for a size of the grid.
      by_path: Whether it is given the paths of files, to read what it needs of them, and not their content.
      spec: Of the examples; None as long as it has to be measured on one of them.
      varied: Whether decoded examples may be larger than `spec` says, each by itself, and are cut by
        `augment` and `centre`.
      uniforms: How many uniform random numbers `augment` takes for an example; 0 where it changes nothing.
      seeks: Whether `decode` reads no more of an example than a stretch, which in training begins at a random
        position, so that it is not the same at every visit. The position is the first of these numbers.
    """

    noun: str = 'example'
    keys: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = ()
    file_shape: ClassVar[tuple[int | None, ...]] = ()
    by_path: ClassVar[bool] = False
    spec: Spec | None = None
    varied: bool = False
    uniforms: int = 0
    seeks: bool = False

    def measure(self, stored: Any, name: str) -> Spec:
        """Returns the spec of a data set with this example; arguments and `Undecodable` as for `decode`."""
        raise NotImplementedError

    def decode(
        self, stored: Any, name: str, told: list[str] | None = None, position: float | None = None
    ) -> Any:
        """Does everything that is the same at every visit of an example, so that the result can be kept.

        Args:
          stored: As `Source.read` returns it.
          name: What to call the example in messages.
          told: Gets what a person should know of an example that can be decoded, such as 'silent'.
          position: Where a stretch that it `seeks` begins, a number in [0, 1) among all possible positions;
            None is the middle.

        Returns:
          An array as `spec` says; where `varied`, a larger one or something else that `augment` and `centre`
          cut it out of, and that says how many bytes it has (`nbytes`).

        Raises:
          Undecodable: If it cannot be decoded.
          UserError: If it is not of the size of the others, and nothing brings it to that.
        """
        raise NotImplementedError

    def augment(self, values: Any, uniforms: np.ndarray) -> np.ndarray:
        """Changes examples at random, for training: to [b ...] as `spec` says.

        Args:
          values: b decoded examples, which this function may change.
          uniforms: Random numbers in [0, 1) [b k], with k the attribute `uniforms`.
        """
        return np.asarray(values)

    def centre(self, value: Any) -> np.ndarray:
        """Returns what evaluation sees of a decoded example: the middle, where `varied`."""
        return window(value, self.spec.grid) if self.varied else value

    @staticmethod
    def prepare(
        file: Any, mask: Any, spec: Spec, config: DataConfig, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns an example that a user gives, and a mask of it, as a model takes them (see `Run.prepare`).

        Args:
          file: A path, the content of a file, or an array.
          mask: The same, or None.
          spec: Of what the model takes.
          config: Says how its data were preprocessed.
          whole: Leave its size or length as it is.

        Raises:
          UserError: If they cannot be read, or be brought to the spec.
        """
        raise UserError(f'no files of {spec.plural} are read; give arrays, {spec}.')


def window(value: np.ndarray, sizes: Sequence[int], position: Sequence[float] | None = None) -> np.ndarray:
    """Cuts a window out of an array [*grid c] that is as large or larger: a view of shape [*sizes c].

    Its position is, for each axis, a number in [0, 1) among all possible ones; None is the centre.
    """
    free = [length - size for length, size in zip(value.shape[:-1], sizes, strict=True)]
    if position is None:
        starts = [room // 2 for room in free]
    else:
        starts = [int(share * (room + 1)) for share, room in zip(position, free, strict=True)]
    return value[tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))]

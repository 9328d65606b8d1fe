"""A data set as the pipeline sees it: preprocessed images and labels by index."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from absl import logging
from PIL import Image

from vq_jax.data import preprocess
from vq_jax.data.config import DataConfig
from vq_jax.data.source import Source, plural
from vq_jax.errors import UserError
from vq_jax.spec import Spec

_PROBES = 16  # images looked at to estimate how much memory all need


class Dataset:
    """One split of a data set.

    Attributes:
      config: What was asked for.
      name: Data set and split, for messages.
      class_names: Names of the classes in the order of the labels; empty if there are no labels.
      num_classes: Their number; 0 if there are no labels.
      spec: What every example of a batch is.
      cached: Whether images are kept in memory once they are decoded.
      key: What the examples are called in a batch.
      item_shape: The shape of an example there.
      item_dtype: Its type.
    """

    key: ClassVar[str] = 'x'

    def __init__(self, config: DataConfig, source: Source) -> None:
        """Looks at the first images of a source.

        Args:
          config: Says how images are preprocessed, and when they are kept in memory.
          source: Where they come from; at least one example.

        Raises:
          UserError: If none of them can be decoded.
        """
        self.config = config
        self.name = source.name
        self.class_names = tuple(source.class_names)
        self.num_classes = len(self.class_names)
        self._source = source
        self._channels = config.channels or source.channels
        self._faults: dict[int, str] = {}
        self._reported: set[int] = set()
        share = config.max_undecodable
        self._tolerated = max(1, int(share * len(self))) if share else 0
        self.spec = Spec('image', self._find_shape())
        self._kept = _Kept(self) if self._bytes() <= config.cache_gib * 2**30 else None

    def __len__(self) -> int:
        """Returns the number of examples, undecodable ones included."""
        return len(self._source)

    def __repr__(self) -> str:
        """Says what this is."""
        return f'Dataset({self.name}, {len(self):,} examples of {self.spec.shape})'

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the images behind when the data set is sent to a worker process."""
        return {**self.__dict__, '_kept': None}

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of what a batch has of every example."""
        return self.spec.shape

    @property
    def item_dtype(self) -> type[np.generic]:
        """Its type."""
        return self.spec.dtype

    @property
    def cached(self) -> bool:
        """Whether images are kept in memory once they are decoded."""
        return self._kept is not None

    def fetch(self, indices: np.ndarray) -> 'Examples':
        """Returns examples as far as their preprocessing is the same at every visit.

        Args:
          indices: int [b], each from 0 to the length of the data set.

        Raises:
          UserError: If an image has another size than the rest, or a label is out of range.
        """
        if self._kept is not None:
            return self._kept.fetch(indices)
        images, labels = self.decode(indices)
        good = np.array([image is not None for image in images], bool)
        if not self.config.random_crop:
            blank = np.zeros(self.spec.shape, self.spec.dtype)
            images = np.stack([blank if image is None else image for image in images])
        return Examples(images, labels, good)

    def decode(self, indices: Sequence[int]) -> tuple[list[np.ndarray | None], np.ndarray]:
        """Reads and decodes examples.

        Args:
          indices: int [b].

        Returns:
          uint8 [h w c] for each, larger than `spec` says if a random crop is still to be cut out,
          or None where the image is undecodable; and the labels, int32 [b].

        Raises:
          UserError: If an image has another size than the rest, or a label is out of range.
        """
        images: list[np.ndarray | None] = []
        labels = np.zeros(len(indices), np.int32)
        for row, (data, label) in enumerate(self._source.read(indices)):
            index = int(indices[row])
            if self.num_classes and not 0 <= label < self.num_classes:
                raise UserError(
                    f'{self._source.describe(index)} has label {label}, but the labels of '
                    f'{self.num_classes} classes go from 0 to {self.num_classes - 1}: repair the '
                    'data set.'
                )
            labels[row] = label
            images.append(self._image(index, data))
        return images, labels

    def _image(self, index: int, data: bytes | Exception) -> np.ndarray | None:
        """Decodes one image; notes it and returns None if that cannot be done."""
        config = self.config
        try:
            array = preprocess.arrange(self._decoded(index, data), config)
        except preprocess.Undecodable as error:
            self._faults[index] = str(error)
            return None
        if config.image_size is None:
            if array.shape != self.spec.shape:
                raise UserError(
                    f'{self._source.describe(index)} is {_size(array.shape)} pixels, not '
                    f'{_size(self.spec.shape)} as the others: set config.data.image_size to bring all '
                    'images to one size.'
                )
        elif not config.random_crop:
            array = preprocess.window(array, config.image_size)
        return array

    def _decoded(self, index: int, data: bytes | Exception) -> Image.Image:
        """Decodes the content of a file, or raises `Undecodable` if that cannot be done or there is none."""
        if isinstance(data, Exception):
            raise preprocess.Undecodable(getattr(data, 'strerror', None) or str(data))
        source = self._source
        return preprocess.decode(data, self._channels, source.use_orientation, source.describe(index))

    def _find_shape(self) -> tuple[int, int, int]:
        """Returns height, width and channels after preprocessing."""
        size, pad = self.config.image_size, 2 * self.config.pad
        if size is not None:
            return size, size, self._channels
        if self._source.shape is not None:
            height, width = self._source.shape
            return height + pad, width + pad, self._channels
        for index in range(len(self)):
            data, _ = self._source.read([index])[0]
            try:
                image = self._decoded(index, data)
            except preprocess.Undecodable as error:
                self.report({index: str(error)})
                continue
            return image.height + pad, image.width + pad, self._channels
        raise AssertionError('report stops before all are found undecodable')

    def _bytes(self) -> float:
        """Estimates how much memory the images need once they are decoded."""
        if not self.config.random_crop:
            return len(self) * float(np.prod(self.spec.shape))
        some = np.unique(np.linspace(0, len(self) - 1, _PROBES).astype(int))
        sizes = [image.nbytes for image in self.decode(some)[0] if image is not None]
        return len(self) * float(np.mean(sizes or [0]))

    def faults(self, indices: Sequence[int]) -> dict[int, str]:
        """Returns those of the examples that were found undecodable, and why."""
        return {int(i): self._faults[int(i)] for i in indices if int(i) in self._faults}

    @property
    def tolerated(self) -> int:
        """How many undecodable images do not stop a run."""
        return self._tolerated

    def report(self, faults: Mapping[int, str]) -> None:
        """Counts undecodable images and names each in the log, once.

        Args:
          faults: Index and reason, as from `faults`, possibly of another process.

        Raises:
          UserError: If more were found than `max_undecodable` allows, or all are undecodable.
        """
        for index, reason in faults.items():
            if index not in self._reported:
                self._reported.add(index)
                logging.warning(
                    'skipping an undecodable image (%d of %s so far): %s (%s)',
                    len(self._reported),
                    plural(len(self), 'image'),
                    self._source.describe(index),
                    reason,
                )
        if len(self._reported) > self._tolerated or len(self._reported) == len(self):
            some = [self._source.describe(index) for index in sorted(self._reported)[:3]]
            raise UserError(
                f'{plural(len(self._reported), "image")} of {len(self):,} in {self.name} '
                f'cannot be decoded, for example {", ".join(some)}: repair or remove them, '
                f'or raise config.data.max_undecodable ({self.config.max_undecodable}).'
            )


class Examples:
    """Examples as `Dataset.fetch` returns them.

    Attributes:
      images: uint8 [b h w c], or before a random crop a list of b images uint8 [h w c]; anything
        where an image is undecodable.
      labels: int32 [b].
      good: bool [b], False where the image is undecodable.
    """

    def __init__(
        self,
        images: np.ndarray | list[np.ndarray | None],
        labels: np.ndarray,
        good: np.ndarray,
    ) -> None:
        self.images = images
        self.labels = labels
        self.good = good


class _Kept:
    """Decoded examples in memory, filled as they are asked for.

    Threads may fill the same row at once: they write the same bytes, and mark the row afterwards.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Reserves room for the whole set; the system provides it as it is filled."""
        number = len(dataset)
        self._dataset = dataset
        self._images: Any = (
            [None] * number  # images that still have to be cropped may differ in size
            if dataset.config.random_crop
            else np.zeros((number, *dataset.spec.shape), np.uint8)
        )
        self._labels = np.zeros(number, np.int32)
        self._known = np.zeros(number, bool)
        self._good = np.zeros(number, bool)

    def fetch(self, indices: np.ndarray) -> Examples:
        """Does what `Dataset.fetch` does."""
        unknown = np.unique(indices[~self._known[indices]])
        if len(unknown):
            images, labels = self._dataset.decode(unknown)
            self._labels[unknown] = labels
            for index, image in zip(unknown, images, strict=True):
                if image is not None:
                    self._images[index] = image
                    self._good[index] = True
            self._known[unknown] = True
        if isinstance(self._images, list):
            images = [self._images[index] for index in indices]
        else:
            images = self._images[indices]
        return Examples(images, self._labels[indices], self._good[indices])


def _size(shape: tuple[int, ...]) -> str:
    """Writes a height and width the way people do."""
    return f'{shape[1]}x{shape[0]}'

"""Recordings of another source as several examples each."""

from collections.abc import Sequence

import numpy as np

from vq_jax.data.config import DataConfig
from vq_jax.data.source import Record, Source
from vq_jax.data.transforms import Undecodable
from vq_jax.data.transforms.audio import Excerpt, count_excerpts


class ExcerptSource(Source):
    """The excerpts of `config.num_samples` of all recordings of a source, in their order.

    What is undecodable is one excerpt.
    """

    def __init__(self, source: Source, config: DataConfig) -> None:
        """Finds out how long each recording is, which takes reading what its file begins with."""
        self._source, self._num_samples = source, config.num_samples
        self.name, self.kind, self.shape, self.rate = source.name, source.kind, source.shape, source.rate
        self.class_names, self.conditions = source.class_names, source.conditions
        self.captioned = source.captioned
        numbers = [self._count(index, config) for index in range(len(source))]
        self._ends = np.cumsum(numbers)

    def _count(self, index: int, config: DataConfig) -> int:
        [record] = self._source.read([index])
        if isinstance(record.stored, Exception):
            return 1
        try:
            return count_excerpts(record.stored, config)
        except Undecodable:  # which is told when it is decoded
            return 1

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, indices: Sequence[int]) -> list[Record]:
        """Returns an `Excerpt` of each recording, in the place of all of it."""
        places = [self._place(index) for index in indices]
        records = self._source.read([recording for recording, _ in places])
        return [
            record
            if isinstance(record.stored, Exception)
            else record._replace(stored=Excerpt(record.stored, *place))
            for record, place in zip(records, places, strict=True)
        ]

    def _place(self, index: int) -> tuple[int, int]:
        """Returns the recording that an example is of, and the number of its excerpt."""
        recording = int(np.searchsorted(self._ends, index, side='right'))
        return recording, int(index) - int(self._ends[recording - 1] if recording else 0)

    def describe(self, index: int) -> str:
        """Returns what the source says of the recording, and where the excerpt begins."""
        recording, number = self._place(index)
        return f'{self._source.describe(recording)} from sample {number * self._num_samples:,}'

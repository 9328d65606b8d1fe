"""A data set as the pipeline sees it: preprocessed examples and labels by index."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from absl import logging

from vq_jax.data.captions import TEXT, Captions
from vq_jax.data.config import DataConfig
from vq_jax.data.source import Examples, Record, Source
from vq_jax.data.text_vectors import TextVectorFiles
from vq_jax.data.transforms import Undecodable, make_transform
from vq_jax.errors import UserError, plural
from vq_jax.spec import ConditionSpec, Spec, blank_conditions

_AT_ONCE = 64  # records, of which only the texts are looked at
_PROBES = 16  # examples decoded to estimate how much memory all need
# What else batches have, by names that no condition can have.
_RESERVED = ('x', 'codes', 'label', 'mask', 'faults', 'oddities', 'asked')


class Dataset:
    """One split of a data set.

    Attributes:
      config: What was asked for.
      name: Data set and split, for messages.
      class_names: Names of the classes in the order of the labels; empty if there are no labels.
      num_classes: Their number; 0 if there are no labels.
      conditions: What else batches have of each example, by name.
      spec: What every example of a batch is.
      transform: Decodes and augments examples.
      cached: Whether examples are kept in memory once they are decoded, but for what training `seeks`.
      tolerated: How many undecodable examples do not stop a run.
      key: What the examples are called in a batch.
      item_shape: The shape of an example there.
      item_dtype: Its type.
    """

    key: ClassVar[str] = 'x'

    def __init__(self, config: DataConfig, source: Source, captions: Captions | None = None) -> None:
        """Looks at the first examples of a source, which has one or more.

        Args:
          config: What was asked for.
          source: The examples.
          captions: Makes the condition `text` of those of the source; None leaves them out.

        Raises:
          UserError: If none of them can be decoded, or a key of the config is not for their kind.
        """
        self._describe(config, source.name, tuple(source.class_names), source.conditions)
        self._source = source
        if captions is not None:
            self._add(captions)
        share = config.max_undecodable
        self.tolerated = max(1, int(share * len(self))) if share else 0
        self.transform = make_transform(config, source)
        self.transform.spec = self.spec = self.transform.spec or self._measured()
        if captions is not None:
            self.spec = dataclasses.replace(self.spec, tokens=captions.tokenizer.tokens)
            self._add_vectors()
        self.item_shape, self.item_dtype = self.spec.shape, self.spec.dtype
        self._kept = _Kept(self) if self._bytes() <= config.cache_gib * 2**30 else None

    def _add(self, captions: Captions) -> None:
        """Has examples have the condition that is made of the captions of the source."""
        if not self._source.captioned or TEXT in self.conditions:
            found = 'a condition of that name' if TEXT in self.conditions else 'none'
            raise UserError(
                f'config.data.caption_length is set, of the condition {TEXT} that is made of captions, and '
                f'{self.name} has {found}; leave it out, or set config.data.name to a set with captions.'
            )
        self._captions = captions
        self.conditions[TEXT] = captions.spec

    def _add_vectors(self) -> None:
        """Has batches have the vectors of texts that the config names, if it names any."""
        if self.config.text_vectors is None:
            return
        vectors = TextVectorFiles(self.config.text_vectors)
        if TEXT not in self.conditions or (taken := vectors.conditions.keys() & self.conditions.keys()):
            found = f'{" and ".join(sorted(taken))} already' if TEXT in self.conditions else 'no texts'
            raise UserError(
                f'config.data.text_vectors names vectors of texts, and {self.name} has {found}; leave it out.'
            )
        self.conditions |= vectors.conditions
        self.spec = dataclasses.replace(self.spec, text_vectors=vectors.spec)
        self._vectors = vectors

    def _describe(
        self,
        config: DataConfig,
        name: str,
        class_names: tuple[str, ...],
        conditions: Mapping[str, ConditionSpec],
    ) -> None:
        """Says what is known before an example is read; none is known to be undecodable."""
        if taken := [key for key in conditions if key in _RESERVED]:
            raise UserError(
                f'{name} has conditions of the names {", ".join(taken)}, which batches have for something '
                'else; call them otherwise.'
            )
        self.conditions = dict(conditions)
        self._captions: Captions | None = None
        self._vectors: TextVectorFiles | None = None
        self.config, self.name = config, name
        self.class_names, self.num_classes = class_names, len(class_names)
        self.tolerated = 0
        self._faults: dict[int, str] = {}
        self._reported: set[int] = set()
        self._oddities: dict[int, str] = {}
        self._told: dict[str, set[int]] = {}

    def __len__(self) -> int:
        """Returns the number of examples, undecodable ones included."""
        return len(self._source)

    def __repr__(self) -> str:
        return f'Dataset({self.name}, {len(self):,} examples of {self.spec.shape})'

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the examples behind when the data set is sent to a worker process."""
        return {**self.__dict__, '_kept': None}

    @property
    def cached(self) -> bool:
        """Whether examples are kept in memory once they are decoded."""
        return self._kept is not None

    @property
    def captioned(self) -> bool:
        """Whether examples have captions, of which training takes one at random."""
        return self._captions is not None

    @property
    def fetched_conditions(self) -> dict[str, ConditionSpec]:
        """The conditions that `fetch` returns; `vectors_of` adds the others."""
        added = self._vectors.conditions if self._vectors else ()
        return {name: spec for name, spec in self.conditions.items() if name not in added}

    def vectors_of(self, conditions: Mapping[str, np.ndarray], good: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the conditions that are vectors of texts [b ...], of those that `fetch` returned.

        Raises:
          UserError: If a text of an example that is `good`, bool [b], has none.
        """
        return self._vectors.find(conditions[TEXT], good) if self._vectors else {}

    def texts(self) -> Iterator[np.ndarray]:
        """Yields the tokens of all captions of each example that has some, int32 [k m].

        Raises:
          UserError: If texts are not read.
        """
        if TEXT not in self.fetched_conditions:
            raise UserError(
                f'{self.name} has no texts; set config.data.caption_length to how many of their tokens are '
                'read.'
            )
        yield from self._texts()

    def _texts(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _AT_ONCE):
            indices = range(start, min(start + _AT_ONCE, len(self)))
            for index, record in zip(indices, self._source.read(indices), strict=True):
                with contextlib.suppress(Undecodable):
                    yield self._captions.tokens(record.captions, self._source.describe(index))

    def fetch(
        self,
        indices: np.ndarray,
        positions: np.ndarray | None = None,
        choices: np.ndarray | None = None,
    ) -> Examples:
        """Returns examples by their indices [b], as far as their preprocessing is the same at every visit.

        Args:
          indices: Which examples.
          positions: Of a transform that `seeks`, where training reads each [b]; None is the middle.
          choices: Of a set with captions, random numbers in [0, 1) by which training takes one of those of
            each example [b]; None is the first.

        Raises:
          UserError: If an example has another size than the rest, or a label is out of range.
        """
        if self._kept is not None and positions is None:
            examples = self._kept.fetch(indices)
        else:
            values, labels, conditions = self.decode(indices, positions)
            good = np.array([value is not None for value in values], bool)
            if not self.transform.varied:
                blank = np.zeros(self.spec.shape, self.spec.dtype)
                values = np.stack([blank if value is None else value for value in values])
            examples = Examples(values, labels, good, conditions)
        if self._captions is not None:
            examples.conditions[TEXT] = self._captions.choose(examples.conditions[TEXT], choices)
        return examples

    def blank(self, n: int) -> dict[str, np.ndarray]:
        """Returns room for the conditions of n examples, as `decode` returns them."""
        blank = blank_conditions(self.fetched_conditions, n)
        return blank if self._captions is None else {**blank, TEXT: np.full(n, None, object)}

    def decode(
        self, indices: Sequence[int], positions: np.ndarray | None = None
    ) -> tuple[list[np.ndarray | None], np.ndarray, dict[str, np.ndarray]]:
        """Reads and decodes examples by their indices [b], at positions as for `fetch`.

        Returns:
          What the transform makes of each, larger than `spec` says if a random crop is still to be cut out,
          or None where the example is undecodable; the labels, int32 [b]; and the conditions [b ...], that of
          captions as an array of objects, the tokens of all of an example [k m].

        Raises:
          UserError: If an example has another size than the rest, a label is out of range, or a condition is
            not as the source says.
        """
        values: list[np.ndarray | None] = []
        labels, conditions = np.zeros(len(indices), np.int32), self.blank(len(indices))
        for row, record in enumerate(self._source.read(indices)):
            index, label = int(indices[row]), record.label
            if self.num_classes and not 0 <= label < self.num_classes:
                raise UserError(
                    f'{self._source.describe(index)} has label {label}, but the labels of {self.num_classes} '
                    f'classes go from 0 to {self.num_classes - 1}: repair the data set.'
                )
            labels[row] = label
            told: list[str] = []
            position = None if positions is None else float(positions[row])
            try:
                stored, name = _readable(record), self._source.describe(index)
                if self._captions is not None:
                    conditions[TEXT][row] = self._captions.tokens(record.captions, name)
                values.append(self.transform.decode(stored, name, told, position))
                for key, spec in self._source.conditions.items():
                    what = f'the condition {key} of {name}'
                    conditions[key][row] = spec.array(record.conditions.get(key), what)
            except Undecodable as error:
                self._faults[index] = str(error)
                values.append(None)
            if told:
                self._oddities[index] = told[0]
        return values, labels, conditions

    def _measured(self) -> Spec:
        """Returns the spec that the first decodable example has."""
        for index in range(len(self)):
            [record] = self._source.read([index])
            try:
                return self.transform.measure(_readable(record), self._source.describe(index))
            except Undecodable as error:
                self.report({index: str(error)})
        raise AssertionError('report stops before all are found undecodable')

    def _bytes(self) -> float:
        """Estimates how much memory the examples need once they are decoded."""
        beside = sum(blank.nbytes for blank in blank_conditions(self.fetched_conditions, 1).values())
        if not self.transform.varied:
            return len(self) * (float(self.spec.size * np.dtype(self.spec.dtype).itemsize) + beside)
        some = np.unique(np.linspace(0, len(self) - 1, _PROBES).astype(int))
        sizes = [value.nbytes for value in self.decode(some)[0] if value is not None]
        return len(self) * (float(np.mean(sizes or [0])) + beside)

    def faults(self, indices: Sequence[int]) -> dict[int, str]:
        """Returns those of the examples that were found undecodable, and why."""
        return {int(i): self._faults[int(i)] for i in indices if int(i) in self._faults}

    def oddities(self, indices: Sequence[int]) -> dict[int, str]:
        """Returns those of the examples of which a person should know something, and what."""
        return {int(i): self._oddities[int(i)] for i in indices if int(i) in self._oddities}

    def tell(self, oddities: Mapping[int, str]) -> None:
        """Counts what `oddities` returns, and tells the count in the log as it comes to 1, 10, 100, ..."""
        for index, oddity in oddities.items():
            known = self._told.setdefault(oddity, set())
            if index not in known:
                known.add(index)
                if str(len(known)).strip('0') == '1':
                    number = plural(len(known), f'{oddity} {self.transform.noun}')
                    where = self._source.describe(index)
                    logging.warning('%s of %s so far: %s', number, f'{len(self):,}', where)

    def report(self, faults: Mapping[int, str]) -> None:
        """Counts undecodable examples, as from `faults`, and names each in the log, once.

        Raises:
          UserError: If more were found than `max_undecodable` allows, or all are undecodable.
        """
        noun = self.transform.noun
        for index, reason in faults.items():
            if index not in self._reported:
                self._reported.add(index)
                so_far = f'{len(self._reported)} of {plural(len(self), noun)} so far'
                where = self._source.describe(index)
                logging.warning('skipping an undecodable %s (%s): %s (%s)', noun, so_far, where, reason)
        if len(self._reported) > self.tolerated or len(self._reported) == len(self):
            some = [self._source.describe(index) for index in sorted(self._reported)[:3]]
            raise UserError(
                f'{plural(len(self._reported), noun)} of {len(self):,} in {self.name} cannot be decoded, for '
                f'example {", ".join(some)}: repair or remove them, or raise config.data.max_undecodable '
                f'({self.config.max_undecodable}).'
            )


def _readable(record: Record) -> Any:
    """Returns what is stored of an example; raises `Undecodable` where a source has an error instead."""
    stored = record.stored
    if isinstance(stored, Exception):
        raise Undecodable(getattr(stored, 'strerror', None) or str(stored))
    return stored


class _Kept:
    """Decoded examples in memory, filled as they are asked for.

    Threads may fill the same row at once: they write the same bytes, and mark the row afterwards.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Reserves room for the whole set; the system provides it as it is filled."""
        number = len(dataset)
        self._dataset = dataset
        self._values: Any = [None] * number  # what still has to be cropped may differ in size
        if not dataset.transform.varied:
            self._values = np.zeros((number, *dataset.spec.shape), dataset.spec.dtype)
        self._labels = np.zeros(number, np.int32)
        self._conditions = dataset.blank(number)
        self._known = np.zeros(number, bool)
        self._good = np.zeros(number, bool)

    def fetch(self, indices: np.ndarray) -> Examples:
        """Does what `Dataset.fetch` does."""
        unknown = np.unique(indices[~self._known[indices]])
        if len(unknown):
            values, labels, conditions = self._dataset.decode(unknown)
            self._labels[unknown] = labels
            for name, known in conditions.items():
                self._conditions[name][unknown] = known
            for index, value in zip(unknown, values, strict=True):
                if value is not None:
                    self._values[index] = value
                    self._good[index] = True
            self._known[unknown] = True
        varied = self._dataset.transform.varied
        values = [self._values[index] for index in indices] if varied else self._values[indices]
        conditions = {name: known[indices] for name, known in self._conditions.items()}
        return Examples(values, self._labels[indices], self._good[indices], conditions)

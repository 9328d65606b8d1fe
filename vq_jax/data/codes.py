"""Codes of a whole data set, written once: ArrayRecord files, and beside them what they are codes of.

A folder holds `codes.json` and, for each split, shards `SPLIT-00000-of-00004.array_record`. A shard has
its final name only when it is complete, so that what a kill leaves can be gone on with. A record is the
label and the codes of one picture, as little-endian unsigned integers.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np

from vq_jax.data.config import READING, DataConfig
from vq_jax.data.dataset import Pictures
from vq_jax.errors import UserError
from vq_jax.files import WriteError, write_atomically

PREFIX = 'codes:'  # of `DataConfig.name`
_FACTS = 'codes.json'
_FLAGS = {'shard_size': '--batch_size times --shard_batches'}  # what users know a fact by


@dataclasses.dataclass(frozen=True)
class CodeFacts:
    """What codes are of, and from.

    Attributes:
        tokenizer: the run that made them: 'workdir', 'step', 'checksum' and 'config'.
        data: the config of the pictures.
        image_shape: of the pictures [h w c].
        class_names: in the order of the labels; empty if there are none.
        num_codes: codes are from 0 to one less.
        grids: rows and columns of each level of codes, the coarsest first.
        splits: how many pictures each has.
        shard_size: pictures of a shard, the last of a split excepted.
    """

    tokenizer: dict[str, Any]
    data: dict[str, Any]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    num_codes: int
    grids: tuple[tuple[int, int], ...]
    splits: dict[str, int]
    shard_size: int

    @property
    def dtype(self) -> np.dtype:
        """What records are made of: the smallest type that holds labels and codes."""
        largest = max(self.num_codes, len(self.class_names), 1) - 1
        return np.min_scalar_type(largest).newbyteorder('<')

    @property
    def length(self) -> int:
        """How many codes a picture has."""
        return sum(math.prod(grid) for grid in self.grids)

    def shards(self, folder: Path, split: str) -> list[Path]:
        """Where the shards of a split are, or will be."""
        count = -(-self.splits[split] // self.shard_size)
        name = quote(split, safe='')
        return [folder / f'{name}-{i:05d}-of-{count:05d}.array_record' for i in range(count)]


def write_facts(folder: Path, facts: CodeFacts) -> None:
    """Writes `codes.json`; one that is there must say the same of all but the splits, which are added.

    Raises:
        UserError: if the folder has other codes, or a name that its files cannot have.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f'{str(folder)!r} is no text in UTF-8, and ArrayRecord takes no other path; give another folder.'
        ) from error
    record = dataclasses.asdict(facts)
    path = folder / _FACTS
    if path.exists():
        there = dataclasses.asdict(read_facts(folder))
        differing = [
            f'{_FLAGS[name]} ({there[name]:,} there, {record[name]:,} now)' if name in _FLAGS else name
            for name in record
            if _comparable(there, name) != _comparable(record, name)
        ]
        differing += [
            f'the split {split}'
            for split, size in record['splits'].items()
            if there['splits'].get(split, size) != size
        ]
        if differing:
            raise UserError(
                f'{folder} holds other codes, which differ in {", ".join(differing)}; give what they were '
                f'made with (see {path}), or another folder.'
            )
        record['splits'] = {**there['splits'], **record['splits']}
    write_atomically(path, json.dumps(record, indent=2) + '\n')


def _comparable(record: dict[str, Any], name: str) -> str:
    """What decides the codes in a part of a record, as text: splits are added, runs moved."""
    value = record[name]
    if name == 'splits':
        return ''
    if name == 'tokenizer':
        value = {key: value[key] for key in ('step', 'checksum')}
    if name == 'data':  # which splits are written is in 'splits'
        unlike = (*READING, 'train_split', 'eval_split')
        value = {key: part for key, part in value.items() if key not in unlike}
    return json.dumps(value)


def read_facts(folder: Path) -> CodeFacts:
    """Reads `codes.json`.

    Raises:
        UserError: if it is not there or cannot be read.
    """
    path = folder / _FACTS
    try:
        record = json.loads(path.read_text())
        return CodeFacts(
            **record
            | {
                'image_shape': tuple(record['image_shape']),
                'class_names': tuple(record['class_names']),
                'grids': tuple(map(tuple, record['grids'])),
            }
        )
    except FileNotFoundError as error:
        raise UserError(f'{folder} holds no codes; write them with vq_jax.tokenize.') from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} cannot be read ({error}); write the codes again.') from error


def write_shard(path: Path, facts: CodeFacts, examples: Iterable[tuple[int, np.ndarray]]) -> None:
    """Writes one shard; it has its name only when it is complete.

    Args:
        path: one of `CodeFacts.shards`.
        facts: of the folder.
        examples: label and codes int [n] of each picture.

    Raises:
        WriteError: it cannot be written; nothing is left of it.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    partial = path.with_suffix('.partial')
    try:
        partial.unlink(missing_ok=True)  # a link would be written through
        writer = ArrayRecordWriter(str(partial), 'group_size:1')
        for label, codes in examples:
            writer.write(np.concatenate([[label], codes]).astype(facts.dtype).tobytes())
        try:
            writer.close()
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # the latter is what the writer makes of the former
            raise WriteError(
                f'Cannot write {path} ({str(error).partition(";")[0]}); make room, and the same command goes '
                'on after the files that are complete.'
            ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


class CodeDataset:
    """One split of codes that were written once; to the batches it is like `Dataset`.

    Attributes:
        config: what was asked for.
        facts: what the codes are of.
        name: folder and split, for messages.
        item: the name of the codes in a batch.
        item_shape: of a picture's codes [n], the coarsest level first.
        item_dtype: int32.
        class_names: in the order of the labels.
        num_classes: their number.
        image_shape: of the pictures [h w c].
        cached: whether all codes are kept in memory.
    """

    item: ClassVar[str] = 'codes'
    item_dtype: ClassVar[type] = np.int32

    def __init__(self, config: DataConfig, split: str) -> None:
        """Opens a split.

        Raises:
            UserError: if it is not there, or not complete, or pictures are asked for.
        """
        if config.random_crop or config.flip:
            raise UserError(
                'random crops and flips need pictures, and codes were written without them; set '
                'config.data.random_crop and config.data.flip to false, or config.data.name to pictures.'
            )
        folder = Path(config.name.removeprefix(PREFIX)).expanduser()
        self.config = config
        self.facts = facts = read_facts(folder)
        self.name = f'{folder} ({split})'
        self.item_shape = (facts.length,)
        self.class_names = facts.class_names
        self.num_classes = len(facts.class_names)
        self.image_shape = facts.image_shape
        if split not in facts.splits:
            raise UserError(
                f'{folder} has no codes of the split {split!r}; set {config.split_key(split)} to one of '
                f'{", ".join(facts.splits)}.'
            )
        shards = facts.shards(folder, split)
        lacking = sum(not shard.exists() for shard in shards)
        if lacking:
            raise UserError(
                f'{lacking} of {len(shards)} files of the split {split!r} are not in {folder} yet; run '
                'vq_jax.tokenize again, which goes on where it was.'
            )
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self._source = ArrayRecordDataSource([str(shard) for shard in shards])
        record = (facts.length + 1) * facts.dtype.itemsize
        self._kept = None
        if len(self) * record <= config.cache_gib * 2**30:
            self._kept = self._read(range(len(self)))

    def __len__(self) -> int:
        """How many pictures."""
        return len(self._source)

    def __repr__(self) -> str:
        """Says what this is."""
        return f'CodeDataset({self.name}, {len(self):,} examples of {self.facts.length} codes)'

    @property
    def cached(self) -> bool:
        """Whether all codes are kept in memory."""
        return self._kept is not None

    def fetch(self, indices: np.ndarray) -> Pictures:
        """The codes and labels of examples, all of which are good."""
        rows = self._read(indices) if self._kept is None else self._kept[indices]
        labels, codes = rows[:, 0].astype(np.int32), rows[:, 1:].astype(np.int32)
        return Pictures(codes, labels, np.ones(len(rows), bool))

    def faults(self, indices: Sequence[int]) -> dict[int, str]:
        """None: pictures that could not be decoded have no codes."""
        return {}

    def report(self, faults: Mapping[int, str]) -> None:
        """Nothing is to be reported."""

    def _read(self, indices: Sequence[int]) -> np.ndarray:
        records = self._source.__getitems__([int(index) for index in indices])
        rows = np.frombuffer(b''.join(records), self.facts.dtype)
        return rows.reshape(len(records), self.facts.length + 1)

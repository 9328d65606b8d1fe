"""Codes of a whole data set, written once: ArrayRecord files, and beside them what they are codes of.

A folder holds `codes.json` and, for each split, shards `SPLIT-00000-of-00004.array_record`, of which the
former names the number of examples and the SHA-256. A shard has its final name only when it is complete, so
that what a kill leaves can be gone on with. A record is the label and the codes of one example, as
little-endian unsigned integers, and after them its conditions, if there are any, in the order of their names.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypedDict
from urllib.parse import quote

import msgspec
import numpy as np

from vq_jax.buckets import BucketFolder, copy_of, is_address, place_of
from vq_jax.data.captions import TEXT
from vq_jax.data.config import READING, DataConfig
from vq_jax.data.dataset import Dataset
from vq_jax.data.source import Examples
from vq_jax.data.transforms.transform import Transform
from vq_jax.errors import UserError, plural
from vq_jax.files import MOST_BYTES, WriteError, sha256_of, telling, write_atomically
from vq_jax.json_files import check_type, read_json
from vq_jax.spec import CodeSpec, ConditionSpec, Spec

# What the files of a folder mean, which `codes.json` says; those of another number are refused.
FORMAT = 2

PREFIX = 'codes:'  # of `DataConfig.name`
_FACTS = 'codes.json'
_FLAGS = {'shard_size': '--batch_size times --shard_batches'}  # what users know a fact by
_AGAIN = 'write the codes again with vq_jax.tokenize'
_MOST_SHARDS = 10**5  # of a split; their names have five digits
_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31)]


@dataclasses.dataclass(frozen=True)
class ShardFacts:
    """What is in a file of codes.

    Attributes:
        examples: how many; those that could not be decoded have no codes.
        sha256: of the file, in hexadecimal digits.
    """

    examples: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class TokenizerFacts(TypedDict):
    """The run that made codes: where it was, the step and the weights of its checkpoint, and its config."""

    workdir: str
    step: int
    checksum: str
    config: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class CodeFacts:
    """What codes are of, and from.

    Attributes:
        tokenizer: the run that made them.
        data: the config of these examples.
        spec: of the examples that were encoded.
        class_names: in the order of the labels; empty if there are none.
        codes: what the codes of an example are.
        splits: how many examples each has.
        shard_size: examples of a shard, the last of a split excepted.
        shards: what is in those that are complete, by the names of their files.
        conditions: what else there is of each example, by name.
        format: see `FORMAT`.
    """

    tokenizer: TokenizerFacts
    data: dict[str, Any]
    spec: Spec
    class_names: tuple[str, ...]
    codes: CodeSpec
    splits: dict[str, _Count]
    shard_size: _Count
    shards: dict[str, ShardFacts] = dataclasses.field(default_factory=dict)
    conditions: dict[str, ConditionSpec] = dataclasses.field(default_factory=dict)
    format: int = FORMAT

    @property
    def dtype(self) -> np.dtype:
        """What records are made of: the smallest type that holds labels and codes."""
        largest = max(self.codes.largest, len(self.class_names), 1) - 1
        return np.min_scalar_type(largest).newbyteorder('<')

    @property
    def record(self) -> np.dtype:
        """A whole record: 'codes' [1 + n], the label first, and the conditions."""
        parts = [('codes', self.dtype, (1 + self.codes.length,))]
        for name, spec in sorted(self.conditions.items()):
            parts.append((name, np.dtype(spec.dtype).newbyteorder('<'), spec.shape))
        return np.dtype(parts)

    def shard_paths(self, folder: Path, split: str) -> list[Path]:
        """Where the shards of a split are, or will be; raises `UserError` if they are too many."""
        count = -(-self.splits[split] // self.shard_size)
        if count > _MOST_SHARDS:
            raise UserError(
                f'{self.splits[split]:,} examples of the split {split!r} are {count:,} files, more than '
                f'{_MOST_SHARDS:,}; raise --shard_batches of vq_jax.tokenize.'
            )
        name = quote(split, safe='')
        return [folder / f'{name}-{i:05d}-of-{count:05d}.array_record' for i in range(count)]


def write_facts(folder: Path, facts: CodeFacts) -> CodeFacts:
    """Writes `codes.json`; one that is there must say the same of all but the splits, which are added.

    Returns:
        What is in it then, complete shards included.

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
        before = read_facts(folder)
        there = dataclasses.asdict(before)
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
        facts = dataclasses.replace(facts, splits=before.splits | facts.splits, shards=before.shards)
    _write(folder, facts)
    return facts


def _comparable(record: dict[str, Any], name: str) -> str:
    """What decides the codes in a part of a record, as text: splits are added, runs moved."""
    value = record[name]
    if name in ('splits', 'shards'):
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
        UserError: if it is not there, cannot be read, holds something else, or is of another format.
    """
    path = folder / _FACTS
    try:
        facts = read_json(path, dict[str, Any], advice=_AGAIN)
    except FileNotFoundError as error:
        raise UserError(f'{folder} holds no codes; write them with vq_jax.tokenize.') from error
    found = facts.get('format', 1)
    if found != FORMAT:
        raise UserError(
            f'{folder} holds codes of format {json.dumps(found)}, and this version of vq_jax reads format '
            f'{FORMAT}; {_AGAIN}, or read them with the version that wrote them.'
        )
    return check_type(facts, CodeFacts, where=str(path), advice=_AGAIN)


def write_shard(
    path: Path, facts: CodeFacts, examples: Iterable[tuple[int, np.ndarray, Mapping[str, np.ndarray]]]
) -> None:
    """Writes one shard, and into `codes.json` what is in it.

    Of each example there are the label, the codes, int [n], and the conditions by name.

    It has its name, one of `CodeFacts.shard_paths`, only when that is done.

    Raises:
        WriteError: it cannot be written; nothing is left of it.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    partial = path.with_suffix('.partial')
    count = 0
    try:
        partial.unlink(missing_ok=True)  # a link would be written through
        writer = ArrayRecordWriter(str(partial), 'group_size:1')
        for label, codes, conditions in examples:
            record = np.zeros((), facts.record)
            record['codes'] = label, *codes
            for name, value in conditions.items():
                record[name] = value
            writer.write(record.tobytes())
            count += 1
        try:
            writer.close()
            there = read_facts(path.parent)
            shards = there.shards | {path.name: ShardFacts(count, sha256_of(partial))}
            _write(path.parent, dataclasses.replace(there, shards=shards))
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # the latter is what the writer makes of the former
            raise WriteError(
                f'Cannot write {path} ({str(error).partition(";")[0]}); make room, and the same command goes '
                'on after the files that are complete.'
            ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def missing_shards(folder: Path, facts: CodeFacts, split: str) -> list[tuple[int, Path]]:
    """The numbers and paths of the shards of a split that are not complete yet."""
    paths = enumerate(facts.shard_paths(folder, split))
    return [(i, path) for i, path in paths if path.name not in facts.shards or not path.exists()]


def _write(folder: Path, facts: CodeFacts) -> None:
    write_atomically(folder / _FACTS, json.dumps(dataclasses.asdict(facts), indent=2) + '\n')


def _copy(address: str, split: str) -> Path:
    """A folder on this machine with the codes of a split of a folder in a bucket."""
    folder, bucket = copy_of(address), BucketFolder(address)
    bucket.copy_to(folder, lambda name: name == _FACTS, MOST_BYTES)
    facts = read_facts(folder)
    shards = facts.shard_paths(folder, split) if split in facts.splits else []
    for path in shards:
        known = facts.shards.get(path.name)
        if path.exists() and (known is None or sha256_of(path) != known.sha256):
            path.unlink()  # else it might be taken for what is there now
    names = {path.name for path in shards}
    bucket.copy_all(names & facts.shards.keys(), folder)
    return folder


def _open_shards(paths: Sequence[Path], facts: CodeFacts) -> Any:
    """Opens files of codes that are as `codes.json` says."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    for path in paths:
        with telling(f'Cannot read {path}', f'check it, or {_AGAIN}'):
            found = sha256_of(path)
        if found != facts.shards[path.name].sha256:
            raise UserError(
                f'{path} is damaged or of other codes: its SHA-256 is not that in {_FACTS}; delete it and '
                'run vq_jax.tokenize again, which writes what is not there.'
            )
    count = sum(facts.shards[path.name].examples for path in paths)
    try:
        source = ArrayRecordDataSource([str(path) for path in paths])
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f'{paths[0]} or one beside it cannot be opened ({error}); {_AGAIN}.') from error
    if len(source) != count or not count:
        raise UserError(
            f'{paths[0]} and those beside it hold {plural(len(source), "example")}, not {count:,}; {_AGAIN}.'
        )
    return source


class CodeDataset(Dataset):
    """One split of codes that were written once; none is undecodable.

    Attributes:
        facts: what the codes are of.
        item_shape: of an example's codes [n], the coarsest scale first.
        spec: of the examples that were encoded.
    """

    key: ClassVar[str] = 'codes'

    def __init__(self, config: DataConfig, split: str) -> None:
        """Opens a split.

        Raises:
            UserError: if it is not there, or not complete, or augmentation is asked for.
        """
        if config.random_crop or config.flip:
            raise UserError(
                'random crops and flips need images, and codes were written without them; set '
                'config.data.random_crop and config.data.flip to false, or config.data.name to images.'
            )
        place = config.name.removeprefix(PREFIX)
        folder = _copy(place, split) if is_address(place) else Path(place).expanduser()
        self.facts = facts = read_facts(folder)
        name = f'{place_of(folder)} ({split})'
        self._describe(config, name, facts.class_names, facts.conditions)
        self.spec = facts.spec
        self.item_shape, self.item_dtype = (facts.codes.length,), np.int32
        if split not in facts.splits:
            raise UserError(
                f'{folder} has no codes of the split {split!r}; set {config.split_key(split)} to one of '
                f'{", ".join(facts.splits)}.'
            )
        shards = facts.shard_paths(folder, split)
        if lacking := missing_shards(folder, facts, split):
            raise UserError(
                f'{len(lacking)} of {len(shards)} files of the split {split!r} are not in {folder} yet; run '
                'vq_jax.tokenize again, which goes on where it was.'
            )
        self.transform = Transform()
        self._source = _open_shards(shards, facts)
        self._read([0])
        small = len(self) * facts.record.itemsize <= config.cache_gib * 2**30
        self._kept = self._read(range(len(self))) if small else None
        self._add_vectors()

    def __repr__(self) -> str:
        return f'CodeDataset({self.name}, {len(self):,} examples of {self.facts.codes.length} codes)'

    def fetch(self, indices: np.ndarray, positions: None = None, choices: None = None) -> Examples:
        """The codes and labels of examples, all of which are good."""
        rows = self._read(indices) if self._kept is None else self._kept[indices]
        codes = rows['codes'].astype(np.int32)
        conditions = {name: rows[name].astype(spec.dtype) for name, spec in self.facts.conditions.items()}
        return Examples(codes[:, 1:], codes[:, 0], np.ones(len(rows), bool), conditions)

    def _texts(self) -> Iterator[np.ndarray]:
        """One of each example that has codes."""
        for index in range(len(self)):
            yield self.fetch(np.array([index])).conditions[TEXT]

    def _read(self, indices: Sequence[int]) -> np.ndarray:
        """Records [b]; raises `UserError` for what `codes.json` does not say."""
        facts = self.facts
        try:
            records = self._source.__getitems__([int(index) for index in indices])
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f'the codes of {self.name} cannot be read ({error}); {_AGAIN}.') from error
        if any(len(record) != facts.record.itemsize for record in records):
            raise UserError(f'codes of {self.name} are not of {facts.codes.length} positions; {_AGAIN}.')
        rows = np.frombuffer(b''.join(records), facts.record)
        labels, codes = rows['codes'][:, 0].max(), rows['codes'][:, 1:].max()
        if codes >= facts.codes.largest or labels >= max(1, self.num_classes):
            raise UserError(
                f'{self.name} holds the code {codes} and the label {labels}, and there are '
                f'{facts.codes.largest} codes and {self.num_classes} classes; {_AGAIN}.'
            )
        return rows

"""Text: files of it, and the pieces that texts of any source are cut into."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vq_jax.data.config import DataConfig
from vq_jax.data.source import Record, Source, parts_of
from vq_jax.data.transforms.text import Piece
from vq_jax.errors import UserError
from vq_jax.files import decode_text, read_file, telling
from vq_jax.text_tokenizers import BpeTokenizer, ByteTokenizer, TextTokenizer

PREFIX = 'text:'  # of `DataConfig.name`
_TRAIN_SHARE = 0.9
_AT_ONCE = 32  # records that are read: captions come with what they are of
_MOST_CAPTIONED = 2**14  # examples whose captions a tokenizer learns from: with them, they are read too


class TextFileSource(Source):
    """The text of a file, or of all files below a folder that end in .txt, in the order of their paths.

    All of it is one stretch, of which the first 90% of the characters are the split `train` and the others
    `test`. Of a file there is one text, or as many as there are stretches of it in a split.
    """

    kind, shape = 'text', (None,)

    def __init__(self, path: str, split: str, split_key: str = 'the split') -> None:
        """Reads a split.

        Args:
          path: Of the file or the folder, in which `~` is understood.
          split: In the syntax of tensorflow-datasets.
          split_key: What to call it in messages.

        Raises:
          UserError: If there is no text, or it is no UTF-8, or the split is not there.
        """
        root = Path(path).expanduser()
        self.name = f'{root} ({split})'
        files = [(file, text) for file in _files(root) if (text := _read(file))]
        if not files:
            raise UserError(f'All text in {str(root)!r} is empty: set config.data.name to a file with some.')
        self._texts = [
            (file, text[max(start - first, 0) : stop - first])
            for start, stop in _stretches(split, sum(len(text) for _, text in files), root, split_key)
            for file, first, text in _numbered(files)
            if start < first + len(text) and first < stop
        ]

    def __len__(self) -> int:
        return len(self._texts)

    def read(self, indices: Sequence[int]) -> list[Record]:
        """Returns each text."""
        return [Record(self._texts[index][1]) for index in indices]

    def describe(self, index: int) -> str:
        """Returns the path of the file."""
        return str(self._texts[index][0])


class PieceSource(Source):
    """The texts of another source in pieces of `config.num_tokens` tokens each, in their order.

    All are kept in memory. What cannot be read is one piece.
    """

    def __init__(self, source: Source, config: DataConfig, tokenizer: TextTokenizer) -> None:
        """Encodes all texts.

        Raises:
          UserError: If the tokenizer does not give them back as they are.
        """
        self._source, self._num_tokens = source, config.num_tokens
        self.name, self.kind, self.shape = source.name, source.kind, (config.num_tokens,)
        self.class_names, self.conditions = source.class_names, source.conditions
        self.captioned = source.captioned
        self.tokens = tokenizer.tokens
        smallest = np.min_scalar_type(tokenizer.size - 1)
        self._records = [
            record
            if isinstance(record.stored, Exception)
            else record._replace(stored=tokens.astype(smallest))
            for record, tokens in _encoded(source, tokenizer)
        ]
        lengths = [1 if isinstance(r.stored, Exception) else len(r.stored) for r in self._records]
        self._ends = np.cumsum([max(1, -(-length // config.num_tokens)) for length in lengths])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, indices: Sequence[int]) -> list[Record]:
        """Returns a `Piece` of each text, in the place of all of it."""
        found = []
        for text, number in map(self._place, indices):
            record = self._records[text]
            broken = isinstance(record.stored, Exception)
            found.append(record if broken else record._replace(stored=Piece(record.stored, number)))
        return found

    def describe(self, index: int) -> str:
        """Returns what the source says of the text, and where the piece begins."""
        text, number = self._place(index)
        return f'{self._source.describe(text)} from token {number * self._num_tokens:,}'

    def _place(self, index: int) -> tuple[int, int]:
        """Returns the text that an example is of, and the number of its piece."""
        text = int(np.searchsorted(self._ends, index, side='right'))
        return text, int(index) - int(self._ends[text - 1] if text else 0)


def make_tokenizer(name: str, texts: Iterator[str]) -> TextTokenizer:
    """Makes the tokenizer that `DataConfig.text_tokenizer` names; one that learns does so from the texts."""
    kind, _, size = name.partition(':')
    if name == ByteTokenizer.kind:
        return ByteTokenizer()
    if kind == BpeTokenizer.kind:
        return BpeTokenizer.train(texts, int(size))
    return BpeTokenizer.read(Path(name).expanduser())


def all_texts(source: Source) -> Iterator[str]:
    """Yields the texts of a source, as far as they can be read, or captions of its first examples."""
    if source.kind == 'text':
        return (record.stored for record in _records(source) if isinstance(record.stored, str))
    return (text for record in _records(source, _MOST_CAPTIONED) for text in record.captions)


def _records(source: Source, most: int | None = None) -> Iterator[Record]:
    n = len(source) if most is None else min(most, len(source))
    for first in range(0, n, _AT_ONCE):
        yield from source.read(range(first, min(first + _AT_ONCE, n)))


def _encoded(source: Source, tokenizer: TextTokenizer) -> Iterator[tuple[Record, np.ndarray]]:
    """Yields all records, and the tokens of each that holds a text."""
    for index, record in enumerate(_records(source)):
        if isinstance(record.stored, Exception):
            yield record, np.zeros(0, np.int32)
            continue
        tokens = tokenizer.encode(record.stored)
        size = len(record.stored.encode())
        if tokenizer.lengths[tokens].sum() != size or tokenizer.decode(tokens) != record.stored:
            raise UserError(
                f'config.data.text_tokenizer does not keep texts as they are, as that of '
                f"{source.describe(index)}: set it to 'bytes', to 'bpe:SIZE', or to a tokenizer.json of "
                'byte-level BPE.'
            )
        yield record, tokens


def _files(root: Path) -> list[Path]:
    """Returns the file, or those below a folder, in the order of their paths."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise UserError(f'There is no {str(root)!r}: check the path in config.data.name.')

    def refuse(error: OSError) -> None:
        raise error

    with telling(f'The folder {str(root)!r} cannot be read', 'make all in it readable'):
        found = sorted(
            Path(folder, name).relative_to(root).as_posix()
            for folder, _, names in os.walk(root, onerror=refuse)
            for name in names
            if name.lower().endswith('.txt') and not name.startswith('.')
        )
    if not found:
        raise UserError(f'No text was found in {str(root)!r}: it needs files that end in .txt.')
    return [root / path for path in found]


def _read(path: Path) -> str:
    with telling(f'Cannot read {path}', 'check its permissions'):
        return decode_text(read_file(path), path)


def _stretches(split: str, total: int, root: Path, split_key: str) -> list[tuple[int, int]]:
    """Returns where the stretches of a split start and end, in characters of all text."""
    train = int(total * _TRAIN_SHARE)
    sizes = {'train': train, 'test': total - train}
    there = ', '.join(f'{name} ({size:,} characters)' for name, size in sizes.items())
    advice = f"it has {there}; set {split_key} to one of them, to a part such as 'train[90%:]', or to 'all'"
    try:
        parts = parts_of(split, sizes)
    except UserError as error:
        raise UserError(f'Split {split!r} of the text in {str(root)!r} cannot be read: {advice}.') from error
    stretches: list[tuple[int, int]] = []
    for name, part in parts:
        start, stop = (at + (train if name == 'test' else 0) for at in (part.start, part.stop))
        if stretches and stretches[-1][1] == start:  # of 'all'
            start = stretches.pop()[0]
        stretches.append((start, stop))
    stretches = [(start, stop) for start, stop in stretches if start < stop]
    if not stretches:
        raise UserError(f'Split {split!r} of the text in {str(root)!r} is empty: {advice}.')
    return stretches


def _numbered(files: Sequence[tuple[Path, str]]) -> Iterator[tuple[Path, int, str]]:
    """Yields the files with the number of the first character of each in all text."""
    first = 0
    for file, text in files:
        yield file, first, text
        first += len(text)

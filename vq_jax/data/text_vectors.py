"""Vectors of texts that a frozen encoder has made, written once and kept beside the data.

A folder holds `texts.npz` (the tokens of n texts by which they are found, int32 [n m], and where the vectors
of each end, int64 [n]), `vectors.npy` (those of all texts in a row, float16 [k width]) and, written last,
`vectors.json`, which says what made them. `vq_jax.embed` writes it.
"""

import dataclasses
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from vq_jax.buckets import BucketFolder, copy_of, is_address, place_of
from vq_jax.errors import UserError, first_line
from vq_jax.files import TEMPORARY, open_regular, write_atomically, writing_atomically
from vq_jax.json_files import check_type, read_json
from vq_jax.npz_files import read_npz
from vq_jax.spec import ConditionSpec, TextVectors
from vq_jax.text_tokenizers import PADDING

FORMAT = 1  # what the files mean, which `vectors.json` says; those of another number are refused
VECTORS, LENGTH = 'text_vectors', 'text_length'  # what the conditions are called
_FACTS, _TEXTS, _ARRAY = 'vectors.json', 'texts.npz', 'vectors.npy'
_AGAIN = 'write the vectors again with vq_jax.embed, to another folder'


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What is in `vectors.json`."""

    vectors: TextVectors
    format: Annotated[int, msgspec.Meta(ge=0)] = FORMAT


def write_text_vectors(
    folder: str | Path,
    tokens: np.ndarray,
    lengths: Sequence[int],
    vectors: Iterable[np.ndarray],
    made: TextVectors,
) -> None:
    """Writes the vectors of texts; those that were there, or what is left of them, are replaced.

    Args:
      folder: Where to.
      tokens: Of n different texts, as data sets have them, int32 [n m], -1 after the end.
      lengths: How many vectors each has, at most `made.length` [n].
      vectors: Those of each text, in any type of floats [k width]; taken one after another, so that not all
        need to be in memory.
      made: What they are.

    Raises:
      UserError: They cannot be written, or float16 does not hold their numbers.
      ValueError: They are not as the other arguments say.
    """
    folder, ends = Path(folder), np.cumsum(lengths, dtype=np.int64)
    shape = (int(ends[-1]), made.width)
    (folder / _FACTS).unlink(missing_ok=True)  # which says that all is there
    for path in folder.glob('.*'):
        if re.fullmatch(TEMPORARY, path.name):  # of a writing that was killed, and may be large
            path.unlink()
    with writing_atomically(folder / _ARRAY) as file:
        header = {'descr': '<f2', 'fortran_order': False, 'shape': shape}
        np.lib.format.write_array_header_1_0(file, header)
        for length, of_text in zip(lengths, vectors, strict=True):
            if of_text.shape != (length, made.width) or length > made.length:
                raise ValueError(f'vectors of a text are {of_text.shape}, not {(length, made.width)}')
            with np.errstate(over='ignore'):  # which is told below
                half = np.ascontiguousarray(of_text, '<f2')
            if not np.isfinite(half).all():
                raise UserError(
                    'a vector of a text has numbers that float16 does not hold, or that are none; divide '
                    'those of this encoder by a constant, or take another.'
                )
            file.write(half.tobytes())
    packed = io.BytesIO()
    np.savez(packed, tokens=tokens, ends=ends)
    write_atomically(folder / _TEXTS, packed.getvalue())
    write_atomically(folder / _FACTS, msgspec.json.encode(_Facts(made)).decode() + '\n')


def is_unfinished(folder: Path) -> bool:
    """Whether all that a folder holds was left by `write_text_vectors`, which was killed."""
    names = {path.name for path in folder.iterdir()}
    return all(name in (_TEXTS, _ARRAY) or re.fullmatch(TEMPORARY, name) for name in names)


class TextVectorFiles:
    """The vectors of texts in a folder, which are read as they are asked for; pickled as the folder alone.

    Attributes:
      spec: What they are.
      conditions: What batches have of each example: its vectors, float16 [length width], zeros after the
        last, and how many there are, int32.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens a folder; of one in a bucket, `gs://...`, a copy on this machine.

        Raises:
          UserError: If it holds no such files, or they do not belong together.
        """
        self._folder = copy_of(folder) if is_address(folder) else Path(folder).expanduser()
        if is_address(folder):
            BucketFolder(folder).copy_all({_FACTS, _TEXTS, _ARRAY}, self._folder)
        path = self._folder / _FACTS
        try:
            said = read_json(path, dict[str, Any], advice=_AGAIN)
        except FileNotFoundError as error:
            raise UserError(
                f'there are no vectors of texts in {self._folder}, which config.data.text_vectors names; '
                'write them with vq_jax.embed.'
            ) from error
        if said.get('format') != FORMAT:
            raise UserError(f'{path} is not of the format {FORMAT}, which is read; {_AGAIN}.')
        self.spec = check_type(said, _Facts, where=str(path), advice=_AGAIN).vectors
        self.conditions = {
            VECTORS: ConditionSpec((self.spec.length, self.spec.width), 'float16'),
            LENGTH: ConditionSpec((), 'int32'),
        }
        texts = read_npz(self._folder / _TEXTS)
        try:
            tokens, self._ends = texts['tokens'], texts['ends']
            with open_regular(self._folder / _ARRAY):  # else what NumPy opens could be anything
                self._vectors = np.lib.format.open_memmap(self._folder / _ARRAY, mode='r')
            self._check(tokens)
        except (KeyError, OSError, ValueError) as error:
            raise UserError(
                f'the vectors of texts in {self._folder} are damaged ({first_line(error)}); {_AGAIN}.'
            ) from error
        self._rows = {_key(of_text): row for row, of_text in enumerate(tokens)}

    def _check(self, tokens: np.ndarray) -> None:
        of_texts = (tokens.ndim, tokens.dtype, self._ends.dtype) == (2, np.int32, np.int64)
        lengths = np.diff(self._ends, prepend=0) if of_texts else np.zeros(1)
        if (
            self._ends.shape != tokens.shape[:1]
            or not 0 < lengths.min() <= lengths.max() <= self.spec.length
            or self._vectors.shape != (self._ends[-1], self.spec.width)
            or self._vectors.dtype != np.float16
        ):
            raise ValueError('its arrays do not belong together')

    def __reduce__(self) -> tuple[type['TextVectorFiles'], tuple[Path]]:
        return TextVectorFiles, (self._folder,)

    def find(self, tokens: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the conditions of texts, int32 [b m]; zeros where they are not `good`, bool [b].

        Raises:
          UserError: If there are no vectors of a text.
        """
        found = {name: np.zeros((len(tokens), *s.shape), s.dtype) for name, s in self.conditions.items()}
        for i in np.flatnonzero(good):
            row = self._rows.get(_key(tokens[i]))
            if row is None:
                raise UserError(
                    f'a text of the data has no vectors in {place_of(self._folder)}; {_AGAIN}, for these '
                    'data, caption_length and text_tokenizer.'
                )
            start, end = (int(self._ends[row - 1]) if row else 0), int(self._ends[row])
            found[LENGTH][i] = end - start
            found[VECTORS][i, : end - start] = self._vectors[start:end]
        return found


def _key(tokens: np.ndarray) -> bytes:
    """What finds a text, whatever room there is for others [m]."""
    kept = tokens[tokens != PADDING]
    return hashlib.blake2b(np.ascontiguousarray(kept, '<i4').tobytes(), digest_size=16).digest()

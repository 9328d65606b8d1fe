"""Reads NumPy's files of arrays, which somebody else may have written: no code, and in bounded memory."""

import io
import zipfile
from pathlib import Path

import numpy as np

from vq_jax.errors import UserError, first_line
from vq_jax.files import read_file

MOST_BYTES = 2**32  # of a file, and of what is packed in it


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name; raises `UserError` if it holds anything else."""
    try:
        return arrays_of(read_file(path, MOST_BYTES))
    except UserError:
        raise
    except Exception as error:  # of which NumPy and zipfile have many kinds
        raise UserError(f'{path} cannot be read as a file of arrays ({first_line(error)}).') from error


def arrays_of(content: bytes | memoryview) -> dict[str, np.ndarray]:
    """The arrays of the bytes of an .npz file, by name.

    Raises:
        Exception: of many kinds, if it is damaged, too large, or holds anything else.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f'it has {len(content):,} bytes, and at most {MOST_BYTES:,} are read')
    file = io.BytesIO(content)
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MOST_BYTES:
        raise ValueError(f'{size:,} bytes are packed in it, and at most {MOST_BYTES:,} are read')
    # Pickled objects would be programs.
    with np.load(file, allow_pickle=False) as opened:
        arrays = {name: opened[name] for name in opened.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f'it holds {name!r}, which is no array')
    return arrays

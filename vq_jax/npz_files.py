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
        content = read_file(path, MOST_BYTES)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f'{size:,} bytes are packed in it, and at most {MOST_BYTES:,} are read')
        # Pickled objects would be programs.
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except UserError:
        raise
    except Exception as error:  # of which NumPy and zipfile have many kinds
        raise UserError(f'{path} cannot be read as a file of arrays ({first_line(error)}).') from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise UserError(f'{path} holds {name!r}, which is no array.')
    return arrays

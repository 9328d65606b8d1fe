"""Reads files of weights, whoever wrote them: no code, in bounded memory, and without PyTorch."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vq_jax import npz_files
from vq_jax.errors import UserError, first_line, printable
from vq_jax.weights.mapped import Unread, mapped
from vq_jax.weights.msgpack_files import read_msgpack
from vq_jax.weights.pickles import RefusedError
from vq_jax.weights.pytorch_files import read_pytorch
from vq_jax.weights.safetensors_files import read_safetensors

_READERS: dict[str, Callable[[memoryview], Any]] = {
    '.npz': npz_files.arrays_of,
    '.safetensors': read_safetensors,
    '.msgpack': read_msgpack,
    **dict.fromkeys(('.pth', '.pt', '.ckpt', '.bin', '.th'), read_pytorch),
}
ENDINGS = tuple(_READERS)
_READERS[''] = read_msgpack  # as Flax names checkpoints
_MOST_VALUES = 2**18  # in dictionaries and lists; the same one may be in many
_MOST_CHARACTERS = 2**26  # of the names of arrays
_DEEPEST = 20
_HOLDING = (dict, list, tuple, np.ndarray, Unread)


@dataclasses.dataclass(frozen=True)
class Weights:
    """What files of weights hold.

    Attributes:
        arrays: by their names in the files.
        checksums: the SHA-256 of each file, by its path.
    """

    arrays: dict[str, np.ndarray]
    checksums: dict[str, str]


def read_weights(paths: Sequence[str | Path]) -> Weights:
    """The arrays of several files together, whose names and SHA-256 are printed.

    Arrays are views of the files, but those of `.npz`: what is not looked at takes no memory. Of arrays that
    are no weights, such as complex numbers, or hold the same numbers many times, the names are printed.

    Args:
        paths: of `.npz`, `.safetensors`, PyTorch's `.pth`, `.pt`, `.th`, `.ckpt` or `.bin`, and Flax's
            `.msgpack`, or names without an ending.
            In the last two kinds arrays lie in dictionaries and lists in each other; the name of one is then
            all keys and numbers on the way to it with dots between them, such as 'state_dict.conv.weight'.

    Raises:
        UserError: if a file is not there, cannot be read, or wants something run.
    """
    arrays: dict[str, np.ndarray] = {}
    checksums: dict[str, str] = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise UserError(f'there is no file of weights {path}.')
        found, checksums[str(path)] = _read(path)
        arrays |= found
        print(f'weights: {path}, SHA-256 {checksums[str(path)]}', flush=True)
    return Weights(arrays, checksums)


def _read(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of a file, and the SHA-256 of the bytes that they lie in."""
    if path.suffix not in _READERS:
        raise UserError(f'{path} is no file of weights: its name ends with none of {", ".join(ENDINGS)}.')
    try:
        data = mapped(path)
        found, sha256 = _by_name(_READERS[path.suffix](data)), hashlib.sha256(data).hexdigest()
    except RefusedError as error:
        raise UserError(
            f'{path} is not read: it wants to run {printable(str(error))[:200]}, and weights are only read; '
            'get them as .safetensors.'
        ) from error
    except UserError:
        raise
    except Exception as error:  # of many kinds, as many as there are ways to be damaged
        reason = printable(first_line(error))[:300]
        kind = (
            'a file of weights' if path.suffix else 'a file of Flax, as which one without an ending is read'
        )
        raise UserError(f'{path} cannot be read as {kind} ({reason}).') from error
    arrays = {name: one for name, one in found.items() if isinstance(one, np.ndarray)}
    if unread := [(name, one.why) for name, one in found.items() if isinstance(one, Unread)]:
        told = printable(', '.join(f'{name} ({why})' for name, why in unread[:3]))[:300]
        more = f' and {len(unread) - 3} more' if len(unread) > 3 else ''
        print(f'weights: not read of {path}: {told}{more}', flush=True)
    if not arrays:
        raise UserError(f'{path} holds no arrays of weights by name; save the state_dict of a model.')
    return arrays, sha256


def _weights(array: np.ndarray) -> np.ndarray | Unread:
    if array.dtype.kind in 'biuf' or array.dtype.name == 'bfloat16':
        return array
    return Unread(f'numbers of the type {array.dtype}')


def _by_name(tree: Any) -> dict[str, np.ndarray | Unread]:
    """The arrays in dictionaries and lists in each other, by the way to them."""
    arrays, left, characters = {}, _MOST_VALUES, _MOST_CHARACTERS
    ways: list[tuple[tuple[str, ...], Any]] = [((), tree)] if isinstance(tree, _HOLDING) else []
    while ways:
        way, value = ways.pop()
        if isinstance(value, np.ndarray | Unread):
            name = '.'.join(way)
            if (characters := characters - len(name)) < 0:
                raise ValueError(f'the names of its arrays have more than {_MOST_CHARACTERS:,} characters')
            arrays[name] = value if isinstance(value, Unread) else _weights(value)
        else:
            if len(way) == _DEEPEST or (left := left - len(value)) < 0:
                raise ValueError('its dictionaries and lists are too many, or too deep in each other')
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            found = [((*way, str(key)), one) for key, one in inner if isinstance(one, _HOLDING)]
            ways += found[::-1]
    return arrays

"""Reads and writes the format of `safetensors`: eight bytes, a header in JSON, and the numbers.

The package of that name has no bfloat16 without PyTorch, and reads a file as a whole.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
import numpy as np
from msgspec import Meta

from vq_jax.files import writing_atomically
from vq_jax.weights.mapped import Unread, array_of, dtype_of, part

_MOST_HEADER = 2**26  # bytes
_METADATA = '__metadata__'
_TYPES = {
    'F64': 'float64',
    'F32': 'float32',
    'F16': 'float16',
    'BF16': 'bfloat16',
    'I64': 'int64',
    'I32': 'int32',
    'I16': 'int16',
    'I8': 'int8',
    'U64': 'uint64',
    'U32': 'uint32',
    'U16': 'uint16',
    'U8': 'uint8',
    'BOOL': 'bool',
}

_Size = Annotated[int, Meta(ge=0)]


class _Entry(TypedDict):
    dtype: str
    shape: list[_Size]
    data_offsets: tuple[_Size, _Size]


def read_safetensors(data: memoryview) -> dict[str, np.ndarray | Unread]:
    """The arrays of a file, which lie where they lay.

    Args:
        data: the file.

    Raises:
        Exception: of several kinds, if it is damaged.
    """
    (size,) = struct.unpack('<Q', part(data, 0, 8))
    if size > _MOST_HEADER:
        raise ValueError(f'its header would have {size:,} bytes')
    header = msgspec.json.decode(part(data, 8, size), type=dict[str, msgspec.Raw])
    header.pop(_METADATA, None)
    arrays = {}
    for name, raw in header.items():
        entry = msgspec.json.decode(raw, type=_Entry)
        start, end = entry['data_offsets']
        stored = part(data, 8 + size + start, end - start)
        dtype = dtype_of(_TYPES.get(entry['dtype'], entry['dtype']))
        arrays[name] = array = array_of(stored, dtype, entry['shape'])
        if isinstance(array, np.ndarray) and array.nbytes != len(stored):
            raise ValueError(f'{name} has {len(stored):,} bytes, and needs {array.nbytes:,}')
    return arrays


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays, one after another, and texts that say what they are.

    Raises:
        WriteError: it cannot be written; what was there before still is.
    """
    types = {name: short for short, name in _TYPES.items()}
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        short = types[array.dtype.name]
        header[name] = {'dtype': short, 'shape': list(array.shape), 'data_offsets': [start, end]}
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)  # the numbers are to begin where processors like to read them
    with writing_atomically(path) as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, array.dtype.newbyteorder('<')).tobytes())

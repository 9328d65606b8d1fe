"""Reads and writes what `torch.save` writes, without PyTorch and without running anything.

Since PyTorch 1.6 it is a ZIP archive, in which each storage, the numbers that tensors are views of, is a
file that is not packed; before, a few pickles with the storages behind them.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vq_jax.files import writing_atomically
from vq_jax.weights import pickles
from vq_jax.weights.mapped import MOST_SIZES, Unread, array_of, dtype_of, part

_MOST_PICKLE = 2**26  # bytes of what is not numbers
_MAGIC = 0x1950A86A20F9469CFC6C  # in the first pickle of a file of before 1.6
_VERSION = 1001
_OTHER_ORDER = 'its numbers were written by a computer of another byte order'
_STORAGES = {
    'DoubleStorage': 'float64',
    'FloatStorage': 'float32',
    'HalfStorage': 'float16',
    'BFloat16Storage': 'bfloat16',
    'LongStorage': 'int64',
    'IntStorage': 'int32',
    'ShortStorage': 'int16',
    'CharStorage': 'int8',
    'ByteStorage': 'uint8',
    'BoolStorage': 'bool',
    'UntypedStorage': 'uint8',
}


class _Storage(NamedTuple):
    """Numbers of one type: the type, and their bytes."""

    dtype: np.dtype | Unread
    data: memoryview


def read_pytorch(data: memoryview) -> Any:
    """What was saved: dictionaries, lists, numbers and arrays; of other objects, nothing.

    Args:
        data: the file.

    Raises:
        RefusedError: it wants something run.
        Exception: of many kinds, if it is damaged.
    """
    return _read_zip(data) if data[:4] == b'PK\x03\x04' else _read_legacy(data)


def _read_zip(data: memoryview) -> Any:
    with zipfile.ZipFile(data.obj) as archive:
        members = {member.filename: member for member in archive.infolist()}
    found = [name for name in members if name.count('/') == 1 and name.endswith('/data.pkl')]
    if len(found) != 1:
        raise ValueError('it is a ZIP archive without the file data.pkl of what torch.save writes')
    folder = found[0].removesuffix('data.pkl')
    order = members.get(f'{folder}byteorder')
    if order is not None and _stored(data, order) != b'little':
        raise ValueError(_OTHER_ORDER)
    pickle = _stored(data, members[found[0]])
    if len(pickle) > _MOST_PICKLE:
        raise ValueError(f'its pickle has more than {_MOST_PICKLE:,} bytes')
    seen: dict[str, memoryview] = {}
    left = len(data)  # bytes of storages, which are looked at for their checksums

    def storage(described: Any) -> _Storage:
        nonlocal left
        dtype, key, count = _described(described)
        if key not in seen:
            member = members[f'{folder}data/{key}']
            if (left := left - member.file_size) < 0:
                raise ValueError('the files in it lie over each other')
            seen[key] = _stored(data, member)
        if isinstance(dtype, Unread):
            return _Storage(dtype, seen[key])
        return _Storage(dtype, part(seen[key], 0, count * dtype.itemsize))

    return pickles.load(io.BytesIO(pickle), _CALLS, storage)


def _stored(data: memoryview, member: zipfile.ZipInfo) -> memoryview:
    """The bytes of a file in an archive, where they lie, once their checksum is known to be right."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise ValueError(f'{member.filename} is packed or encrypted in it, which torch.save does not do')
    signature, *_, name, extra = struct.unpack('<4s5H3I2H', part(data, member.header_offset, 30))
    if signature != b'PK\x03\x04':
        raise ValueError(f'{member.filename} is not where the archive says')
    content = part(data, member.header_offset + 30 + name + extra, member.file_size)
    if zlib.crc32(content) != member.CRC:
        raise ValueError(f'the checksum of {member.filename} in it is another')
    return content


def _read_legacy(data: memoryview) -> Any:
    head = io.BytesIO(data[:_MOST_PICKLE])

    magic, version, system = (pickles.load(head, {}, _described) for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError('it is not what torch.save writes')
    if not system['little_endian']:
        raise ValueError(_OTHER_ORDER)
    # Where a storage begins depends on the types of those before it, which stand in the pickle that needs
    # them: it is read twice.
    start, types = head.tell(), {}

    def note(described: Any) -> None:
        dtype, key, _ = _described(described)
        if isinstance(dtype, Unread):  # whose size is not known
            raise ValueError(f'it holds {dtype.why}; save it with a newer PyTorch')
        types[key] = dtype

    pickles.load(head, dict.fromkeys(_CALLS, lambda *_: None), note)
    keys = pickles.load(head, {}, _described)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError('it names its storages by what is no text')
    at, storages = head.tell(), {}
    for key in keys:
        (count,) = struct.unpack('<q', part(data, at, 8))
        storages[key] = _Storage(types[key], part(data, at + 8, count * types[key].itemsize))
        at += 8 + count * types[key].itemsize
    head.seek(start)
    return pickles.load(head, _CALLS, lambda described: storages[_described(described)[1]])


def _described(described: Any) -> tuple[np.dtype | Unread, str, int]:
    """Type, key and number of elements of a storage, of what stands in the pickle for it."""
    # Nothing of it is printed: a list that holds another ten times may be as long as it likes in print.
    if type(described) is not tuple or not 5 <= len(described) <= 6:
        raise ValueError('it holds something that is no storage')
    word, kind, key, _, count, *view = described
    plain = type(word) is str and isinstance(kind, pickles.Global) and type(key) is str and type(count) is int
    if not plain or word != 'storage' or count < 0:
        raise ValueError('it holds a storage that is not described as one')
    if any(view):
        raise ValueError('it was written by a PyTorch of before 0.4; save it with a newer one')
    name = kind.name.rpartition('.')[2]
    return dtype_of(_STORAGES.get(name, name)), key, count


def _sizes(sizes: Any = ()) -> tuple[Any, ...]:
    """Sizes or strides; those of any array are a short tuple, and others would be copied at each call."""
    if type(sizes) is not tuple or len(sizes) > MOST_SIZES:
        raise ValueError('an array has too many axes, or a size that is no number from 0 on')
    return sizes


def _tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> np.ndarray | Unread:
    return array_of(storage.data, storage.dtype, _sizes(shape), _sizes(strides), offset)


def _untyped(storage: _Storage, offset: int, shape: Any, strides: Any, *rest: Any) -> np.ndarray | Unread:
    """A tensor of bytes that are of a type of their own: of what follows, the third."""
    dtype = dtype_of(rest[2].name.removeprefix('torch.'))
    return array_of(storage.data, dtype, _sizes(shape), _sizes(strides), offset)


_CALLS = {
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _untyped,
    'torch._utils._rebuild_parameter': lambda tensor, *_: tensor,
    'torch._utils._rebuild_parameter_with_state': lambda tensor, *_: tensor,
    'torch.Size': _sizes,
}


def write_pytorch(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes dictionaries of arrays in each other, so that `torch.load` reads them as tensors.

    Raises:
        WriteError: it cannot be written; what was there before still is.
    """
    arrays: list[np.ndarray] = []
    pickle = b'\x80\x02' + _pickled(tree, arrays) + b'.'  # of protocol 2, as PyTorch has it
    with writing_atomically(path) as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
        for name, content in (('data.pkl', pickle), ('byteorder', b'little'), ('version', b'3\n')):
            archive.writestr(f'{path.stem}/{name}', content)
        for number, array in enumerate(arrays):
            with archive.open(f'{path.stem}/data/{number}', 'w', force_zip64=True) as member:
                member.write(np.ascontiguousarray(array, array.dtype.newbyteorder('<')).tobytes())


def _pickled(value: Any, arrays: list[np.ndarray]) -> bytes:
    """The steps that put a value onto the stack; the arrays in it are added to those there are."""
    if isinstance(value, str):
        text = value.encode()
        return b'X' + struct.pack('<I', len(text)) + text
    if isinstance(value, int):
        size = value.bit_length() // 8 + 1
        return b'\x8a' + bytes([size]) + value.to_bytes(size, 'little', signed=True)
    if isinstance(value, tuple):
        return b'(' + b''.join(_pickled(part, arrays) for part in value) + b't'
    if isinstance(value, Mapping):
        items = (_pickled(key, arrays) + _pickled(inner, arrays) for key, inner in value.items())
        return b'}(' + b''.join(items) + b'u'
    kind = next(kind for kind, name in _STORAGES.items() if name == value.dtype.name)
    where = (_pickled('storage', arrays), f'ctorch\n{kind}\n'.encode())
    described = b''.join(where) + _pickled(str(len(arrays)), arrays) + _pickled('cpu', arrays)
    storage = b'(' + described + _pickled(value.size, arrays) + b'tQ'
    strides = tuple(math.prod(value.shape[axis + 1 :]) for axis in range(value.ndim))
    arrays.append(value)
    view = _pickled(0, arrays) + _pickled(tuple(value.shape), arrays) + _pickled(strides, arrays)
    hooks = b'ccollections\nOrderedDict\n)R'
    return b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + view + b'\x89' + hooks + b'tR'

"""Reads and writes what `flax.serialization.to_bytes` does: dictionaries of arrays in msgpack."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from flax.serialization import msgpack_serialize

from vq_jax.files import writing_atomically
from vq_jax.weights.mapped import Unread, array_of, dtype_of

_ARRAY, _SCALAR = 1, 3  # Flax's own kinds of values
_CHUNKED = '__msgpack_chunked_array__'  # the key of an array that was too large for one value


def read_msgpack(data: memoryview) -> Any:
    """What was saved: dictionaries, lists, numbers and arrays, which lie where they lay.

    Args:
        data: the file.

    Raises:
        Exception: of several kinds, if it is damaged.
    """
    return _whole(msgspec.msgpack.decode(data, ext_hook=_extension))


def write_msgpack(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes dictionaries of arrays in each other, so that `flax.serialization.from_bytes` reads them.

    Raises:
        WriteError: it cannot be written; what was there before still is.
    """
    with writing_atomically(path) as file:
        file.write(msgpack_serialize(dict(tree)))


def _extension(kind: int, data: memoryview) -> Any:
    if kind not in (_ARRAY, _SCALAR):  # a complex number
        return None
    shape, dtype, numbers = msgspec.msgpack.decode(data, type=tuple[list[int], str, memoryview])
    return array_of(numbers, dtype_of(dtype), shape)


def _whole(tree: Any) -> Any:
    """A tree in which arrays of several values are one."""
    if not isinstance(tree, dict):
        return tree
    if _CHUNKED not in tree:
        return {name: _whole(inner) for name, inner in tree.items()}
    shape, chunks = (list(tree[part].values()) for part in ('shape', 'chunks'))
    unread = [chunk for chunk in chunks if isinstance(chunk, Unread)]
    return unread[0] if unread else np.concatenate(chunks).reshape(shape)

"""Files as they lie on the disk: what is looked at is read, and the system may forget it again."""

import dataclasses
import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vq_jax.files import open_regular

MOST_SIZES = 65  # of an array: those of 32 axes, their strides, and where it begins
# What weights may be: real numbers that every part of this project can compute with.
_TYPES = {
    'bfloat16': np.dtype(jnp.bfloat16),
    **{
        name: np.dtype(name).newbyteorder('<')
        for name in (
            *('float64', 'float32', 'float16', 'int64', 'int32', 'int16', 'int8'),
            *('uint64', 'uint32', 'uint16', 'uint8', 'bool'),
        )
    },
}


@dataclasses.dataclass(frozen=True)
class Unread:
    """In place of an array that is not read, which nobody may need: why, such as 'numbers of the type F8'."""

    why: str


def dtype_of(name: str) -> np.dtype | Unread:
    """The type of numbers of a name, such as 'bfloat16', if it is one of weights."""
    return _TYPES[name] if name in _TYPES else Unread(f'numbers of the type {name}')


def mapped(path: Path) -> memoryview:
    """The bytes of a regular file, none of which are in memory before they are looked at.

    Raises:
        OSError: it cannot be read.
        UserError: it is no regular file.
        ValueError: it is empty.
    """
    with open_regular(path) as file:
        if not os.fstat(file.fileno()).st_size:
            raise ValueError('it is empty')
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def part(data: memoryview, start: int, size: int) -> memoryview:
    """So many bytes from one on; raises `ValueError` if they are not all there."""
    if not 0 <= start <= start + size <= len(data):
        raise ValueError(f'it ends after {len(data):,} bytes, and has to go on to byte {start + size:,}')
    return data[start : start + size]


def array_of(
    data: memoryview,
    dtype: np.dtype | Unread,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int = 0,
) -> np.ndarray | Unread:
    """The array that lies in bytes, which cannot be written to.

    One whose numbers are of no type of weights, or are there many times, is not read.

    Args:
        data: the bytes, of whole numbers of `dtype`.
        dtype: of a number.
        shape: of the array.
        strides: how many numbers lie between neighbours along each axis; None for an array row by row.
        offset: of the first number, in numbers.

    Raises:
        ValueError: the array would be larger than its bytes.
    """
    sizes = (*shape, *(strides or ()), offset)
    if len(sizes) > MOST_SIZES or not all(type(n) is int and 0 <= n < 2**62 for n in sizes):
        raise ValueError('an array has too many axes, or a size that is no number from 0 on')
    if isinstance(dtype, Unread):
        return dtype
    if strides is None:
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    if len(shape) != len(strides):
        raise ValueError(f'an array has the shape {tuple(shape)} and the strides {tuple(strides)}')
    # Numbers that are there many times could fill any memory.
    if any(n > 1 and not stride for n, stride in zip(shape, strides, strict=True)) and math.prod(shape):
        return Unread('the same numbers many times')
    count, held = math.prod(shape), len(data) // dtype.itemsize
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if count else 0
    if count > held or last >= max(held, 1):
        raise ValueError(f'an array of the shape {tuple(shape)} is larger than what is stored of it')
    numbers = np.frombuffer(data, dtype, held)
    bytes_between = [n * dtype.itemsize for n in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, bytes_between, writeable=False)

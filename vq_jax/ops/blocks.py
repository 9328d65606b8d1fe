"""Rows in blocks, of which one after the other is computed where all at once would need too much memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def in_blocks(x: jax.Array, size: int, fill: float = 0) -> jax.Array:
    """Rows [n ...] in blocks [blocks size ...], the last of which is filled up.

    A block takes every so-many-th row: of a batch that is split over devices it has a part of each's.
    """
    pad = [(0, -len(x) % size), *[(0, 0)] * (x.ndim - 1)]
    return jnp.pad(x, pad, constant_values=fill).reshape(size, -1, *x.shape[1:]).swapaxes(0, 1)


def from_blocks(blocks: jax.Array, n: int) -> jax.Array:
    """The rows [n ...] of blocks that `in_blocks` made, or of what was computed of each row."""
    return blocks.swapaxes(0, 1).reshape(-1, *blocks.shape[2:])[:n]


def map_blocks(function: Callable[..., Any], rows: Any, size: int) -> Any:
    """What a function gives for rows, each by itself, in blocks of `size` rows one after another.

    Blocks are computed again in the backward pass, so that memory is that of one.

    Args:
        function: takes arrays of a block [size ...], and gives such arrays.
        rows: a tuple of arrays [n ...].
        size: at least 1.
    """
    n = len(rows[0])
    again = jax.checkpoint(lambda block: function(*block))
    blocks = tuple(in_blocks(x, min(n, size)) for x in rows)
    return jax.tree.map(lambda x: from_blocks(x, n), jax.lax.map(again, blocks))

"""Grids of any rank: arrays `[b *grid c]`, whose grid has one axis (sound), two (images) or three (video)."""

from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError

T = TypeVar('T')


def per_axis(value: T | Sequence[T], rank: int, name: str) -> tuple[T, ...]:
    """One value for each axis of a grid.

    Args:
        value: one for all axes, alone or as a sequence of length 1, or one for each axis. What is itself a
            sequence, such as the zeros before and after an axis, comes in a sequence.
        rank: how many axes the grid has.
        name: of what the values are, for the message.

    Raises:
        UserError: for another number of values.
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(values) not in (1, rank):
        raise UserError(
            f'{name} is {value}; give one number for all {rank} axes of the grid, or one for each of them.'
        )
    return values * rank if len(values) < rank else values


def over_grid(vectors: jax.Array, x: jax.Array) -> jax.Array:
    """Vectors [b c], or numbers [b], in a shape that broadcasts over the grid of x [b *grid c]."""
    return vectors[(slice(None), *(None,) * (x.ndim - 2))]


def to_patches(x: jax.Array, size: int | Sequence[int]) -> jax.Array:
    """Moves patches of a grid into its channels.

    [b *grid c] to [b *grid/size prod(size)*c]; the size of a patch, one for all axes or one for each, divides
    the grid.
    """
    b, *grid, c = x.shape
    rank = len(grid)
    sizes = per_axis(size, rank, 'size')
    cells = [n // s for n, s in zip(grid, sizes, strict=True)]
    pairs = [n for pair in zip(cells, sizes, strict=True) for n in pair]
    last = 2 * rank + 1
    patches = x.reshape(b, *pairs, c).transpose(0, *range(1, last, 2), *range(2, last, 2), last)
    return patches.reshape(b, *cells, -1)


def any_within(mask: jax.Array, grid: Sequence[int], first_apart: bool = False) -> jax.Array:
    """Which cells of a coarser grid have a part in a mask, bool [b *grid*sizes]: bool [b *grid].

    With `first_apart`, the first cell along the first axis is of one position, as of causal models of video.
    """
    return _cells(mask, grid, first_apart).any(-1)


def mean_within(mask: jax.Array, grid: Sequence[int], first_apart: bool = False) -> jax.Array:
    """Which share of the cells of a coarser grid is in a mask, float32 [b *grid]; else as `any_within`."""
    return jnp.mean(_cells(mask, grid, first_apart), axis=-1, dtype=jnp.float32)


def _cells(mask: jax.Array, grid: Sequence[int], first_apart: bool) -> jax.Array:
    """What is in each cell of a coarser grid [b *grid n]; see `any_within`."""
    if first_apart:
        mask = first_as_cell(mask, max(1, (mask.shape[1] - 1) // max(1, grid[0] - 1)))
    sizes = [n // cells for n, cells in zip(mask.shape[1:], grid, strict=True)]
    return to_patches(mask[..., None], sizes)


def first_as_cell(x: jax.Array, size: int) -> jax.Array:
    """Repeats the first position of an axis so that it fills a cell: [b 1+n ...] to [b size+n ...]."""
    return jnp.concatenate([jnp.repeat(x[:, :1], size - 1, axis=1), x], axis=1)


def from_patches(x: jax.Array, size: int | Sequence[int]) -> jax.Array:
    """Reverses `to_patches`: [b *grid prod(size)*c] to [b *grid*size c]."""
    b, *grid, _ = x.shape
    rank = len(grid)
    sizes = per_axis(size, rank, 'size')
    pairs = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
    patches = x.reshape(b, *grid, *sizes, -1).transpose(0, *pairs, 1 + 2 * rank)
    return patches.reshape(b, *(n * s for n, s in zip(grid, sizes, strict=True)), -1)

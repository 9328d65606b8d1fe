"""Sums over the positions of a grid, and the affine maps whose gradients are such sums.

XLA's CPU compiler runs a sum down to a few channels on one core, and folds two sums into one. A barrier
between the sum over the last axis and the rest keeps the first in parallel: 0.5 ms instead of 12.6 for 16
images of 64x64x64 on two cores.
"""

import math

import jax
import jax.numpy as jnp

from vq_jax.ops.barrier import cpu_barrier
from vq_jax.ops.grids import over_grid

_ROW = 64  # an axis that stands alone is summed in rows of at most so many positions


def sum_positions(x: jax.Array) -> jax.Array:
    """The sum over the grid: [b *grid c] to [b c]."""
    if x.ndim == 3:
        b, n, c = x.shape
        row = math.gcd(n, _ROW)
        x = x.reshape(b, n // row, row, c)
    (rows,) = cpu_barrier(jnp.sum(x, axis=x.ndim - 2))
    return jnp.sum(rows, axis=tuple(range(1, rows.ndim - 1)))


@jax.custom_vjp
def shift(x: jax.Array, summand: jax.Array) -> jax.Array:
    """Adds a number to each channel: [c] to [b *grid c]."""
    return x + summand


@jax.custom_vjp
def scale_and_shift(x: jax.Array, factor: jax.Array, summand: jax.Array) -> jax.Array:
    """Multiplies each channel of each example [b *grid c] by a number, and adds one, both [b c]."""
    factor, summand = cpu_barrier(factor, summand)
    return x * over_grid(factor, x) + over_grid(summand, x)


def _shift_fwd(x, summand):  # noqa: ANN001, ANN202
    return x + summand, None


def _shift_bwd(_, g):  # noqa: ANN001, ANN202
    (g,) = cpu_barrier(g)
    return g, jnp.sum(sum_positions(g), axis=0)


def _scale_and_shift_fwd(x, factor, summand):  # noqa: ANN001, ANN202
    return scale_and_shift(x, factor, summand), (x, factor)


def _scale_and_shift_bwd(saved, g):  # noqa: ANN001, ANN202
    x, factor = saved
    return g * over_grid(factor, x), sum_positions(g * x), sum_positions(g)


shift.defvjp(_shift_fwd, _shift_bwd)
scale_and_shift.defvjp(_scale_and_shift_fwd, _scale_and_shift_bwd)

"""Interpolation of grids of any rank, one axis after another, with the weights that PyTorch has."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

_SHARPNESS = -0.75  # `a` of the kernel; Keys himself prefers -0.5


def area(x: jax.Array, grid: Sequence[int]) -> jax.Array:
    """Reduces a grid to one with fewer positions, each the mean of what lies in its part: 'area' of PyTorch.

    Part i of m along an axis of n positions is from `floor(i n / m)` up to `ceil((i + 1) n / m)`: parts
    overlap where m does not divide n.

    Args:
        x: [b *grid' c].
        grid: how many positions the result has along each axis.

    Returns:
        float32 [b *grid c].
    """
    return _interpolated(x, grid, _area_weights)


def bicubic(x: jax.Array, grid: Sequence[int]) -> jax.Array:
    """Enlarges a grid by cubic convolution along each axis: 'bicubic' of PyTorch, `align_corners=False`.

    The kernel is that of Keys 1981 (Cubic convolution interpolation for digital image processing) with
    a = -0.75, and beyond its border the grid goes on as it ends. `jax.image.resize` differs: it leaves out
    what lies beyond the border, and its 'cubic' has a = -0.5.

    Args:
        x: [b *grid' c].
        grid: how many positions the result has along each axis.

    Returns:
        float32 [b *grid c].
    """
    return _interpolated(x, grid, _cubic_weights)


def _interpolated(x: jax.Array, grid: Sequence[int], weights: Callable[[int, int], np.ndarray]) -> jax.Array:
    """Multiplies each axis of a grid with weights [m n] of its old and its new size, n and m."""
    x = x.astype(jnp.float32)
    for axis, m in enumerate(grid, 1):
        n = x.shape[axis]
        if m != n:
            table = jnp.asarray(weights(n, m), jnp.float32)
            x = jnp.tensordot(x, table, (axis, 1), precision=jax.lax.Precision.HIGHEST)
            x = jnp.moveaxis(x, -1, axis)
    return x


def _area_weights(n: int, m: int) -> np.ndarray:
    i, position = np.arange(m)[:, None], np.arange(n)
    within = (position >= i * n // m) & (position < -(-(i + 1) * n // m))
    return within / within.sum(1, keepdims=True)


def _cubic_weights(n: int, m: int) -> np.ndarray:
    at = (np.arange(m) + 0.5) * n / m - 0.5  # centres of the new positions, between those of the old ones
    weights = np.zeros((m, n))
    for tap in range(-1, 3):
        position = np.floor(at).astype(int) + tap
        np.add.at(weights, (np.arange(m), np.clip(position, 0, n - 1)), _kernel(np.abs(at - position)))
    return weights


def _kernel(x: np.ndarray) -> np.ndarray:
    """That of cubic convolution, at distances from 0 to 2."""
    a = _SHARPNESS
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    return np.where(x <= 1, near, a * (x**3 - 5 * x**2 + 8 * x - 4))

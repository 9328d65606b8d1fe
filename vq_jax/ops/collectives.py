"""Reductions over devices that do nothing where there is no device axis.

A step is written once. Under `pmap` it gets the name of the device axis and sees one device's part of
the batch; under `jit` over a mesh, and on one device, it gets `axis_name=None` and sees all of it.
"""

from typing import Any

import jax
import jax.numpy as jnp


def psum(tree: Any, axis_name: str | None) -> Any:
    """The sum of each array over the devices of `axis_name`; the arrays themselves if it is None."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def pmean(tree: Any, axis_name: str | None) -> Any:
    """The mean of each array over the devices of `axis_name`; the arrays themselves if it is None."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def global_size(n: int, axis_name: str | None) -> int:
    """How many rows all devices hold together when each holds `n`."""
    return n if axis_name is None else n * jax.lax.axis_size(axis_name)


def take_global(rows: jax.Array, indices: jax.Array, axis_name: str | None) -> jax.Array:
    """Picks rows of an array that is split over devices, without gathering the whole of it.

    Args:
        rows: this device's rows [n ...]; device i holds rows i*n to (i+1)*n of the whole.
        indices: rows of the whole [m], equal on all devices.
        axis_name: the device axis, or None where `rows` is the whole.

    Returns:
        The rows [m ...], equal on all devices. The traffic is that of the result.
    """
    if axis_name is None:
        return rows[indices]
    local = indices - jax.lax.axis_index(axis_name) * rows.shape[0]
    mine = (local >= 0) & (local < rows.shape[0])
    picked = rows[jnp.clip(local, 0, rows.shape[0] - 1)]
    mine = mine.reshape(mine.shape + (1,) * (rows.ndim - 1))
    return jax.lax.psum(jnp.where(mine, picked, 0), axis_name)

"""Reductions over devices that do nothing where there is no device axis.

A step is written once. Under `pmap` it gets the name of the device axis and sees one device's part of
the batch; under `jit` over a mesh, and on one device, it gets `axis_name=None` and sees all of it.
"""

from typing import Any

import jax


def pmean(tree: Any, axis_name: str | None) -> Any:
    """The mean of each array over the devices of `axis_name`; the arrays themselves if it is None."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def gather(tree: Any, axis_name: str | None) -> Any:
    """The rows [b ...] of each array on all devices of `axis_name`, one device's after another's."""
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), tree)


def global_size(n: int, axis_name: str | None) -> int:
    """How many rows all devices hold together when each holds `n`."""
    return n if axis_name is None else n * jax.lax.axis_size(axis_name)

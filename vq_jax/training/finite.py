"""Whether what a run has learned is finite: parameters, averages, codebooks and the optimizer's state."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vq_jax.training.manifest import by_devices

Checked = list[tuple[list[str], jax.Array]]  # names of arrays, and whether each is finite


def start_finite_check(arrays: Mapping[str, Any]) -> Checked:
    """Starts a computation on the devices, of which little has to be fetched.

    Args:
        arrays: by name, as `vq_jax.training.manifest.flatten` gives those of a state.

    Returns:
        Names of arrays of floating-point numbers, and bool [n], whether all of each is finite; of those on
        the same devices together.
    """
    floats = {n: x for n, x in arrays.items() if jnp.issubdtype(getattr(x, 'dtype', int), jnp.inexact)}
    groups = by_devices(floats)
    return [(list(group), _all_finite(list(group.values())).addressable_data(0)) for group in groups]


def not_finite(checked: Checked) -> list[str]:
    """The names of arrays that hold a value which is not finite, from what `start_finite_check` returned."""
    return [name for names, finite in checked for name, good in zip(names, finite, strict=True) if not good]


def some(names: list[str]) -> str:
    """A few names for a message, and how many more there are."""
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return f'{", ".join(names[:3])}{more}'


@jax.jit
def _all_finite(arrays: list[jax.Array]) -> jax.Array:
    return jnp.array([jnp.isfinite(x).all() for x in arrays], bool)

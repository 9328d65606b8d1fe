"""Whether what a run has learned is finite: parameters, averages, codebooks and the optimizer's state."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vq_jax.training.manifest import start_each


def not_finite(arrays: Mapping[str, Any]) -> list[str]:
    """The names of arrays, as `manifest.flatten` gives those of a state, with a number that is not finite."""
    floats = {n: x for n, x in arrays.items() if jnp.issubdtype(getattr(x, 'dtype', int), jnp.inexact)}
    return [name for name, good in start_each(_finite, floats)().items() if not good]


def some(names: list[str]) -> str:
    """A few names for a message, and how many more there are."""
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return f'{", ".join(names[:3])}{more}'


@jax.jit
def _finite(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x).all()

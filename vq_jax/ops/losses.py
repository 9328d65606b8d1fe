"""Losses, one number for each example; tasks weight and reduce them."""

from typing import Any

import jax
import jax.numpy as jnp


def mean_square(x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean squared difference of examples [b ...], in the square of their unit, float32 [b].

    Of images, Wang and Bovik 2009 (Mean squared error: love it or leave it?).
    """
    return mean_each(jnp.square(x.astype(jnp.float32) - y.astype(jnp.float32)))


def mean_absolute(x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean absolute difference of examples [b ...], in their unit, float32 [b]."""
    return mean_each(jnp.abs(x.astype(jnp.float32) - y.astype(jnp.float32)))


def mean_each(values: jax.Array) -> jax.Array:
    """The mean of the numbers of each example [b ...], [b]."""
    return jnp.mean(values, axis=tuple(range(1, values.ndim)))


def sum_each(values: jax.Array) -> jax.Array:
    """The sum of the numbers of each example [b ...], [b]."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))


def squared_norm_each(tree: Any) -> jax.Array:
    """The squared norm of what a tree of arrays [b ...] has of each example, float32 [b]."""
    return sum(sum_each(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree))

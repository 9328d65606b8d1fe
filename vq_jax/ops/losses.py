"""Losses, one number for each example; tasks weight and reduce them."""

import jax
import jax.numpy as jnp


def mean_square(x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean squared difference of each example, in the square of their unit.

    Of images, Wang and Bovik 2009 (Mean squared error: love it or leave it?).

    Args:
        x: numbers [b ...].
        y: numbers [b ...].

    Returns:
        float32 [b].
    """
    difference = x.astype(jnp.float32) - y.astype(jnp.float32)
    return jnp.mean(jnp.square(difference), axis=tuple(range(1, x.ndim)))


def mean_absolute(x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean absolute difference of each example, in their unit.

    Args:
        x: numbers [b ...].
        y: numbers [b ...].

    Returns:
        float32 [b].
    """
    difference = x.astype(jnp.float32) - y.astype(jnp.float32)
    return jnp.mean(jnp.abs(difference), axis=tuple(range(1, x.ndim)))

"""Dropout with a random key for each example, so that it is the same however a batch is split."""

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, keys: jax.Array | None, rate: float) -> jax.Array:
    """Sets a share of the numbers [b ...] to 0 and divides the others by the rest (Srivastava et al. 2014).

    The share is from 0 to below 1; keys are one for each example [b], and None changes nothing.
    """
    if keys is None or rate == 0:
        return x
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)

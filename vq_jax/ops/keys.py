"""Random keys of examples, which do not depend on how a batch is put together or split, and their noise."""

import jax
import jax.numpy as jnp


def content_keys(items: jax.Array) -> jax.Array:
    """A random key for each image, or grid of tokens, that depends on its content alone.

    Of integers [b ...], keys [b]. Evaluation samples with them, so that its numbers are the same in any batch
    and on any devices.
    """
    return jax.vmap(lambda word: jax.random.fold_in(jax.random.key(0), word))(content_words(items))


def content_words(items: jax.Array) -> jax.Array:
    """A number for each image, or grid of tokens, that depends on its content alone.

    Of integers [b ...], uint32 [b].
    """
    values = items.reshape(items.shape[0], -1).astype(jnp.uint32)
    # A sum with odd factors, modulo 2^32: a change of one number always changes it.
    factors = jax.random.bits(jax.random.key(0), values.shape[1:]) | 1
    return jnp.sum(values * factors, axis=1, dtype=jnp.uint32)


def fold_in(keys: jax.Array | None, number: int | jax.Array) -> jax.Array | None:
    """Other keys [b], for another use; None stays None."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def normal(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal noise for each key [b], of the shape of one example, float32 [b *shape]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)

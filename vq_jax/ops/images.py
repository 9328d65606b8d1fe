"""Bytes and the range [-1, 1], and holes."""

import jax
import jax.numpy as jnp


def to_float(x: jax.Array) -> jax.Array:
    """Bytes, uint8, or samples of sound, int16 [...], as float32 in [-1, 1]; silence is 0."""
    if x.dtype == jnp.int16:
        return x.astype(jnp.float32) / 2**15
    return x.astype(jnp.float32) * (2 / 255) - 1


def to_integers(x: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Numbers in [-1, 1] [...] as what `to_float` takes, uint8 or int16: rounded, and clipped."""
    if dtype == jnp.int16:
        return jnp.round(jnp.clip(x.astype(jnp.float32) * 2**15, -(2**15), 2**15 - 1)).astype(jnp.int16)
    return to_uint8(x)


def to_uint8(images: jax.Array) -> jax.Array:
    """Numbers in [-1, 1] [...] as bytes: rounded, and clipped where they lie outside."""
    return jnp.round(jnp.clip((images.astype(jnp.float32) + 1) * 127.5, 0, 255)).astype(jnp.uint8)


def fill(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Fills the hole of each example with one colour: the mean of the rest, or grey if there is no rest.

    Args:
        x: images or video, uint8 [b *grid c].
        mask: True in the hole, bool [b *grid].
    """
    hole, grid = mask[..., None], tuple(range(1, x.ndim - 1))
    total = jnp.sum(jnp.where(hole, 0.0, x), axis=grid, keepdims=True)
    count = jnp.sum(~hole, axis=grid, keepdims=True)
    mean = jnp.where(count == 0, 127.5, total / jnp.maximum(count, 1))
    return jnp.where(hole, jnp.round(mean).astype(jnp.uint8), x)

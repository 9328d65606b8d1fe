"""Bytes and the range [-1, 1], squares of pixels as channels, and holes."""

import jax
import jax.numpy as jnp


def to_float(images: jax.Array) -> jax.Array:
    """Bytes 0 to 255 [...] as float32 in [-1, 1]."""
    return images.astype(jnp.float32) * (2 / 255) - 1


def to_uint8(images: jax.Array) -> jax.Array:
    """Numbers in [-1, 1] [...] as bytes: rounded, and clipped where they lie outside."""
    return jnp.round(jnp.clip((images.astype(jnp.float32) + 1) * 127.5, 0, 255)).astype(jnp.uint8)


def fill(images: jax.Array, mask: jax.Array) -> jax.Array:
    """Images whose holes have one colour, the mean of the rest, or grey if there is no rest.

    Args:
        images: uint8 [b h w c].
        mask: True in the hole, bool [b h w].
    """
    hole = mask[..., None]
    total = jnp.sum(jnp.where(hole, 0.0, images), axis=(1, 2), keepdims=True)
    count = jnp.sum(~hole, axis=(1, 2), keepdims=True)
    mean = jnp.where(count == 0, 127.5, total / jnp.maximum(count, 1))
    return jnp.where(hole, jnp.round(mean).astype(jnp.uint8), images)


def to_patches(x: jax.Array, size: int) -> jax.Array:
    """Squares of pixels as channels: [b h w c] to [b h/size w/size size*size*c]."""
    b, h, w, c = x.shape
    squares = x.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(b, h // size, w // size, -1)


def from_patches(x: jax.Array, size: int) -> jax.Array:
    """And back: [b h w size*size*c] to [b h*size w*size c]."""
    b, h, w, _ = x.shape
    squares = x.reshape(b, h, w, size, size, -1).transpose(0, 1, 3, 2, 4, 5)
    return squares.reshape(b, h * size, w * size, -1)

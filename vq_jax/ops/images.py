"""Between bytes and the range [-1, 1]."""

import jax
import jax.numpy as jnp


def to_float(images: jax.Array) -> jax.Array:
    """Bytes 0 to 255 [...] as float32 in [-1, 1]."""
    return images.astype(jnp.float32) * (2 / 255) - 1


def to_uint8(images: jax.Array) -> jax.Array:
    """Numbers in [-1, 1] [...] as bytes: rounded, and clipped where they lie outside."""
    return jnp.round(jnp.clip((images.astype(jnp.float32) + 1) * 127.5, 0, 255)).astype(jnp.uint8)

"""Bytes and the range [-1, 1], and holes."""

import jax
import jax.numpy as jnp


def level(dtype: jax.typing.DTypeLike) -> float:
    """How far neighbouring integers of a type that `to_float` takes lie apart in [-1, 1]."""
    return 2**-15 if dtype == jnp.int16 else 2 / 255


def to_float(x: jax.Array) -> jax.Array:
    """Bytes, uint8, or samples of sound, int16 [...], as float32 in [-1, 1]; silence is 0."""
    return x.astype(jnp.float32) * level(x.dtype) - (0 if x.dtype == jnp.int16 else 1)


def to_integers(x: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Numbers in [-1, 1] [...] as what `to_float` takes, uint8 or int16: rounded, and clipped."""
    if dtype == jnp.int16:
        return jnp.round(jnp.clip(x.astype(jnp.float32) * 2**15, -(2**15), 2**15 - 1)).astype(jnp.int16)
    return to_uint8(x)


def to_uint8(images: jax.Array) -> jax.Array:
    """Numbers in [-1, 1] [...] as bytes: rounded, and clipped where they lie outside."""
    return jnp.round(jnp.clip((images.astype(jnp.float32) + 1) * 127.5, 0, 255)).astype(jnp.uint8)


def fill(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Fills the hole of each example with something that what is beside it is encoded well with.

    A position of a video has what is there in the nearest frame in which it is no hole, the earlier of two.
    All else has the mean of the rest, or if there is none, grey or silence.

    Args:
        x: as `to_float` takes it, [b *grid c].
        mask: True in the hole, bool [b *grid].
    """
    hole, grid = mask[..., None], tuple(range(1, x.ndim - 1))
    total = jnp.sum(jnp.where(hole, 0.0, x), axis=grid, keepdims=True)
    count = jnp.sum(~hole, axis=grid, keepdims=True)
    middle = 0 if x.dtype == jnp.int16 else 127.5
    mean = jnp.where(count == 0, middle, total / jnp.maximum(count, 1))
    filled = jnp.where(hole, jnp.round(mean).astype(x.dtype), x)
    return _from_nearest_frames(filled, hole) if x.ndim == 5 else filled


def _from_nearest_frames(x: jax.Array, hole: jax.Array) -> jax.Array:
    """Videos [b t h w c] whose hole [b t h w 1] has what is in the nearest frames, where there is any."""
    t = x.shape[1]
    frame = jnp.arange(t)[:, None, None, None]
    before = jax.lax.cummax(jnp.where(hole, -2 * t, frame), axis=1)
    after = jax.lax.cummin(jnp.where(hole, 2 * t, frame), axis=1, reverse=True)
    nearest = jnp.where(frame - before <= after - frame, before, after)
    return jnp.take_along_axis(x, jnp.where(hole.all(1, keepdims=True), frame, nearest), axis=1)

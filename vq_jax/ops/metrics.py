"""What is reported of a model but not learned from, one number for each example."""

import jax
import jax.numpy as jnp

from vq_jax.ops.losses import mean_square


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio of pairs of examples, uint8 or int16 [b ...], in decibels, float32 [b].

    `10 log10(L^2 / MSE)` with L the range of the integers, 255 of bytes, as in Wang and Bovik 2009 (Mean
    squared error: love it or leave it?). Equal examples, whose ratio is infinite, are given that of a
    difference of one in one of their values, so that a mean over a data set stays finite.
    """
    error = jnp.maximum(mean_square(x, y), 1 / x[0].size)
    span = float(jnp.iinfo(x.dtype).max) - jnp.iinfo(x.dtype).min
    return 20 * jnp.log10(span) - 10 * jnp.log10(error)

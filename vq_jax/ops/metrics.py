"""What is reported of a model but not learned from, one number for each example."""

import jax
import jax.numpy as jnp

from vq_jax.ops.losses import mean_square


def snr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Signal-to-noise ratio of sounds x that stand for y, int16 [b ...], in decibels, float32 [b].

    `10 log10(sum(y^2) / sum((y - x)^2))`, over all values of an example: 0 is no better than silence. Both
    sums are at least 1, so that a mean over a data set stays finite.
    """
    power, error = (jnp.maximum(mean_square(y, other), 1 / y[0].size) for other in (jnp.zeros_like(y), x))
    return 10 * jnp.log10(power / error)


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio of pairs of examples, uint8 or int16 [b ...], in decibels, float32 [b].

    `10 log10(L^2 / MSE)` with L the range of the integers, 255 of bytes, as in Wang and Bovik 2009 (Mean
    squared error: love it or leave it?). Equal examples, whose ratio is infinite, are given that of a
    difference of one in one of their values, so that a mean over a data set stays finite.
    """
    error = jnp.maximum(mean_square(x, y), 1 / x[0].size)
    span = float(jnp.iinfo(x.dtype).max) - jnp.iinfo(x.dtype).min
    return 20 * jnp.log10(span) - 10 * jnp.log10(error)

"""What is reported of a model but not learned from, one number for each example."""

import jax
import jax.numpy as jnp

from vq_jax.ops.losses import mean_square


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio of each pair of byte images, in decibels.

    `10 log10(255^2 / MSE)`, as in Wang and Bovik 2009 (Mean squared error: love it or leave it?). Equal
    images, whose ratio is infinite, are given that of a difference of one level in one of their values, so
    that a mean over a data set stays finite.

    Args:
        x: uint8 images [b h w c].
        y: uint8 images [b h w c].

    Returns:
        float32 [b].
    """
    error = jnp.maximum(mean_square(x, y), 1 / x[0].size)
    return 20 * jnp.log10(255.0) - 10 * jnp.log10(error)

"""Diagonal Gaussians: the posterior of a VAE and its distance to the prior. Variances are logarithms."""

import math

import jax
import jax.numpy as jnp

from vq_jax.ops.keys import normal


def sample(keys: jax.Array, mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Draws with the reparameterisation of Kingma and Welling 2014 (arXiv:1312.6114), section 2.4.

    Args:
        keys: a random key for each example [b].
        mean: means [b ...].
        log_variance: logarithms of variances [b ...].

    Returns:
        `mean + exp(log_variance / 2) * noise`, float32 [b ...].
    """
    return mean + jnp.exp(0.5 * log_variance) * normal(keys, mean.shape[1:])


def kl_to_standard(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """The Kullback-Leibler divergence of each dimension from the standard normal, in nats.

    Kingma and Welling 2014 (arXiv:1312.6114), appendix B, before the sum over dimensions.

    Args:
        mean: means [...].
        log_variance: logarithms of variances [...].

    Returns:
        `(mean^2 + variance - 1 - log variance) / 2`, [...], never negative.
    """
    # Not exp - 1, which cancels near 0 and can make the whole negative.
    return 0.5 * (jnp.square(mean) + (jnp.expm1(log_variance) - log_variance))


def kl(
    mean: jax.Array, log_variance: jax.Array, other_mean: jax.Array, other_log_variance: jax.Array
) -> jax.Array:
    """The Kullback-Leibler divergence of each dimension from another Gaussian, in nats.

    Args:
        mean: means [...].
        log_variance: logarithms of variances, of a shape that broadcasts, as the rest.
        other_mean: means of the other.
        other_log_variance: logarithms of its variances.

    Returns:
        [...], never negative but for rounding.
    """
    ratio = log_variance - other_log_variance
    squares = jnp.square(mean - other_mean) * jnp.exp(-other_log_variance)
    return 0.5 * (jnp.expm1(ratio) - ratio + squares)


def log_density(x: jax.Array, mean: jax.Array | float, log_variance: jax.Array | float) -> jax.Array:
    """The logarithm of the density of each dimension, in nats.

    Args:
        x: numbers [...].
        mean: means, of a shape that broadcasts to that of x.
        log_variance: logarithms of variances, likewise.

    Returns:
        `log N(x; mean, variance)` [...].
    """
    squares = jnp.square(x - mean) * jnp.exp(-jnp.asarray(log_variance))
    return -0.5 * (math.log(2 * math.pi) + log_variance + squares)

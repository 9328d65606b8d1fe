"""Diagonal Gaussians: the posterior of a VAE and its distance to the prior. Variances are logarithms."""

import math

import jax
import jax.numpy as jnp

from vq_jax.ops.keys import normal


def sample(keys: jax.Array, mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Samples with the reparameterisation of Kingma and Welling 2014 (arXiv:1312.6114), section 2.4.

    `mean + exp(log_variance / 2) * noise`, float32 [b ...], with noise of a random key for each example [b].
    """
    return mean + jnp.exp(0.5 * log_variance) * normal(keys, mean.shape[1:])


def kl_to_standard(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """The Kullback-Leibler divergence of each dimension from the standard normal, in nats.

    `(mean^2 + variance - 1 - log variance) / 2`, [...], never negative: Kingma and Welling 2014
    (arXiv:1312.6114), appendix B, before the sum over dimensions.
    """
    # Not exp - 1, which cancels near 0 and can make the whole negative.
    return 0.5 * (jnp.square(mean) + (jnp.expm1(log_variance) - log_variance))


def kl(
    mean: jax.Array, log_variance: jax.Array, other_mean: jax.Array, other_log_variance: jax.Array
) -> jax.Array:
    """The Kullback-Leibler divergence of each dimension from another Gaussian, in nats.

    Of arrays that broadcast to [...]; never negative but for rounding.
    """
    ratio = log_variance - other_log_variance
    squares = jnp.square(mean - other_mean) * jnp.exp(-other_log_variance)
    return 0.5 * (jnp.expm1(ratio) - ratio + squares)


def log_density(x: jax.Array, mean: jax.Array | float, log_variance: jax.Array | float) -> jax.Array:
    """`log N(x; mean, variance)` of each dimension, in nats, of arrays that broadcast to that of x [...]."""
    squares = jnp.square(x - mean) * jnp.exp(-jnp.asarray(log_variance))
    return -0.5 * (math.log(2 * math.pi) + log_variance + squares)

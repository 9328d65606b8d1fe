"""How probable images are under a decoder's outputs: log-likelihoods in nats, one for each example.

Images are bytes brought to [-1, 1], where neighbouring levels lie `LEVEL` apart.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from vq_jax.ops import gaussians

LEVEL = 2 / 255  # the distance between neighbouring levels of bytes brought to [-1, 1]


def bernoulli(x: jax.Array, logits: jax.Array) -> jax.Array:
    """Independent pixels that are black or white.

    Args:
        x: pixels, 0 or 1 [b ...].
        logits: of the probability of 1 [b ...].

    Returns:
        `sum x log p + (1 - x) log(1 - p)`, [b].
    """
    return _sum(x * logits - jax.nn.softplus(logits))


def gaussian(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Independent values with a normal density.

    A density is not a probability. The log-probability of the bytes themselves is bounded from below
    by `gaussian(x + u) + d log LEVEL`, with u uniform over one level (see `dequantize`) and d the
    number of values (Theis et al. 2016, arXiv:1511.01844, section 3.1).

    Args:
        x: values in [-1, 1] [b ...].
        mean: means [b ...].
        log_scale: logarithm of the standard deviation, of a shape that broadcasts.

    Returns:
        The sum of the log-densities, [b].
    """
    return _sum(gaussians.log_density(x, mean, 2 * log_scale))


def discretised_logistic(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Bytes whose level is that into which a logistic variable falls.

    The first and the last level take the tails, so that the 256 probabilities sum to one (Kingma et
    al. 2016, arXiv:1606.04934, appendix C.3; Salimans et al. 2017, arXiv:1701.05517, equation 2).

    Args:
        x: bytes brought to [-1, 1] [b ...].
        mean: means [b ...].
        log_scale: logarithm of the logistic's scale, of a shape that broadcasts.

    Returns:
        The sum of the log-probabilities, [b].
    """
    inverse = jnp.exp(-log_scale)
    above = (x + LEVEL / 2 - mean) * inverse
    below = (x - LEVEL / 2 - mean) * inverse
    # log(sigmoid(above) - sigmoid(below)), from terms that do not cancel: with w = above - below it is
    # log(1 - exp(-w)) + log sigmoid(above) + log sigmoid(-below).
    width = jnp.maximum(LEVEL * inverse, 1e-12)
    inner = jnp.log(-jnp.expm1(-width)) + jax.nn.log_sigmoid(above) + jax.nn.log_sigmoid(-below)
    log_p = jnp.where(
        x < -1 + LEVEL / 2,
        jax.nn.log_sigmoid(above),
        jnp.where(x > 1 - LEVEL / 2, jax.nn.log_sigmoid(-below), inner),
    )
    return _sum(log_p)


def discretised_gaussian(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Bytes whose level is that into which a normal variable falls; the outer levels take the tails.

    Ho et al. 2020 (arXiv:2006.11239), equation 13.

    Args:
        x: bytes brought to [-1, 1] [b ...].
        mean: means [b ...].
        log_scale: logarithm of the standard deviation, of a shape that broadcasts.

    Returns:
        The sum of the log-probabilities, [b].
    """
    inverse = jnp.exp(-log_scale)
    above = jnp.where(x > 1 - LEVEL / 2, jnp.inf, (x + LEVEL / 2 - mean) * inverse)
    below = jnp.where(x < -1 + LEVEL / 2, -jnp.inf, (x - LEVEL / 2 - mean) * inverse)
    # In the left tail, where logarithms of the distribution function keep their digits.
    right = below > 0
    above, below = jnp.where(right, -below, above), jnp.where(right, -above, below)
    log_above, log_below = log_ndtr(above), log_ndtr(below)
    return _sum(log_above + jnp.log1p(-jnp.exp(jnp.minimum(log_below - log_above, -1e-7))))


def binarize(keys: jax.Array, x: jax.Array) -> jax.Array:
    """Draws black or white pixels whose probability of white is the grey value.

    Salakhutdinov and Murray 2008, "On the quantitative analysis of deep belief networks", section 5.

    Args:
        keys: a random key for each example [b].
        x: grey values in [-1, 1] [b ...].

    Returns:
        0 or 1, float32 [b ...].
    """
    uniform = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:]))(keys)
    return (uniform < (x + 1) / 2).astype(jnp.float32)


def dequantize(keys: jax.Array, x: jax.Array) -> jax.Array:
    """Spreads each byte evenly over its level, which makes a density of it (see `gaussian`).

    Args:
        keys: a random key for each example [b].
        x: bytes brought to [-1, 1] [b ...].

    Returns:
        `x + u`, u uniform in [-LEVEL/2, LEVEL/2], [b ...].
    """
    half = LEVEL / 2
    return x + jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:], minval=-half, maxval=half))(keys)


def bits_per_dimension(nats: jax.Array | float, dimensions: int) -> jax.Array | float:
    """Negative log-likelihoods per value, in bits, as van den Oord et al. 2016 (arXiv:1601.06759) give them.

    Args:
        nats: log-likelihoods of whole examples.
        dimensions: how many values an example has.
    """
    return -nats / (dimensions * math.log(2))


def _sum(values: jax.Array) -> jax.Array:
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))

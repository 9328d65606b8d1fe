"""How probable examples are under a decoder's outputs: log-likelihoods in nats, one for each.

Examples are bytes brought to [-1, 1], where neighbouring levels lie `LEVEL` apart, or where a function takes
a `dtype`, what `vq_jax.ops.images.to_float` makes of integers of that type. Arguments are those of the
examples x [b ...], or of shapes that broadcast to it; of logistic and normal variables `log_scale` is the
logarithm of the scale, or of the standard deviation. All likelihoods are sums over an example, [b].
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from vq_jax.ops import gaussians
from vq_jax.ops.images import level, to_float
from vq_jax.ops.losses import sum_each

LEVEL = level(jnp.uint8)  # the distance between neighbouring levels of bytes brought to [-1, 1]


def bernoulli(x: jax.Array, logits: jax.Array) -> jax.Array:
    """`sum x log p + (1 - x) log(1 - p)` of independent pixels, 0 or 1, and logits of 1."""
    return sum_each(x * logits - jax.nn.softplus(logits))


def categorical(x: jax.Array, logits: jax.Array) -> jax.Array:
    """Independent one-hot vectors x [b n k], of each of which there are logits; zeros are no observation."""
    return sum_each(x * jax.nn.log_softmax(logits))


def gaussian(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Independent values with a normal density.

    A density is not a probability. The log-probability of the bytes themselves is bounded from below
    by `gaussian(x + u) + d log LEVEL`, with u uniform over one level (see `dequantize`) and d the
    number of values (Theis et al. 2016, arXiv:1511.01844, section 3.1).
    """
    return sum_each(gaussians.log_density(x, mean, 2 * log_scale))


def discretised_logistic(
    x: jax.Array, mean: jax.Array, log_scale: jax.Array, dtype: jax.typing.DTypeLike = jnp.uint8
) -> jax.Array:
    """Integers whose level is that into which a logistic variable falls.

    The first and the last level take the tails, so that the probabilities sum to one (Kingma et al. 2016,
    arXiv:1606.04934, appendix C.3; Salimans et al. 2017, arXiv:1701.05517, equation 2).
    """
    apart, last = level(dtype), to_float(jnp.array(jnp.iinfo(dtype).max, dtype))
    inverse = jnp.exp(-log_scale)
    above = (x + apart / 2 - mean) * inverse
    below = (x - apart / 2 - mean) * inverse
    # log(sigmoid(above) - sigmoid(below)), from terms that do not cancel: with w = above - below it is
    # log(1 - exp(-w)) + log sigmoid(above) + log sigmoid(-below).
    width = jnp.maximum(apart * inverse, 1e-12)
    inner = jnp.log(-jnp.expm1(-width)) + jax.nn.log_sigmoid(above) + jax.nn.log_sigmoid(-below)
    log_p = jnp.where(
        x < -1 + apart / 2,
        jax.nn.log_sigmoid(above),
        jnp.where(x > last - apart / 2, jax.nn.log_sigmoid(-below), inner),
    )
    return sum_each(log_p)


def discretised_gaussian(x: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Bytes whose level is that into which a normal variable falls; the outer levels take the tails.

    Ho et al. 2020 (arXiv:2006.11239), equation 13.
    """
    inverse = jnp.exp(-log_scale)
    above = jnp.where(x > 1 - LEVEL / 2, jnp.inf, (x + LEVEL / 2 - mean) * inverse)
    below = jnp.where(x < -1 + LEVEL / 2, -jnp.inf, (x - LEVEL / 2 - mean) * inverse)
    # In the left tail, where logarithms of the distribution function keep their digits.
    right = below > 0
    above, below = jnp.where(right, -below, above), jnp.where(right, -above, below)
    log_above, log_below = log_ndtr(above), log_ndtr(below)
    return sum_each(log_above + jnp.log1p(-jnp.exp(jnp.minimum(log_below - log_above, -1e-7))))


def binarize(keys: jax.Array, x: jax.Array) -> jax.Array:
    """Samples pixels, 0 or 1, whose probability of 1 is the grey value x in [-1, 1], float32 [b ...].

    With a key for each example [b]. Salakhutdinov and Murray 2008, "On the quantitative analysis of deep
    belief networks", section 5.
    """
    uniform = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:]))(keys)
    return (uniform < (x + 1) / 2).astype(jnp.float32)


def dequantize(keys: jax.Array, x: jax.Array, dtype: jax.typing.DTypeLike = jnp.uint8) -> jax.Array:
    """Spreads each integer evenly over its level, which makes a density of it (see `gaussian`).

    `x + u` [b ...], u uniform in half a level either way, by a random key for each example [b].
    """
    half = level(dtype) / 2
    return x + jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:], minval=-half, maxval=half))(keys)


def bits_per_dimension(nats: jax.Array | float, dimensions: float) -> jax.Array | float:
    """Negative log-likelihoods per value, in bits, as van den Oord et al. 2016 (arXiv:1601.06759) give them.

    Of log-likelihoods of whole examples, with so many dimensions.
    """
    return -nats / (dimensions * math.log(2))

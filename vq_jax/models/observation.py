"""The distribution of examples that a decoder's outputs describe, and the form in which it sees them."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from vq_jax.ops import likelihoods
from vq_jax.ops.images import level

Likelihood = Literal['bernoulli', 'gaussian', 'discretised_logistic']  # of numbers
CATEGORICAL = 'categorical'


@struct.dataclass
class Distribution:
    """A distribution of examples, whose values are independent.

    Attributes:
        outputs: logits of the value 1 against -1, or means of a normal density or of a discretised
            logistic, about in [-1, 1] [b *grid c]; or logits of the c tokens of text [b n c].
        log_scale: of each channel [c]; None for the Bernoulli and the categorical distribution.
        likelihood: which of them.
        dtype: of the integers that examples travel as.
    """

    outputs: jax.Array
    log_scale: jax.Array | None
    likelihood: Likelihood | Literal['categorical'] = struct.field(pytree_node=False)
    dtype: jax.typing.DTypeLike = struct.field(pytree_node=False, default=jnp.uint8)

    def log_probability(self, x: jax.Array) -> jax.Array:
        """Of observed examples in [-1, 1] [b *grid c] (see `Observation.observe`), in nats [b].

        For the Gaussian, of integers: the density times the distance between neighbouring ones. For the
        categorical, of one-hot vectors [b n c], which are zeros where nothing is predicted.
        """
        if self.likelihood == CATEGORICAL:
            return likelihoods.categorical(x, self.outputs)
        if self.likelihood == 'bernoulli':
            return likelihoods.bernoulli((x + 1) / 2, self.outputs)
        if self.likelihood == 'discretised_logistic':
            return likelihoods.discretised_logistic(x, self.outputs, self.log_scale, self.dtype)
        width = math.prod(x.shape[1:]) * math.log(level(self.dtype))
        return likelihoods.gaussian(x, self.outputs, self.log_scale) + width

    def mean(self) -> jax.Array:
        """The expected example, clipped to [-1, 1] [b *grid c]; of text, the probabilities of tokens."""
        if self.likelihood == CATEGORICAL:
            return jax.nn.softmax(self.outputs)
        if self.likelihood == 'bernoulli':
            return jax.nn.sigmoid(self.outputs) * 2 - 1
        return jnp.clip(self.outputs, -1, 1)


class Observation(nn.Module):
    """The last step of a decoder that is a likelihood.

    Attributes:
        likelihood: 'bernoulli' for values that are -1 or 1, such as black and white pixels; 'gaussian' and
            'discretised_logistic' for integers, with a scale that is learned for each channel; 'categorical'
            for tokens of text.
        dtype: of these integers, uint8 or int16 (see `vq_jax.ops.images.to_float`).
    """

    likelihood: Likelihood | Literal['categorical'] = 'bernoulli'
    dtype: jax.typing.DTypeLike = jnp.uint8

    @nn.compact
    def __call__(self, outputs: jax.Array) -> Distribution:
        """The distribution that a decoder's outputs [b *grid c] are the parameters of."""
        log_scale = None
        if self.likelihood not in ('bernoulli', CATEGORICAL):
            start = nn.initializers.constant(math.log(0.2))
            log_scale = self.param('log_scale', start, (outputs.shape[-1],))
        return Distribution(outputs.astype(jnp.float32), log_scale, self.likelihood, self.dtype)

    def observe(self, keys: jax.Array, x: jax.Array) -> jax.Array:
        """Brings examples into the form that the likelihood is one of, still in [-1, 1].

        For Bernoulli, samples -1 or 1 with x [b *grid c] as the mean, by a random key for each example [b];
        for the Gaussian, spreads each integer evenly as far as the middle between it and its neighbours; for
        the discretised logistic and the categorical, leaves x as it is.
        """
        if self.likelihood == 'bernoulli':
            return likelihoods.binarize(keys, x) * 2 - 1
        return likelihoods.dequantize(keys, x, self.dtype) if self.likelihood == 'gaussian' else x


def expected(outputs: jax.Array | Distribution) -> jax.Array:
    """The examples [b *grid c] that a decoder made, or the mean of the distribution it described."""
    return outputs.mean() if isinstance(outputs, Distribution) else outputs

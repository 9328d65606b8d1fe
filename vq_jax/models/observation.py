"""What a decoder's outputs say about pixels: their distribution, and the form in which it sees them."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from vq_jax.ops import likelihoods

Likelihood = Literal['bernoulli', 'gaussian', 'discretised_logistic']


@struct.dataclass
class PixelDistribution:
    """A distribution of images, whose pixels are independent.

    Attributes:
        outputs: logits of white pixels, or means of a normal density or of a discretised logistic, about
            in [-1, 1] [b h w c].
        log_scale: of each channel [c]; None for black and white pixels.
        likelihood: which of them.
    """

    outputs: jax.Array
    log_scale: jax.Array | None
    likelihood: Likelihood = struct.field(pytree_node=False)

    def log_probability(self, x: jax.Array) -> jax.Array:
        """Of observed images [b h w c] in [-1, 1] (see `Observation.observe`), in nats [b].

        For the Gaussian, of bytes: the density times the width of a level.
        """
        if self.likelihood == 'bernoulli':
            return likelihoods.bernoulli((x + 1) / 2, self.outputs)
        if self.likelihood == 'discretised_logistic':
            return likelihoods.discretised_logistic(x, self.outputs, self.log_scale)
        width = math.prod(x.shape[1:]) * math.log(likelihoods.LEVEL)
        return likelihoods.gaussian(x, self.outputs, self.log_scale) + width

    def image(self) -> jax.Array:
        """What people are shown of it: expected black and white pixels, or means, in [-1, 1] [b h w c]."""
        if self.likelihood == 'bernoulli':
            return jax.nn.sigmoid(self.outputs) * 2 - 1
        return jnp.clip(self.outputs, -1, 1)


class Observation(nn.Module):
    """The last step of a decoder that is a likelihood.

    Attributes:
        likelihood: 'bernoulli' for black and white pixels; 'gaussian' and 'discretised_logistic' for bytes,
            with a scale that is learned for each channel.
    """

    likelihood: Likelihood = 'bernoulli'

    @nn.compact
    def __call__(self, outputs: jax.Array) -> PixelDistribution:
        """The distribution that a decoder's outputs [b h w c] are the parameters of."""
        log_scale = None
        if self.likelihood != 'bernoulli':
            start = nn.initializers.constant(math.log(0.2))
            log_scale = self.param('log_scale', start, (outputs.shape[-1],))
        return PixelDistribution(outputs.astype(jnp.float32), log_scale, self.likelihood)

    def observe(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Images in [-1, 1] in the form that the likelihood is one of, still in [-1, 1].

        Bernoulli draws black or white pixels, Gaussian spreads bytes over their level; the discretised
        logistic takes bytes as they are.

        Args:
            keys: a random key for each [b].
            images: [b h w c].
        """
        if self.likelihood == 'bernoulli':
            return likelihoods.binarize(keys, images) * 2 - 1
        return likelihoods.dequantize(keys, images) if self.likelihood == 'gaussian' else images


def to_image(outputs: jax.Array | PixelDistribution) -> jax.Array:
    """Images [b h w c] of what a decoder made: of a distribution, or those it painted itself."""
    return outputs.image() if isinstance(outputs, PixelDistribution) else outputs

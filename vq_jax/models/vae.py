"""The VAE: an encoder, a Gaussian latent, a decoder and the likelihood of its outputs."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.models.autoencoder import Decoder, Encoder
from vq_jax.models.gaussian import GaussianBottleneck, Posterior
from vq_jax.ops import likelihoods

Likelihood = Literal['bernoulli', 'gaussian', 'discretised_logistic']


@dataclasses.dataclass(frozen=True)
class MLPSizes:
    """Sizes of a fully connected encoder and decoder.

    Attributes:
        hidden: units of the encoder's layers; the decoder has them in reverse order.
        activation: after each of them. 'tanh' is odd: in a short run, latents opposite to those of the
            data can decode to negatives of pictures.
    """

    hidden: tuple[int, ...] = (200, 200)
    activation: Literal['tanh', 'relu'] = 'relu'


@dataclasses.dataclass(frozen=True)
class ConvolutionalSizes:
    """Sizes of the strided encoder and decoder of the VQ-VAE around a latent.

    Attributes:
        channels: channels of encoder and decoder.
        stages: how often height and width are halved.
        residual_blocks: residual blocks in each of encoder and decoder.
        residual_channels: channels inside them.
        dtype: what the layers compute in.
    """

    channels: int = 64
    stages: int = 3
    residual_blocks: int = 2
    residual_channels: int = 32
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        for name in ('channels', 'stages', 'residual_channels'):
            if getattr(self, name) < 1:
                raise UserError(f'config.convolutional.{name} is {getattr(self, name)}; give 1 or more.')


class MLPEncoder(nn.Module):
    """Pictures to vectors, through layers that are all connected.

    Attributes:
        sizes: see `MLPSizes`.
    """

    sizes: MLPSizes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b h w c] to [b hidden]."""
        # Black is 0 here: with it at -1, its many pixels drive the first layer into saturation.
        grey = (x.reshape(x.shape[0], -1) + 1) / 2
        return _hidden(grey, self.sizes.hidden, self.sizes.activation)


class MLPDecoder(nn.Module):
    """Vectors to pictures, through layers that are all connected.

    Attributes:
        sizes: see `MLPSizes`.
        image_shape: [h w c].
    """

    sizes: MLPSizes
    image_shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps [b d] to [b h w c]."""
        x = _hidden(z, self.sizes.hidden[::-1], self.sizes.activation)
        return nn.Dense(math.prod(self.image_shape))(x).reshape(-1, *self.image_shape)


class FlatEncoder(nn.Module):
    """The strided encoder, whose grid becomes one vector.

    Attributes:
        sizes: see `ConvolutionalSizes`.
    """

    sizes: ConvolutionalSizes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b h w c] to [b d]."""
        x = Encoder(features=self.sizes.channels, **dataclasses.asdict(self.sizes))(x)
        return nn.relu(x).reshape(x.shape[0], -1)


class FlatDecoder(nn.Module):
    """The strided decoder, whose grid is made of one vector.

    Attributes:
        sizes: see `ConvolutionalSizes`.
        image_shape: [h w c].
    """

    sizes: ConvolutionalSizes
    image_shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps [b d] to [b h w c]."""
        h, w, c = self.image_shape
        factor = 2**self.sizes.stages
        grid = (h // factor, w // factor, self.sizes.channels)
        x = nn.relu(nn.Dense(math.prod(grid))(z)).reshape(-1, *grid)
        return Decoder(features=c, **dataclasses.asdict(self.sizes))(x)


class VAE(nn.Module):
    """The variational autoencoder of Kingma and Welling 2014 (arXiv:1312.6114).

    Attributes:
        encoder: pictures [b h w c] to features [b ... d]; a vector or a grid of them.
        latent: the Gaussian that is made of the features.
        decoder: latents to outputs [b h w c].
        image_channels: 1 for grey pictures, 3 for colour.
        likelihood: what the outputs are parameters of: logits of black and white pixels, or means of
            a normal density or of a discretised logistic, whose scale is learned for each channel.
    """

    encoder: nn.Module
    latent: GaussianBottleneck
    decoder: nn.Module
    image_channels: int = 3
    likelihood: Likelihood = 'bernoulli'

    def setup(self) -> None:  # noqa: D102 (Flax's)
        if self.likelihood != 'bernoulli':
            start = nn.initializers.constant(math.log(0.2))
            self.log_scale = self.param('log_scale', start, (self.image_channels,))

    def __call__(self, images: jax.Array) -> tuple[jax.Array, Posterior]:
        """The outputs of pictures [b h w c] in [-1, 1] at the means of their posteriors."""
        posterior = self.posterior(images)
        return self.log_probability(images, posterior.mean), posterior

    def posterior(self, images: jax.Array) -> Posterior:
        """The Gaussian of pictures [b h w c] in [-1, 1]."""
        return self.latent.posterior(self.encoder(images))

    def observe(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Pictures in [-1, 1] in the form that the likelihood is one of, still in [-1, 1].

        Bernoulli draws black or white pixels, Gaussian spreads bytes over their level; the discretised
        logistic takes bytes as they are.

        Args:
            keys: a random key for each [b].
            images: [b h w c].
        """
        if self.likelihood == 'bernoulli':
            return likelihoods.binarize(keys, images) * 2 - 1
        return likelihoods.dequantize(keys, images) if self.likelihood == 'gaussian' else images

    def log_probability(self, x: jax.Array, z: jax.Array) -> jax.Array:
        """`log p(x | z)` of observed pictures [b h w c] and latents [b ... d], in nats [b].

        For the Gaussian, of bytes: the density times the width of a level.
        """
        outputs = self._outputs(z)
        if self.likelihood == 'bernoulli':
            return likelihoods.bernoulli((x + 1) / 2, outputs)
        if self.likelihood == 'discretised_logistic':
            return likelihoods.discretised_logistic(x, outputs, self.log_scale)
        width = math.prod(x.shape[1:]) * math.log(likelihoods.LEVEL)
        return likelihoods.gaussian(x, outputs, self.log_scale) + width

    def encode(self, images: jax.Array) -> jax.Array:
        """The means [b ... d] of the posteriors of pictures [b h w c] in [-1, 1]."""
        return self.posterior(images).mean

    def decode(self, z: jax.Array) -> jax.Array:
        """The expected pictures [b h w c] of latents [b ... d], in [-1, 1]."""
        outputs = self._outputs(z)
        if self.likelihood == 'bernoulli':
            return jax.nn.sigmoid(outputs) * 2 - 1
        return jnp.clip(outputs, -1, 1)

    def _outputs(self, z: jax.Array) -> jax.Array:
        return self.decoder(self.latent.lookup(z)).astype(jnp.float32)


def _hidden(x: jax.Array, widths: tuple[int, ...], activation: str) -> jax.Array:
    """Connected layers; called inside a module's compact method."""
    function = {'tanh': jnp.tanh, 'relu': nn.relu}[activation]
    for width in widths:
        x = function(nn.Dense(width)(x))
    return x

"""The VAE: an encoder, a Gaussian latent, a decoder and the distribution of pixels it describes."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.models.autoencoder import Decoder, Encoder
from vq_jax.models.observation import Observation, PixelDistribution
from vq_jax.quantizers.gaussian import GaussianBottleneck, Posterior


@dataclasses.dataclass(frozen=True)
class MLPSizes:
    """Sizes of a fully connected encoder and decoder.

    Attributes:
        hidden: units of the encoder's layers; the decoder has them in reverse order.
        activation: after each of them. 'tanh' is an odd function, so that after a short training a latent z
            may decode to an image and -z to its negative; 'relu' is not.
    """

    hidden: tuple[int, ...] = (200, 200)
    activation: Literal['tanh', 'relu'] = 'relu'

    def __post_init__(self) -> None:
        if any(units < 1 for units in self.hidden):
            raise UserError(f'config.mlp.hidden is {self.hidden}; give 1 or more units to each layer.')


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
        check_least(1, 'config.convolutional.', self, 'channels', 'stages', 'residual_channels')
        check_least(0, 'config.convolutional.', self, 'residual_blocks')


class MLPEncoder(nn.Module):
    """Images to vectors, through layers that are all connected.

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
    """Vectors to images, through layers that are all connected.

    Attributes:
        sizes: see `MLPSizes`.
        shape: [h w c].
    """

    sizes: MLPSizes
    shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps [b d] to [b h w c]."""
        x = _hidden(z, self.sizes.hidden[::-1], self.sizes.activation)
        return nn.Dense(math.prod(self.shape))(x).reshape(-1, *self.shape)


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
        shape: [h w c].
    """

    sizes: ConvolutionalSizes
    shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps [b d] to [b h w c]."""
        h, w, c = self.shape
        factor = 2**self.sizes.stages
        grid = (h // factor, w // factor, self.sizes.channels)
        x = nn.relu(nn.Dense(math.prod(grid))(z)).reshape(-1, *grid)
        return Decoder(features=c, **dataclasses.asdict(self.sizes))(x)


class VAE(nn.Module):
    """The variational autoencoder of Kingma and Welling 2014 (arXiv:1312.6114).

    Attributes:
        encoder: images [b h w c] to features [b ... d]; a vector or a grid of them.
        latent: the Gaussian that is made of the features.
        decoder: latents to outputs [b h w c].
        observation: what the outputs say about pixels.
        image_channels: 1 for grey images, 3 for colour.
    """

    encoder: nn.Module
    latent: GaussianBottleneck
    decoder: nn.Module
    observation: Observation
    image_channels: int = 3

    def __call__(self, images: jax.Array) -> tuple[PixelDistribution, Posterior]:
        """What is made of images [b h w c] in [-1, 1] at the means of their posteriors."""
        posterior = self.posterior(images)
        return self.distribution(posterior.mean), posterior

    def posterior(self, images: jax.Array) -> Posterior:
        """The Gaussian of images [b h w c] in [-1, 1]."""
        return self.latent.posterior(self.encoder(images))

    def distribution(self, z: jax.Array) -> PixelDistribution:
        """`p(x | z)` of latents [b ... d]."""
        return self.observation(self.decoder(self.latent.lookup(z)))

    def encode(self, images: jax.Array) -> jax.Array:
        """The means [b ... d] of the posteriors of images [b h w c] in [-1, 1]."""
        return self.posterior(images).mean

    def decode(self, z: jax.Array) -> jax.Array:
        """The expected images [b h w c] of latents [b ... d], in [-1, 1]."""
        return self.distribution(z).image()


def _hidden(x: jax.Array, widths: tuple[int, ...], activation: str) -> jax.Array:
    """Connected layers; called inside a module's compact method."""
    function = {'tanh': jnp.tanh, 'relu': nn.relu}[activation]
    for width in widths:
        x = function(nn.Dense(width)(x))
    return x

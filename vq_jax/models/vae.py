"""The VAE: an encoder, a Gaussian latent, a decoder and the distribution of examples it describes."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.models.autoencoder import Decoder, Encoder
from vq_jax.models.convolution import check_strides
from vq_jax.models.observation import Distribution, Observation
from vq_jax.ops.grids import per_axis
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
            raise UserError(f'hidden is {self.hidden}; give 1 or more units to each layer.')


@dataclasses.dataclass(frozen=True)
class ConvolutionalSizes:
    """Sizes of the strided encoder and decoder of the VQ-VAE around a latent.

    Attributes:
        channels: channels of encoder and decoder.
        stages: strided convolutions in each of them.
        residual_blocks: residual blocks in each of encoder and decoder.
        residual_channels: channels inside them.
        strides: by which each stage divides the sizes of the grid, one for all axes or one for each.
        dtype: what the layers compute in.
    """

    channels: int = 64
    stages: int = 3
    residual_blocks: int = 2
    residual_channels: int = 32
    strides: tuple[int, ...] = (2,)
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'stages', 'residual_channels')
        check_least(0, self, 'residual_blocks')
        check_strides(self.strides)

    @property
    def factors(self) -> tuple[int, ...]:
        """By how much all stages together divide the sizes of the grid, along all axes or each."""
        return tuple(stride**self.stages for stride in self.strides)


class MLPEncoder(nn.Module):
    """Maps examples to vectors by fully connected layers.

    Attributes:
        sizes: see `MLPSizes`.
    """

    sizes: MLPSizes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b hidden]."""
        # From 0 to 1: with black at -1, its many pixels drive the first layer into saturation.
        values = (x.reshape(x.shape[0], -1) + 1) / 2
        return _hidden(values, self.sizes.hidden, self.sizes.activation)


class MLPDecoder(nn.Module):
    """Maps vectors to examples by fully connected layers.

    Attributes:
        sizes: see `MLPSizes`.
        shape: of an example, (*grid, c).
    """

    sizes: MLPSizes
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps [b d] to [b *grid c]."""
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
        """Maps [b *grid c] to [b d]."""
        x = Encoder(features=self.sizes.channels, **dataclasses.asdict(self.sizes))(x)
        return nn.relu(x).reshape(x.shape[0], -1)


class FlatDecoder(nn.Module):
    """The strided decoder, whose grid is made of one vector.

    Attributes:
        sizes: see `ConvolutionalSizes`.
        shape: of an example, (*grid, c).
    """

    sizes: ConvolutionalSizes
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps [b d] to [b *grid c]."""
        *grid, c = self.shape
        factors = per_axis(self.sizes.factors, len(grid), 'strides')
        start = (*(n // f for n, f in zip(grid, factors, strict=True)), self.sizes.channels)
        x = nn.relu(nn.Dense(math.prod(start))(z)).reshape(-1, *start)
        return Decoder(features=c, **dataclasses.asdict(self.sizes))(x)


class VAE(nn.Module):
    """The variational autoencoder of Kingma and Welling 2014 (arXiv:1312.6114).

    Attributes:
        encoder: maps examples [b *grid c] to features [b ... d], a vector or a grid of them.
        latent: the Gaussian that is made of the features.
        decoder: maps latents to outputs [b *grid c].
        observation: the likelihood of examples, whose parameters the outputs are.
    """

    encoder: nn.Module
    latent: GaussianBottleneck
    decoder: nn.Module
    observation: Observation

    def __call__(self, x: jax.Array) -> tuple[Distribution, Posterior]:
        """Reconstructs examples in [-1, 1] [b *grid c] from the means of their posteriors."""
        posterior = self.posterior(x)
        return self.distribution(posterior.mean), posterior

    def posterior(self, x: jax.Array) -> Posterior:
        """The Gaussian of examples in [-1, 1] [b *grid c]."""
        return self.latent.posterior(self.encoder(x))

    def distribution(self, z: jax.Array) -> Distribution:
        """`p(x | z)` of latents [b ... d]."""
        return self.observation(self.decoder(self.latent.lookup(z)))

    def encode(self, x: jax.Array) -> jax.Array:
        """The means [b ... d] of the posteriors of examples in [-1, 1] [b *grid c]."""
        return self.posterior(x).mean

    def decode(self, z: jax.Array) -> jax.Array:
        """The expected examples [b *grid c] of latents [b ... d], in [-1, 1]."""
        return self.distribution(z).mean()


def _hidden(x: jax.Array, widths: tuple[int, ...], activation: str) -> jax.Array:
    """Fully connected layers; called inside a module's compact method."""
    function = {'tanh': jnp.tanh, 'relu': nn.relu}[activation]
    for width in widths:
        x = function(nn.Dense(width)(x))
    return x

"""The fully connected encoder and decoder of a VAE (Kingma and Welling 2014, arXiv:1312.6114, appendix C)."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.models.decoder import Decoder


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


class MLP(nn.Module):
    """Fully connected layers, an activation after each.

    Attributes:
        hidden: units of each.
        activation: see `MLPSizes`.
    """

    hidden: tuple[int, ...]
    activation: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b c] to [b d]."""
        function = {'tanh': jnp.tanh, 'relu': nn.relu}[self.activation]
        for width in self.hidden:
            x = function(nn.Dense(width)(x))
        return x


class MLPEncoder(nn.Module):
    """Maps examples to vectors by fully connected layers."""

    sizes: MLPSizes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b hidden]."""
        # From 0 to 1: with black at -1, its many pixels drive the first layer into saturation.
        values = (x.reshape(x.shape[0], -1) + 1) / 2
        return MLP(self.sizes.hidden, self.sizes.activation)(values)


def mlp_decoder(sizes: MLPSizes, shape: tuple[int, ...]) -> Decoder:
    """Maps vectors to examples of a shape (*grid, c) by fully connected layers."""
    return Decoder(MLP(sizes.hidden[::-1], sizes.activation), nn.Dense(math.prod(shape)), shape)

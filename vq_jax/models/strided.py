"""The strided convolutional encoder and decoder of the VQ-VAE, around a grid of vectors or around one vector.

van den Oord et al. 2017 (arXiv:1711.00937), section 4.1.
"""

import dataclasses
import math
from typing import Literal

import jax
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.models.attention import AxialAttention
from vq_jax.models.convolution import Conv, ConvTranspose, check_strides, strided_sizes
from vq_jax.models.decoder import Decoder
from vq_jax.models.normalisation import GroupNorm
from vq_jax.ops.grids import per_axis


@dataclasses.dataclass(frozen=True)
class StridedSizes:
    """Sizes of a strided encoder and its decoder.

    Attributes:
        channels: of the layers.
        stages: strided convolutions in encoder and decoder, at least one: 2 make 32x32 pixels 8x8 codes.
        residual_blocks: in encoder and decoder, at the lowest resolution.
        residual_channels: inside them.
        strides: by which each stage divides the sizes of the grid, one for all axes or one for each; kernels
            are twice as large (see `strided_sizes`).
        dtype: what the layers compute in; parameters, codes and losses are float32.
        axial_heads: heads of the axial attention with which each residual block then ends; what its layers
            are given is normalised (see `AxialBlock`). 0 for blocks of two convolutions.
    """

    channels: int = 128
    stages: int = 2
    residual_blocks: int = 2
    residual_channels: int = 32
    strides: tuple[int, ...] = (2,)
    dtype: Literal['float32', 'bfloat16'] = 'float32'
    axial_heads: int = 0

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'stages', 'residual_channels')
        check_least(0, self, 'residual_blocks', 'axial_heads')
        check_strides(self.strides)
        if self.axial_heads and self.channels % self.axial_heads:
            raise UserError(
                f'axial_heads is {self.axial_heads} and channels {self.channels}; give heads that divide the '
                'channels.'
            )

    @property
    def factors(self) -> tuple[int, ...]:
        """By how much all stages together divide the sizes of the grid, along all axes or each."""
        return tuple(stride**self.stages for stride in self.strides)


class ReluBlock(nn.Module):
    """ReLU, convolution of size 3, ReLU, convolution of size 1, added to the input.

    Attributes:
        hidden: channels between the two convolutions.
        dtype: what the convolutions compute in.
    """

    hidden: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid c]."""
        h = Conv(self.hidden, dtype=self.dtype)(nn.relu(x))
        return x + Conv(x.shape[-1], 1, dtype=self.dtype)(nn.relu(h))


class AxialBlock(nn.Module):
    """Convolution of size 3, convolution of size 1, axial attention; added to the input.

    The block of VideoGPT (Yan et al. 2021, arXiv:2104.10157). Normalisation and ReLU come before each layer.
    Normalised are groups of channels of each example, where the published code normalises batches: an example
    is encoded alike in training and after it, and whatever else is in the batch.

    Attributes:
        hidden: channels between the two convolutions.
        heads: of attention; they must divide the channels.
        dtype: what convolutions and attention compute in.
    """

    hidden: int
    heads: int = 1
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid c]."""
        h = Conv(self.hidden, use_bias=False, dtype=self.dtype)(nn.relu(GroupNorm()(x)))
        h = Conv(x.shape[-1], 1, use_bias=False, dtype=self.dtype)(nn.relu(GroupNorm()(h)))
        return x + AxialAttention(self.heads, self.dtype)(nn.relu(GroupNorm()(h)))


class StridedEncoder(nn.Module):
    """Maps examples to a grid of vectors: strided convolutions, then residual blocks.

    Attributes:
        sizes: see `StridedSizes`.
        features: width of the vectors.
    """

    sizes: StridedSizes
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps examples [b *grid c] to vectors [b *grid/factors features]."""
        s = self.sizes
        for _ in range(s.stages):
            x = nn.relu(Conv(s.channels, strided_sizes(s.strides), s.strides, dtype=s.dtype)(x))
        x = _residual_stack(s, Conv(s.channels, dtype=s.dtype)(x))
        return Conv(self.features, 1, dtype=s.dtype)(x)


class StridedTrunk(nn.Module):
    """The decoder but for its last transposed convolution."""

    sizes: StridedSizes

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b *grid d] to what the last layer is given [b *grid*strides^(stages-1) c]."""
        s = self.sizes
        x = _residual_stack(s, Conv(s.channels, dtype=s.dtype)(z))
        for _ in range(s.stages - 1):
            x = nn.relu(ConvTranspose(s.channels, strided_sizes(s.strides), s.strides, dtype=s.dtype)(x))
        return x


def strided_decoder(sizes: StridedSizes, out_channels: int = 3, trunk: nn.Module | None = None) -> Decoder:
    """The encoder's mirror image: residual blocks, then transposed convolutions.

    A trunk that takes other vectors than one grid of them, such as a `FlatTrunk`, can stand for its own.
    """
    last = ConvTranspose(out_channels, strided_sizes(sizes.strides), sizes.strides, dtype=sizes.dtype)
    return Decoder(trunk or StridedTrunk(sizes), last)


class FlatEncoder(nn.Module):
    """The strided encoder, whose grid becomes one vector."""

    sizes: StridedSizes

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b d]."""
        x = StridedEncoder(self.sizes, self.sizes.channels)(x)
        return nn.relu(x).reshape(x.shape[0], -1)


class FlatTrunk(nn.Module):
    """The trunk of the strided decoder, whose grid is made of one vector.

    Attributes:
        sizes: see `StridedSizes`.
        grid: sizes of the axes of an example.
    """

    sizes: StridedSizes
    grid: tuple[int, ...]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps [b d] to [b *grid/strides c]."""
        factors = per_axis(self.sizes.factors, len(self.grid), 'strides')
        start = (*(n // f for n, f in zip(self.grid, factors, strict=True)), self.sizes.channels)
        x = nn.relu(nn.Dense(math.prod(start))(z)).reshape(-1, *start)
        return StridedTrunk(self.sizes)(x)


def _residual_stack(sizes: StridedSizes, x: jax.Array) -> jax.Array:
    """The residual blocks and the ReLU after them; called inside a module's compact method."""
    s = sizes
    for _ in range(s.residual_blocks):
        if s.axial_heads:
            x = AxialBlock(s.residual_channels, s.axial_heads, s.dtype)(x)
        else:
            x = ReluBlock(s.residual_channels, s.dtype)(x)
    return nn.relu(GroupNorm()(x) if s.axial_heads else x)

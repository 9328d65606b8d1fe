"""The encoder and decoder of VQGAN: residual blocks with group normalisation, attention at low resolution.

Esser et al. 2021 (arXiv:2012.09841), table 7, after the U-Net of Ho et al. 2020 (arXiv:2006.11239).
"""

import dataclasses
import itertools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.models.attention import Attention
from vq_jax.models.convolution import Conv, check_strides
from vq_jax.models.decoder import Decoder
from vq_jax.models.normalisation import GroupNorm
from vq_jax.ops.barrier import cpu_barrier
from vq_jax.ops.conv import conv_transpose
from vq_jax.ops.grids import per_axis
from vq_jax.ops.sharding import split_batch
from vq_jax.ops.sums import shift


@dataclasses.dataclass(frozen=True)
class ResidualSizes:
    """Sizes of an encoder and its decoder.

    Attributes:
        channels: at the finest resolution.
        multipliers: channels at each resolution, in units of `channels`, the finest first.
        residual_blocks: at each resolution of the encoder; the decoder has one more.
        attention_resolutions: resolutions, 0 the finest, whose blocks are each followed by self-attention;
            the coarsest always has one more.
        features: width of the vectors between encoder and decoder; the encoder gives twice as many
            for a Gaussian.
        strides: by which each resolution divides the sizes of the grid of the one before, one for all axes
            or one for each.
        dtype: what the layers compute in; parameters and normalisation are float32.
        remat: compute the insides of blocks again in the backward pass instead of keeping them.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    residual_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (4,)
    features: int = 256
    strides: tuple[int, ...] = (2,)
    dtype: Literal['float32', 'bfloat16'] = 'float32'
    remat: bool = False

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'features', 'multipliers')
        check_least(0, self, 'residual_blocks')
        check_strides(self.strides)
        check_resolutions(self.attention_resolutions, self.multipliers)

    @property
    def factors(self) -> tuple[int, ...]:
        """How much smaller the grid of vectors is than that of examples, along all axes or each."""
        return tuple(stride ** (len(self.multipliers) - 1) for stride in self.strides)


class ResidualBlock(nn.Module):
    """Twice: group normalisation, swish, convolution of size 3; added to the input.

    Attributes:
        features: channels of the result; if the input has others, it passes a convolution of size 1.
        dtype: what the convolutions compute in.
    """

    features: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid features]."""
        (x,) = cpu_barrier(x)
        h = x
        for _ in range(2):
            h = Conv(self.features, dtype=self.dtype)(nn.swish(GroupNorm()(h)))
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, dtype=self.dtype)(x)
        return x + h


class Downsample(nn.Module):
    """A strided convolution of size 3, with a border of one zero at the end of each axis alone.

    Along an axis of stride 1 there is one at its beginning too; a stride of 3 or more makes the kernel as
    large as the stride and one more.

    Attributes:
        dtype: what is computed in.
        strides: one for all axes, or one for each.
    """

    dtype: str = 'float32'
    strides: tuple[int, ...] = (2,)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid/strides c]."""
        size = tuple(max(3, stride + 1) for stride in self.strides)
        border = tuple((int(stride == 1), 1) for stride in self.strides)
        return Conv(x.shape[-1], size, self.strides, border, dtype=self.dtype)(x)


class Upsample(nn.Module):
    """Repeats each position `strides` times, then a convolution of size 3.

    The two are one transposed convolution, whose kernel is that of size 3 added to itself at each of the
    repeated positions: for 2x2 of them, four ninths of the multiplications.

    Attributes:
        dtype: what is computed in.
        strides: one for all axes, or one for each.
    """

    dtype: str = 'float32'
    strides: tuple[int, ...] = (2,)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid*strides c]."""
        c, rank = x.shape[-1], x.ndim - 2
        strides = per_axis(self.strides, rank, 'strides')
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (*(3,) * rank, c, c), jnp.float32)
        bias = self.param('bias', nn.initializers.zeros_init(), (c,), jnp.float32)
        added = (
            jnp.pad(kernel, (*((i, s - 1 - i) for i, s in zip(repeat, strides, strict=True)), (0, 0), (0, 0)))
            for repeat in itertools.product(*map(range, strides))
        )
        spread = sum(added).astype(self.dtype)
        return shift(conv_transpose(x.astype(self.dtype), spread, strides), bias.astype(self.dtype))


class ResidualEncoder(nn.Module):
    """Maps examples to a grid of vectors.

    Attributes:
        sizes: see `ResidualSizes`.
        features: width of the vectors.
    """

    sizes: ResidualSizes
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps examples [b *grid c] to vectors [b *grid/factors features]."""
        s = self.sizes
        block, attention = recomputed(s.remat, ResidualBlock, Attention)
        x = split_batch(Conv(s.channels, dtype=s.dtype)(x))
        for resolution, multiplier in enumerate(s.multipliers):
            for _ in range(s.residual_blocks):
                x = block(s.channels * multiplier, s.dtype)(x)
                if resolution in s.attention_resolutions:
                    x = attention(s.dtype)(x)
            if resolution < len(s.multipliers) - 1:
                x = Downsample(s.dtype, s.strides)(x)
        x = _middle(s, x)
        return Conv(self.features, dtype=s.dtype)(nn.swish(GroupNorm()(x)))


class ResidualTrunk(nn.Module):
    """The decoder but for its last convolution."""

    sizes: ResidualSizes

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b *grid features] to what the last convolution is given [b *grid*factors c]."""
        s = self.sizes
        block, attention = recomputed(s.remat, ResidualBlock, Attention)
        x = split_batch(Conv(s.channels * s.multipliers[-1], dtype=s.dtype)(z))
        x = _middle(s, x)
        for resolution in reversed(range(len(s.multipliers))):
            for _ in range(s.residual_blocks + 1):
                x = block(s.channels * s.multipliers[resolution], s.dtype)(x)
                if resolution in s.attention_resolutions:
                    x = attention(s.dtype)(x)
            if resolution > 0:
                x = Upsample(s.dtype, s.strides)(x)
        return nn.swish(GroupNorm()(x))


def residual_decoder(sizes: ResidualSizes, out_channels: int = 3) -> Decoder:
    """Maps a grid of vectors to examples."""
    return Decoder(ResidualTrunk(sizes), Conv(out_channels, dtype=sizes.dtype))


def check_resolutions(chosen: tuple[int, ...], multipliers: tuple[int, ...]) -> None:
    """Raises `UserError` unless the `attention_resolutions` of a model are numbers of its resolutions."""
    if any(number not in range(len(multipliers)) for number in chosen):
        raise UserError(
            f'attention_resolutions is {chosen}; the resolutions of multipliers {multipliers} are numbered '
            f'from 0 to {len(multipliers) - 1}.'
        )


def _middle(sizes: ResidualSizes, x: jax.Array) -> jax.Array:
    """The blocks at the coarsest resolution; called inside a module's compact method."""
    block, attention = recomputed(sizes.remat, ResidualBlock, Attention)
    x = block(x.shape[-1], sizes.dtype)(x)
    return block(x.shape[-1], sizes.dtype)(attention(sizes.dtype)(x))


def recomputed(remat: bool, *kinds: type[nn.Module]) -> tuple[type[nn.Module], ...]:
    """Kinds of blocks; with remat, such as compute their insides again in the backward pass."""
    if not remat:
        return kinds
    lifted = tuple(map(nn.remat, kinds))
    for original, kind in zip(kinds, lifted, strict=True):
        kind.__name__ = original.__name__  # parameters are named by it, with remat or without
    return lifted

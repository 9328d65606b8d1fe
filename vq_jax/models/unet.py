"""The U-Net of diffusion models: Ho et al. 2020 (arXiv:2006.11239), as Dhariwal and Nichol 2021 improved it.

Of their network ('ADM', arXiv:2105.05233, section 3) it has several heads of attention at several
resolutions, and a time that scales and shifts what is normalised; not the residual blocks that resample:
resolutions change by plain convolutions, as in the former. Every block ends in a layer of zeros, and so does
the net.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_share
from vq_jax.models.conditioning import Conditioning
from vq_jax.models.convolution import Conv
from vq_jax.models.normalisation import GroupNorm
from vq_jax.models.residual import Attention, Downsample, Upsample, recomputed
from vq_jax.ops.dropout import dropout
from vq_jax.ops.grids import from_patches, to_patches
from vq_jax.ops.keys import fold_in

_ZEROS = nn.initializers.zeros_init()


@dataclasses.dataclass(frozen=True)
class UNetSizes:
    """Sizes of a U-Net.

    Attributes:
        channels: of the first level.
        multipliers: channels of each level, in units of `channels`; each level but the last halves
            height and width.
        residual_blocks: in each level on the way down; on the way up there is one more.
        attention_levels: levels, from 0, whose blocks are each followed by self-attention; the middle
            always has it.
        head_channels: channels of each head of attention.
        patch: squares of so many pixels in height and width become one place of as many more channels, so
            that no layer works at full resolution (Hoogeboom et al. 2023, arXiv:2301.11093, section 3.2).
        dropout: share of the numbers inside blocks that training sets to 0.
        dtype: what the layers compute in; parameters and normalisation are float32.
        remat: compute the insides of blocks again in the backward pass instead of keeping them.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    residual_blocks: int = 2
    attention_levels: tuple[int, ...] = (1,)
    head_channels: int = 64
    patch: int = 1
    dropout: float = 0.0
    dtype: Literal['float32', 'bfloat16'] = 'float32'
    remat: bool = False

    def __post_init__(self) -> None:
        if (
            not self.multipliers
            or min(self.channels, self.residual_blocks, self.patch, *self.multipliers) < 1
        ):
            raise UserError('channels, multipliers, residual_blocks and patch of a U-Net must be 1 or more.')
        if self.channels % 2:
            raise UserError(f'a U-Net needs an even number of channels, not {self.channels}.')
        levels = range(len(self.multipliers))
        if any(level not in levels for level in self.attention_levels):
            raise UserError(
                f'attention_levels is {self.attention_levels}; the levels of multipliers '
                f'{self.multipliers} are numbered from 0 to {len(self.multipliers) - 1}.'
            )
        for level in {*self.attention_levels, len(self.multipliers) - 1}:
            width = self.channels * self.multipliers[level]
            if self.head_channels < 1 or width % self.head_channels:
                raise UserError(
                    f'the {width} channels of level {level} cannot be divided into heads of '
                    f'{self.head_channels}; change head_channels.'
                )
        check_share('config.unet.', self, 'dropout', one=False)

    @property
    def factor(self) -> int:
        """What height and width must be multiples of."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class UNet(nn.Module):
    """Noisy images and times to predictions.

    Attributes:
        sizes: see `UNetSizes`.
        features: channels that come out.
        num_classes: classes that can be asked for; one more stands for none.
    """

    sizes: UNetSizes
    features: int
    num_classes: int = 0

    @nn.compact
    def __call__(
        self, x: jax.Array, t: jax.Array, labels: jax.Array, keys: jax.Array | None = None
    ) -> jax.Array:
        """Predicts.

        Args:
            x: noisy images, with further channels beside them if there are any [b h w c].
            t: times from 0 to 1 [b].
            labels: int [b]; `num_classes` stands for no class.
            keys: a random key for each example [b], for dropout; None drops nothing.

        Returns:
            float32 [b h w features]; zeros before training.
        """
        s = self.sizes
        block, attention = recomputed(s.remat, TimedBlock, Attention)
        count = 0

        def timed(x: jax.Array, level: int) -> jax.Array:
            nonlocal count
            count += 1
            width = s.channels * s.multipliers[level]
            return block(width, s.dropout, s.dtype)(x, given, fold_in(keys, count))

        def attended(x: jax.Array) -> jax.Array:
            return attention(s.dtype, x.shape[-1] // s.head_channels, _ZEROS)(x)

        def blocks(x: jax.Array, level: int) -> jax.Array:
            x = timed(x, level)
            return attended(x) if level in s.attention_levels else x

        given = Conditioning(4 * s.channels, self.num_classes, s.channels, s.dtype)(t, labels)
        given = nn.swish(given)
        last = len(s.multipliers) - 1
        x = Conv(s.channels, dtype=s.dtype)(to_patches(x, s.patch))
        passed = [x]
        for level in range(last + 1):
            for _ in range(s.residual_blocks):
                x = blocks(x, level)
                passed.append(x)
            if level < last:
                x = Downsample(s.dtype)(x)
                passed.append(x)
        x = timed(attended(timed(x, last)), last)
        for level in reversed(range(last + 1)):
            for _ in range(s.residual_blocks + 1):
                x = blocks(jnp.concatenate([x, passed.pop()], axis=-1), level)
            if level > 0:
                x = Upsample(s.dtype)(x)
        x = nn.swish(GroupNorm()(x))
        x = Conv(s.patch**2 * self.features, dtype=s.dtype, kernel_init=_ZEROS)(x)
        return from_patches(x, s.patch).astype(jnp.float32)


class TimedBlock(nn.Module):
    """Twice: group normalisation, swish, 3x3 convolution; the second one as the time says.

    Attributes:
        features: channels of the result; if the input has others, it passes a 1x1 convolution.
        dropout: share of the numbers that training sets to 0, before the second convolution.
        dtype: what the convolutions compute in.
    """

    features: int
    dropout: float = 0.0
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array, given: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Maps images [b h w c], as vectors [b d] say, to [b h w features]."""
        h = Conv(self.features, dtype=self.dtype)(nn.swish(GroupNorm()(x)))
        # In float32, as the normalisation that they change.
        scale, shift = jnp.split(nn.Dense(2 * self.features)(given), 2, axis=-1)
        h = dropout(nn.swish(GroupNorm()(h, scale, shift)), keys, self.dropout)
        h = Conv(self.features, dtype=self.dtype, kernel_init=_ZEROS)(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), dtype=self.dtype)(x)
        return x + h

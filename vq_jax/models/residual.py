"""The encoder and decoder of VQGAN: residual blocks with group normalisation, attention at low resolution.

Esser et al. 2021 (arXiv:2012.09841), table 7, after the U-Net of Ho et al. 2020 (arXiv:2006.11239).
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.models.convolution import Conv, Initializer
from vq_jax.models.normalisation import GroupNorm
from vq_jax.ops.conv import conv2d_transpose
from vq_jax.ops.sums import shift


@dataclasses.dataclass(frozen=True)
class ResidualSizes:
    """Sizes of an encoder and its decoder.

    Attributes:
        channels: of the first level.
        multipliers: channels of each level, in units of `channels`; each level but the last halves
            height and width.
        residual_blocks: in each level of the encoder; the decoder has one more.
        attention_levels: levels, from 0, whose blocks are each followed by self-attention; the
            lowest resolution always has one more.
        features: width of the vectors between encoder and decoder; the encoder gives twice as many
            for a Gaussian.
        dtype: what the layers compute in; parameters and normalisation are float32.
        remat: compute the insides of blocks again in the backward pass instead of keeping them.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    residual_blocks: int = 2
    attention_levels: tuple[int, ...] = (4,)
    features: int = 256
    dtype: Literal['float32', 'bfloat16'] = 'float32'
    remat: bool = False

    def __post_init__(self) -> None:
        if min(self.channels, self.features, *self.multipliers) < 1:
            raise UserError('channels, features and multipliers of a model must be 1 or more.')
        check_least(0, "a model's ", self, 'residual_blocks')
        levels = range(len(self.multipliers))
        if not self.multipliers or any(level not in levels for level in self.attention_levels):
            raise UserError(
                f'attention_levels is {self.attention_levels}; the levels of multipliers '
                f'{self.multipliers} are numbered from 0 to {len(self.multipliers) - 1}.'
            )

    @property
    def factor(self) -> int:
        """How much smaller the grid of vectors is than the image, in height and width."""
        return 2 ** (len(self.multipliers) - 1)


class ResidualBlock(nn.Module):
    """Twice: group normalisation, swish, 3x3 convolution; added to the input.

    Attributes:
        features: channels of the result; if the input has others, it passes a 1x1 convolution.
        dtype: what the convolutions compute in.
    """

    features: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b h w c] to [b h w features]."""
        h = x
        for _ in range(2):
            h = Conv(self.features, dtype=self.dtype)(nn.swish(GroupNorm()(h)))
        if x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), dtype=self.dtype)(x)
        return x + h


class Attention(nn.Module):
    """Self-attention over all places, added to the input.

    Attributes:
        dtype: what is computed in.
        heads: of attention; they must divide the channels.
        last_init: how the kernel of the last convolution starts.
    """

    dtype: str = 'float32'
    heads: int = 1
    last_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b h w c] to [b h w c]."""
        b, h, w, c = x.shape
        normal = GroupNorm()(x)
        query, key, value = (
            Conv(c, (1, 1), dtype=self.dtype, name=name)(normal).reshape(b, h * w, self.heads, -1)
            for name in ('query', 'key', 'value')
        )
        seen = jax.nn.dot_product_attention(query, key, value).reshape(b, h, w, c)
        return x + Conv(c, (1, 1), dtype=self.dtype, kernel_init=self.last_init, name='output')(seen)


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2, with a border of zeros at the right and the bottom alone.

    Attributes:
        dtype: what is computed in.
    """

    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b h w c] to [b h/2 w/2 c]."""
        return Conv(x.shape[-1], strides=2, padding=((0, 1), (0, 1)), dtype=self.dtype)(x)


class Upsample(nn.Module):
    """Each pixel becomes four, then a 3x3 convolution.

    The two are one transposed convolution, whose 4x4 kernel is the 3x3 one spread over 2x2 pixels:
    four ninths of the multiplications.

    Attributes:
        dtype: what is computed in.
    """

    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b h w c] to [b 2h 2w c]."""
        c = x.shape[-1]
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (3, 3, c, c), jnp.float32)
        bias = self.param('bias', nn.initializers.zeros_init(), (c,), jnp.float32)
        corners = (jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in (0, 1) for j in (0, 1))
        spread = sum(corners).astype(self.dtype)
        return shift(conv2d_transpose(x.astype(self.dtype), spread, 2), bias.astype(self.dtype))


class ResidualEncoder(nn.Module):
    """Images to a grid of vectors.

    Attributes:
        sizes: see `ResidualSizes`.
        features: width of the vectors.
    """

    sizes: ResidualSizes
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images [b h w c] to vectors [b h/factor w/factor features]."""
        s = self.sizes
        block, attention = recomputed(s.remat, ResidualBlock, Attention)
        x = Conv(s.channels, dtype=s.dtype)(x)
        for level, multiplier in enumerate(s.multipliers):
            for _ in range(s.residual_blocks):
                x = block(s.channels * multiplier, s.dtype)(x)
                if level in s.attention_levels:
                    x = attention(s.dtype)(x)
            if level < len(s.multipliers) - 1:
                x = Downsample(s.dtype)(x)
        x = _middle(s, x)
        return Conv(self.features, dtype=s.dtype)(nn.swish(GroupNorm()(x)))


class ResidualTrunk(nn.Module):
    """The decoder but for its last convolution.

    Attributes:
        sizes: see `ResidualSizes`.
    """

    sizes: ResidualSizes

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b h w features] to what is painted [b h*factor w*factor c]."""
        s = self.sizes
        block, attention = recomputed(s.remat, ResidualBlock, Attention)
        x = Conv(s.channels * s.multipliers[-1], dtype=s.dtype)(z)
        x = _middle(s, x)
        for level in reversed(range(len(s.multipliers))):
            for _ in range(s.residual_blocks + 1):
                x = block(s.channels * s.multipliers[level], s.dtype)(x)
                if level in s.attention_levels:
                    x = attention(s.dtype)(x)
            if level > 0:
                x = Upsample(s.dtype)(x)
        return nn.swish(GroupNorm()(x))


class ResidualDecoder(nn.Module):
    """A grid of vectors to images; its last layer can be reached apart.

    Attributes:
        sizes: see `ResidualSizes`.
        image_channels: 1 for grey images, 3 for colour.
    """

    sizes: ResidualSizes
    image_channels: int = 3

    def setup(self) -> None:  # noqa: D102 (Flax's)
        self.trunk = ResidualTrunk(self.sizes)
        self.last = Conv(self.image_channels, dtype=self.sizes.dtype)

    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b h w features] to images [b h*factor w*factor image_channels], float32."""
        return self.paint(self.trunk(z))

    def paint(self, x: jax.Array) -> jax.Array:
        """The last convolution, of what the trunk returned."""
        return self.last(x).astype(jnp.float32)


def _middle(sizes: ResidualSizes, x: jax.Array) -> jax.Array:
    """The blocks at the lowest resolution; called inside a module's compact method."""
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

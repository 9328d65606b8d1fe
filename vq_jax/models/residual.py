"""The encoder and decoder of VQGAN: residual blocks with group normalisation, attention at low resolution.

Esser et al. 2021 (arXiv:2012.09841), table 7, after the U-Net of Ho et al. 2020 (arXiv:2006.11239). Of video,
they may be causal (Yu et al. 2023, arXiv:2310.05737; see `vq_jax.models.causal`).
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.models.attention import Attention
from vq_jax.models.causal import CausalConv, causal_transpose
from vq_jax.models.convolution import Conv, check_strides
from vq_jax.models.decoder import Decoder
from vq_jax.models.normalisation import GroupNorm
from vq_jax.ops.barrier import cpu_barrier
from vq_jax.ops.conv import conv_transpose
from vq_jax.ops.frames import each_frame
from vq_jax.ops.grids import per_axis, to_patches
from vq_jax.ops.sharding import split_batch
from vq_jax.ops.sums import shift

Temporal = Literal['full', 'causal', 'none']  # see `ResidualSizes`
Form = Literal['vqgan', 'maskgit']  # see `ResidualSizes`


@dataclasses.dataclass(frozen=True)
class ResidualSizes:
    """Sizes of an encoder and its decoder.

    Attributes:
        channels: at the finest resolution.
        multipliers: channels at each resolution, in units of `channels`, the finest first.
        residual_blocks: at each resolution of the encoder; the decoder has one more, but not of the form
            'maskgit'.
        attention_resolutions: resolutions, 0 the finest, whose blocks are each followed by self-attention;
            the coarsest always has one more, but not of the form 'maskgit'.
        features: width of the vectors between encoder and decoder; the encoder gives twice as many
            for a Gaussian.
        latent_convolutions: one more convolution of size 3 ends the encoder, and one begins the decoder, as
            in VAR's tokenizer (Tian et al. 2024, arXiv:2404.02905).
        strides: by which each resolution divides the sizes of the grid of the one before, one for all axes
            or one for each; with `time_strides`, for the axes of a frame.
        time_strides: of video, by which each resolution but the finest divides the frames of the one before,
            if that is not the same for all; empty for what `strides` says.
        temporal: of video, what a frame sees beside itself: 'full' all that is within reach; 'causal' earlier
            frames alone, and of attention and normalisation none, so that clips can be streamed, their first
            frame stands for itself, and an image is a clip of one frame; 'none' no other, which makes it a
            network of images for each frame.
        dtype: what the layers compute in; parameters and normalisation are float32.
        remat: compute the insides of blocks again in the backward pass instead of keeping them.
        form: 'vqgan', or 'maskgit' for the tokenizer of MaskGIT (Chang et al. 2022, arXiv:2202.04200, as
            its code has it): grids are made smaller by means of neighbours and not by convolutions, the
            coarsest resolution has `residual_blocks` more blocks and no attention, convolutions of blocks
            and the first have no biases, the encoder's last is of size 1, images are in [0, 1] inside, and
            where the number of channels changes, what is added to the result of a block is not its input but
            a convolution of that result. Of images alone.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    residual_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (4,)
    features: int = 256
    latent_convolutions: bool = False
    strides: tuple[int, ...] = (2,)
    time_strides: tuple[int, ...] = ()
    temporal: Temporal = 'full'
    dtype: Literal['float32', 'bfloat16'] = 'float32'
    remat: bool = False
    form: Form = 'vqgan'

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'features', 'multipliers')
        check_least(0, self, 'residual_blocks')
        check_strides(self.strides)
        check_resolutions(self.attention_resolutions, self.multipliers)
        steps = len(self.multipliers) - 1
        if self.time_strides and len(self.time_strides) != steps:
            raise UserError(
                f'time_strides is {self.time_strides}, and multipliers {self.multipliers} have {steps} '
                'resolutions below the finest; give one number for each, or none.'
            )
        if self.time_strides:
            check_strides(self.time_strides, 'time_strides')
        if self.form == 'maskgit' and self.is_of_video:
            raise UserError(
                f"form is 'maskgit', which is of images, and temporal is {self.temporal!r} and time_strides "
                f'{self.time_strides}, which are of video; set form=vqgan.'
            )

    @property
    def factors(self) -> tuple[int, ...]:
        """How much smaller the grid of vectors is than that of examples, along all axes or each."""
        steps = [self.strides_to(resolution) for resolution in range(1, len(self.multipliers))]
        return tuple(map(math.prod, zip(*steps, strict=True))) if steps else (1,)

    @property
    def is_of_video(self) -> bool:
        """Whether only videos can be encoded."""
        return self.temporal != 'full' or bool(self.time_strides)

    def strides_to(self, resolution: int) -> tuple[int, ...]:
        """Those from the next finer resolution to this one, 1 or more, along all axes or each."""
        if not self.time_strides:
            return self.strides
        return (self.time_strides[resolution - 1], *per_axis(self.strides, 2, 'strides'))


class ResidualBlock(nn.Module):
    """Twice: group normalisation, swish, convolution of size 3; added to the input.

    Attributes:
        features: channels of the result; if the input has others, it passes a convolution of size 1.
        dtype: what the convolutions compute in.
        temporal: see `ResidualSizes`.
        form: see `ResidualSizes`; of 'maskgit', the result passes that convolution, and not the input.
    """

    features: int
    dtype: str = 'float32'
    temporal: Temporal = 'full'
    form: Form = 'vqgan'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid features]."""
        (x,) = cpu_barrier(x)
        h, biases = x, self.form == 'vqgan'
        for _ in range(2):
            h = _conv(self.features, self.dtype, self.temporal, biases=biases)(
                nn.swish(_apart(self.temporal, GroupNorm(), h))
            )
        if x.shape[-1] != self.features:
            x = x if self.form == 'vqgan' else h
            x = Conv(self.features, 1, use_bias=biases, dtype=self.dtype)(x)
        return x + h


class Downsample(nn.Module):
    """A strided convolution of size 3, with a border of one zero at the end of each axis alone.

    Along an axis of stride 1 there is one at its beginning too; a stride of 3 or more makes the kernel as
    large as the stride and one more.

    Attributes:
        dtype: what is computed in.
        strides: one for all axes, or one for each.
        temporal: see `ResidualSizes`.
        both_ends: there is one at the beginning of all axes.
    """

    dtype: str = 'float32'
    strides: tuple[int, ...] = (2,)
    temporal: Temporal = 'full'
    both_ends: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid/strides c]."""
        strides = per_axis(self.strides, x.ndim - 2, 'strides')
        size = [max(3, stride + 1) for stride in strides]
        border = [(int(self.both_ends or stride == 1), 1) for stride in strides]
        if self.temporal == 'none':
            size[0], border[0] = 1, (0, 0)
        kind = CausalConv if self.temporal == 'causal' else Conv
        return kind(x.shape[-1], tuple(size), strides, tuple(border), dtype=self.dtype)(x)


class Upsample(nn.Module):
    """Repeats each position `strides` times, then a convolution of size 3.

    The two are one transposed convolution, whose kernel is that of size 3 added to itself at each of the
    repeated positions: for 2x2 of them, four ninths of the multiplications. A causal one leaves the first
    frame of video alone: 1 + n frames become 1 + n*stride.

    Attributes:
        dtype: what is computed in.
        strides: one for all axes, or one for each.
        temporal: see `ResidualSizes`.
    """

    dtype: str = 'float32'
    strides: tuple[int, ...] = (2,)
    temporal: Temporal = 'full'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid*strides c]."""
        c, rank = x.shape[-1], x.ndim - 2
        strides = per_axis(self.strides, rank, 'strides')
        size = [1 if self.temporal == 'none' else 3, 3, 3][:rank]
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (*size, c, c), jnp.float32)
        bias = self.param('bias', nn.initializers.zeros_init(), (c,), jnp.float32)
        added = (
            jnp.pad(kernel, (*((i, s - 1 - i) for i, s in zip(repeat, strides, strict=True)), (0, 0), (0, 0)))
            for repeat in itertools.product(*map(range, strides))
        )
        x, spread = x.astype(self.dtype), sum(added).astype(self.dtype)
        if self.temporal == 'causal':
            x = causal_transpose(self, x, spread, strides)
        else:
            x = conv_transpose(x, spread, strides)
        return shift(x, bias.astype(self.dtype))


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
        maskgit = s.form == 'maskgit'
        x = (x + 1) / 2 if maskgit else x
        x = split_batch(_conv(s.channels, s.dtype, s.temporal, biases=not maskgit)(x))
        for resolution, multiplier in enumerate(s.multipliers):
            if resolution > 0:
                strides = s.strides_to(resolution)
                x = _mean(x, strides) if maskgit else Downsample(s.dtype, strides, s.temporal)(x)
            for _ in range(s.residual_blocks):
                x = block(s.channels * multiplier, s.dtype, s.temporal, s.form)(x)
                if resolution in s.attention_resolutions:
                    x = _apart(s.temporal, attention(s.dtype), x)
        x = nn.swish(_apart(s.temporal, GroupNorm(), _middle(s, x)))
        if maskgit:
            x = Conv(self.features, 1, dtype=s.dtype)(x)
        else:
            x = _conv(self.features, s.dtype, s.temporal)(x)
        if s.latent_convolutions:
            x = _conv(self.features, s.dtype, s.temporal, name='latent')(x)
        return x


class ResidualTrunk(nn.Module):
    """The decoder but for its last convolution."""

    sizes: ResidualSizes

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b *grid features] to what the last convolution is given [b *grid*factors c]."""
        s = self.sizes
        block, attention = recomputed(s.remat, ResidualBlock, Attention)
        if s.latent_convolutions:
            z = _conv(z.shape[-1], s.dtype, s.temporal, name='latent')(z)
        x = split_batch(_conv(s.channels * s.multipliers[-1], s.dtype, s.temporal)(z))
        x = _middle(s, x)
        for resolution in reversed(range(len(s.multipliers))):
            for _ in range(s.residual_blocks + (s.form == 'vqgan')):
                x = block(s.channels * s.multipliers[resolution], s.dtype, s.temporal, s.form)(x)
                if resolution in s.attention_resolutions:
                    x = _apart(s.temporal, attention(s.dtype), x)
            if resolution > 0:
                x = Upsample(s.dtype, s.strides_to(resolution), s.temporal)(x)
        return nn.swish(_apart(s.temporal, GroupNorm(), x))


def residual_decoder(sizes: ResidualSizes, out_channels: int = 3) -> Decoder:
    """Maps a grid of vectors to examples."""
    last = _conv(out_channels, sizes.dtype, sizes.temporal)
    return Decoder(ResidualTrunk(sizes), last, unit=sizes.form == 'maskgit')


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
    if sizes.form == 'maskgit':
        for _ in range(sizes.residual_blocks):
            x = block(x.shape[-1], sizes.dtype, sizes.temporal, sizes.form)(x)
        return x
    x = block(x.shape[-1], sizes.dtype, sizes.temporal)(x)
    x = _apart(sizes.temporal, attention(sizes.dtype), x)
    return block(x.shape[-1], sizes.dtype, sizes.temporal)(x)


def _mean(x: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    """The mean of each cell of so many positions: [b *grid c] to [b *grid/strides c]."""
    sizes = per_axis(strides, x.ndim - 2, 'strides')
    cells = to_patches(x, sizes)
    return cells.reshape(*cells.shape[:-1], math.prod(sizes), -1).mean(-2)


def _conv(
    features: int, dtype: str, temporal: Temporal, name: str | None = None, biases: bool = True
) -> Conv:
    """A convolution of size 3 of what a frame may see."""
    if temporal == 'causal':
        return CausalConv(features, use_bias=biases, dtype=dtype, name=name)
    size = (1, 3, 3) if temporal == 'none' else 3
    return Conv(features, size, use_bias=biases, dtype=dtype, name=name)


def _apart(temporal: Temporal, layer: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """What a layer over whole grids makes of x [b *grid c], or of each of its frames."""
    return layer(x) if temporal == 'full' else each_frame(layer, x)


def recomputed(remat: bool, *kinds: type[nn.Module]) -> tuple[type[nn.Module], ...]:
    """Kinds of blocks; with remat, such as compute their insides again in the backward pass."""
    if not remat:
        return kinds
    lifted = tuple(map(nn.remat, kinds))
    for original, kind in zip(kinds, lifted, strict=True):
        kind.__name__ = original.__name__  # parameters are named by it, with remat or without
    return lifted

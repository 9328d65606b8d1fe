"""The U-Net of diffusion models: Ho et al. 2020 (arXiv:2006.11239), as Dhariwal and Nichol 2021 improved it.

Of their network ('ADM', arXiv:2105.05233, section 3) it has several heads of attention at several
resolutions, and a time that scales and shifts what is normalised, if it is not added as in the former; not
the residual blocks that resample: resolutions change by plain convolutions. Every block ends in a layer of
zeros, and so does the net.
"""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share, on_device
from vq_jax.models.attention import Attention, CrossAttention
from vq_jax.models.conditioning import Conditioning
from vq_jax.models.context import NOTHING, Context, VectorEmbedding, beside
from vq_jax.models.convolution import Conv
from vq_jax.models.normalisation import GroupNorm
from vq_jax.models.residual import Downsample, Upsample, check_resolutions, recomputed
from vq_jax.models.spatial_transformer import SpatialTransformer
from vq_jax.ops.barrier import cpu_barrier
from vq_jax.ops.dropout import dropout
from vq_jax.ops.grids import from_patches, over_grid, per_axis, to_patches
from vq_jax.ops.keys import fold_in
from vq_jax.ops.sharding import split_batch

_ZEROS = nn.initializers.zeros_init()

TimeConditioning = Literal['scale_shift', 'add']  # see `UNetSizes`


@dataclasses.dataclass(frozen=True)
class UNetSizes:
    """Sizes of a U-Net.

    Attributes:
        channels: at the finest resolution.
        multipliers: channels at each resolution, in units of `channels`; each has half as many positions
            on every axis as the one before.
        residual_blocks: at each resolution on the way down; on the way up there is one more.
        attention_resolutions: numbers of the resolutions, from 0, the finest, whose blocks are each followed
            by self-attention; the middle always has it.
        head_channels: channels of each head of attention.
        heads: of attention, the same number at all resolutions; None makes them of `head_channels`.
        time_conditioning: how the time, and the vector of a context, enter a block: 'scale_shift' scales and
            shifts what is normalised before the second convolution, as in Dhariwal and Nichol 2021; 'add'
            adds to the result of the first, as in Ho et al. 2020.
        sinusoid_endpoint: the longest wavelength of the sinusoids of the time is 20,000 pi, as in Ho et al.
            2020's code, and not the one before it.
        downsample_padding: where convolutions that halve the resolution see a zero beyond the grid: at the
            'end' of each axis alone, as in Ho et al. 2020's code, or at 'both' ends, as in Dhariwal and
            Nichol's.
        norm_epsilon: what group normalisation of blocks, self-attention and the last layer adds to variances.
        transformer_depth: of the transformer that takes the place of self-attention, as in latent diffusion
            (Rombach et al. 2022, arXiv:2112.10752): blocks of self-attention, attention to the tokens of a
            context, and connected layers; 0 for self-attention, with attention to the tokens after it.
        vector_token: the vector of a context, such as a class, becomes a token of this width, beside those of
            the context, as there; 0 adds it to the embedding of the time.
        patch: so many positions on each axis become one of as many more channels, so that no layer works at
            full resolution (Hoogeboom et al. 2023, arXiv:2301.11093, section 3.2); in Python, a tuple gives
            each axis its own.
        dropout: share of the numbers inside blocks that training sets to 0.
        dtype: what the layers compute in; parameters and normalisation are float32.
        remat: compute the insides of blocks again in the backward pass instead of keeping them.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    residual_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (1,)
    head_channels: int = 64
    heads: int | None = None
    time_conditioning: TimeConditioning = 'scale_shift'
    sinusoid_endpoint: bool = False
    downsample_padding: Literal['end', 'both'] = 'end'
    norm_epsilon: float = 1e-6
    transformer_depth: int = 0
    vector_token: int = 0
    patch: int | tuple[int, ...] = 1
    dropout: float = 0.0
    dtype: Literal['float32', 'bfloat16'] = 'float32'
    remat: bool = False

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'multipliers', 'residual_blocks', 'patch')
        check_least(0, self, 'transformer_depth', 'vector_token')
        if self.channels % 2:
            raise UserError(f'channels is {self.channels}; give an even number.')
        check_resolutions(self.attention_resolutions, self.multipliers)
        for number in {*self.attention_resolutions, len(self.multipliers) - 1}:
            width = self.channels * self.multipliers[number]
            if self.heads is None and (self.head_channels < 1 or width % self.head_channels):
                raise UserError(
                    f'the {width} channels of resolution {number} cannot be divided into heads of '
                    f'{self.head_channels}; change head_channels.'
                )
            if self.heads is not None and (self.heads < 1 or width % self.heads):
                raise UserError(
                    f'the {width} channels of resolution {number} cannot be divided into {self.heads} heads; '
                    'change heads.'
                )
        if not on_device('norm_epsilon', self.norm_epsilon) > 0:
            raise UserError(f'norm_epsilon is {self.norm_epsilon}; give a number above 0, such as 1e-6.')
        check_share(self, 'dropout', one=False)

    def heads_of(self, width: int) -> int:
        """Heads of attention over positions of so many channels."""
        return width // self.head_channels if self.heads is None else self.heads

    def factors(self, rank: int) -> tuple[int, ...]:
        """What the sizes of so many axes must be multiples of."""
        return tuple(
            patch * 2 ** (len(self.multipliers) - 1) for patch in per_axis(self.patch, rank, 'patch')
        )


class UNet(nn.Module):
    """Noisy examples and times to predictions.

    Of a context, the vector is added to the embedding of the time or becomes a token, the grid is further
    channels beside the noisy example, and wherever there is self-attention, attention to the tokens follows.

    Attributes:
        sizes: see `UNetSizes`.
        features: channels that come out.
    """

    sizes: UNetSizes
    features: int

    @nn.compact
    def __call__(
        self, x: jax.Array, t: jax.Array, context: Context = NOTHING, keys: jax.Array | None = None
    ) -> jax.Array:
        """Predicts.

        Args:
            x: noisy examples, with further channels beside them if there are any [b *grid c].
            t: times [b], as the network is told them (see `vq_jax.ops.diffusion.CLOCKS`).
            context: of each example.
            keys: a random key for each example [b], for dropout; None drops nothing.

        Returns:
            float32 [b *grid features]; zeros before training.
        """
        s = self.sizes
        block, attention, transformer = recomputed(s.remat, TimedBlock, Attention, SpatialTransformer)
        count = 0
        if s.vector_token and context.vector is not None:
            context = self._with_token(context)

        def timed(x: jax.Array, number: int) -> jax.Array:
            nonlocal count
            count += 1
            width = s.channels * s.multipliers[number]
            inner = block(width, s.dropout, s.dtype, s.time_conditioning, s.norm_epsilon)
            return inner(x, vector, fold_in(keys, count))

        def attended(x: jax.Array) -> jax.Array:
            c = x.shape[-1]
            if s.transformer_depth:
                inner = transformer(s.transformer_depth, s.heads_of(c), s.dtype)
                return inner(x, context.tokens, context.mask)
            x = attention(s.dtype, s.heads_of(c), _ZEROS, s.norm_epsilon)(x)
            if context.tokens is not None:
                cross = CrossAttention(c, s.heads_of(c), s.dtype)
                x = x + cross(x.reshape(len(x), -1, c), context.tokens, context.mask).reshape(x.shape)
            return x

        def blocks(x: jax.Array, number: int) -> jax.Array:
            x = timed(x, number)
            return attended(x) if number in s.attention_resolutions else x

        conditioning = Conditioning(4 * s.channels, s.channels, s.sinusoid_endpoint, s.dtype)
        vector = nn.swish(conditioning(t, context.vector))
        last = len(s.multipliers) - 1
        x = to_patches(beside(x, context.grid), s.patch)
        x = split_batch(Conv(s.channels, dtype=s.dtype)(x))
        passed = [x]
        for number in range(last + 1):
            for _ in range(s.residual_blocks):
                x = blocks(x, number)
                passed.append(x)
            if number < last:
                x = Downsample(s.dtype, both_ends=s.downsample_padding == 'both')(x)
                passed.append(x)
        x = timed(attended(timed(x, last)), last)
        for number in reversed(range(last + 1)):
            for _ in range(s.residual_blocks + 1):
                x = blocks(jnp.concatenate([x, passed.pop()], axis=-1), number)
            if number > 0:
                x = Upsample(s.dtype)(x)
        x = nn.swish(GroupNorm(epsilon=s.norm_epsilon)(x))
        features = math.prod(per_axis(s.patch, x.ndim - 2, 'patch')) * self.features
        x = Conv(features, dtype=s.dtype, kernel_init=_ZEROS)(x)
        return from_patches(x, s.patch).astype(jnp.float32)

    def _with_token(self, context: Context) -> Context:
        """A context whose vector is the first of its tokens; called inside the compact method."""
        width = self.sizes.vector_token
        tokens = VectorEmbedding(width, nn.initializers.normal(0.02), name='Embed_0')(context.vector)[:, None]
        if context.tokens is None:
            return context.replace(vector=None, tokens=tokens)
        if context.tokens.shape[-1] != width:
            raise UserError(
                f'vector_token is {width}, and the tokens that are known of an example have a width of '
                f'{context.tokens.shape[-1]}; make them the same.'
            )
        mask = context.mask
        if mask is not None:
            mask = jnp.concatenate([jnp.ones((len(mask), 1), bool), mask], axis=1)
        tokens = jnp.concatenate([tokens, context.tokens], axis=1)
        return context.replace(vector=None, tokens=tokens, mask=mask)


class TimedBlock(nn.Module):
    """Twice: group normalisation, swish, convolution; the time enters before or in the second one.

    Attributes:
        features: channels of the result; if the input has others, it passes a convolution of one position.
        dropout: share of the numbers that training sets to 0, before the second convolution.
        dtype: what the convolutions compute in.
        time_conditioning: see `UNetSizes`.
        norm_epsilon: what normalisation adds to variances.
    """

    features: int
    dropout: float = 0.0
    dtype: str = 'float32'
    time_conditioning: TimeConditioning = 'scale_shift'
    norm_epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array, vector: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Maps grids [b *grid c], with the vector of time and context [b d], to [b *grid features]."""
        (x,) = cpu_barrier(x)
        first, second = (GroupNorm(epsilon=self.norm_epsilon) for _ in range(2))
        h = Conv(self.features, dtype=self.dtype)(nn.swish(first(x)))
        # In float32, as the normalisation that follows.
        if self.time_conditioning == 'add':
            h = second(h + over_grid(nn.Dense(self.features)(vector), h).astype(h.dtype))
        else:
            h = second(h, *jnp.split(nn.Dense(2 * self.features)(vector), 2, axis=-1))
        h = dropout(nn.swish(h), keys, self.dropout)
        h = Conv(self.features, dtype=self.dtype, kernel_init=_ZEROS)(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, dtype=self.dtype)(x)
        return x + h

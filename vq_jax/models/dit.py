"""The diffusion transformer of Peebles and Xie 2023 (DiT, arXiv:2212.09748), with adaLN-Zero."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.models.attention import CrossAttention, attend
from vq_jax.models.conditioning import Conditioning, sinusoids
from vq_jax.models.context import NOTHING, Context, beside
from vq_jax.models.convolution import Initializer
from vq_jax.models.normalisation import layer_norm
from vq_jax.ops.dropout import dropout
from vq_jax.ops.grids import from_patches, per_axis, to_patches
from vq_jax.ops.keys import fold_in
from vq_jax.ops.rows import dot_by_rows
from vq_jax.ops.sharding import split_batch

_ZEROS = nn.initializers.zeros_init()
_XAVIER = nn.initializers.xavier_uniform()


@dataclasses.dataclass(frozen=True)
class DiTSizes:
    """Sizes of a diffusion transformer.

    Attributes:
        patch: so many positions on each axis become one token; in Python, a tuple gives each axis its own.
        depth: blocks.
        width: of the vectors.
        heads: of attention; they must divide the width.
        mlp_ratio: width inside the connected layers, in widths.
        dropout: share of the numbers that training sets to 0, in what each block adds.
        dtype: what the layers compute in.
        remat: compute the insides of blocks again in the backward pass instead of keeping them.
    """

    patch: int | tuple[int, ...] = 2
    depth: int = 12
    width: int = 384
    heads: int = 6
    mlp_ratio: int = 4
    dropout: float = 0.0
    dtype: Literal['float32', 'bfloat16'] = 'float32'
    remat: bool = False

    def __post_init__(self) -> None:
        check_least(1, self, 'patch', 'depth', 'width', 'heads', 'mlp_ratio')
        check_share(self, 'dropout', one=False)
        if self.width % self.heads or self.width % 4:
            raise UserError(
                f'width is {self.width}, not a multiple of 4 and of {self.heads} heads; change one.'
            )

    def factors(self, rank: int) -> tuple[int, ...]:
        """What the sizes of so many axes must be multiples of."""
        return per_axis(self.patch, rank, 'patch')


class DiT(nn.Module):
    """Noisy examples and times to predictions.

    Of a context, the vector is added to the embedding of the time, the grid is further channels beside the
    noisy example, and each block attends to the tokens after its self-attention.

    Attributes:
        sizes: see `DiTSizes`.
        features: channels that come out.
    """

    sizes: DiTSizes
    features: int

    @nn.compact
    def __call__(
        self, x: jax.Array, t: jax.Array, context: Context = NOTHING, keys: jax.Array | None = None
    ) -> jax.Array:
        """Predicts; arguments and result are those of `vq_jax.models.unet.UNet`."""
        s = self.sizes
        x = to_patches(beside(x, context.grid), s.patch)
        b, *grid, _ = x.shape
        x = _dense(s.width, s)(x.reshape(b, math.prod(grid), -1))
        x = split_batch(x + positions(grid, s.width).astype(s.dtype))
        vector = nn.swish(Conditioning(s.width, dtype=s.dtype)(t, context.vector))
        block = nn.remat(DiTBlock) if s.remat else DiTBlock
        for i in range(s.depth):
            # The name is that without remat too.
            x = split_batch(block(s, name=f'DiTBlock_{i}')(x, vector, fold_in(keys, i), context))
        shift, scale = _changes(vector, 2, s)
        x = _normalised(x) * (1 + scale) + shift
        features = math.prod(s.factors(len(grid))) * self.features
        x = _dense(features, s, _ZEROS)(x.astype(s.dtype))
        return from_patches(x.reshape(b, *grid, -1), s.patch).astype(jnp.float32)


class DiTBlock(nn.Module):
    """Attention, then connected layers, each normalised, scaled, shifted and gated by a vector."""

    sizes: DiTSizes

    @nn.compact
    def __call__(
        self, x: jax.Array, vector: jax.Array, keys: jax.Array | None, context: Context = NOTHING
    ) -> jax.Array:
        """Maps tokens [b n d], with the vector of time and context [b d], to the same."""
        s = self.sizes
        b, n, d = x.shape
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = _changes(vector, 6, s)
        y = (_normalised(x) * (1 + scale) + shift).astype(s.dtype)
        qkv = _dense(3 * d, s)(y).reshape(b, n, 3, s.heads, -1)
        y = attend(*(qkv[:, :, i] for i in range(3))).reshape(b, n, d)
        y = _dense(d, s)(y)
        x = x + gate * dropout(y, fold_in(keys, 0), s.dropout)
        if context.tokens is not None:
            y = CrossAttention(d, s.heads, s.dtype, _XAVIER)(x, context.tokens, context.mask)
            x = x + dropout(y, fold_in(keys, 2), s.dropout)
        y = (_normalised(x) * (1 + mlp_scale) + mlp_shift).astype(s.dtype)
        y = nn.gelu(_dense(s.mlp_ratio * d, s)(y))
        y = _dense(d, s)(y)
        return x + mlp_gate * dropout(y, fold_in(keys, 1), s.dropout)


def positions(grid: Sequence[int], width: int) -> jax.Array:
    """A vector for each position of a grid [prod(grid) width]: sinusoids of its index on each axis in turn.

    Raises:
        UserError: if the width cannot be divided into as many pairs of numbers for every axis.
    """
    rank = len(grid)
    if width % (2 * rank):
        raise UserError(
            f'the positions of {rank} axes need a width of a multiple of {2 * rank}, not {width}; change '
            'the width.'
        )
    indices = jnp.indices(grid).reshape(rank, -1)
    return jnp.concatenate([sinusoids(index, width // rank) for index in indices], axis=-1)


def _dense(features: int, sizes: DiTSizes, kernel_init: Initializer = _XAVIER) -> nn.Dense:
    return nn.Dense(features, dtype=sizes.dtype, kernel_init=kernel_init, dot_general=dot_by_rows)


def _changes(vector: jax.Array, n: int, sizes: DiTSizes) -> list[jax.Array]:
    """Scales, shifts and gates [b 1 d]; zeros at first. Called inside a module's compact method."""
    changes = nn.Dense(n * sizes.width, dtype=sizes.dtype, kernel_init=_ZEROS)(vector)
    return jnp.split(changes[:, None], n, axis=-1)


def _normalised(x: jax.Array) -> jax.Array:
    """Vectors [... d] with mean 0 and variance 1; called inside a module's compact method."""
    return layer_norm('float32', affine=False)(x)

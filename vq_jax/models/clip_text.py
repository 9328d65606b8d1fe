"""The text encoder of CLIP, as published, for texts as conditions: Radford et al. 2021 (arXiv:2103.00020)."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.attention import attend, causal_mask

_EPSILON = 1e-5  # of the published code, in all sizes


class CLIPTextEncoder(nn.Module):
    """Tokens of a text to a vector for each, of which every one sees those before it.

    The vector of the last token, which marks the end, is that of the whole text (section 2.4 of the paper),
    before the linear map to what texts and images have in common.

    Attributes:
        vocabulary: tokens.
        positions: the most tokens of a text.
        width: of the vectors.
        depth: blocks.
        heads: of attention; they must divide the width.
        mlp_width: between the connected layers.
        mlp: what is between them: 'gelu', or 'quick_gelu', its approximation x * sigmoid(1.702 x).
        dtype: what the layers compute in.
    """

    vocabulary: int
    positions: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    mlp: Literal['quick_gelu', 'gelu'] = 'quick_gelu'
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens int32 [b m], -1 after the end, to float32 [b m width].

        What stands where there is no token is of no use.
        """
        x = nn.Embed(self.vocabulary, self.width, name='token')(jnp.maximum(tokens, 0))
        table = self.param('position', nn.initializers.normal(), (self.positions, self.width), jnp.float32)
        x = (x + table[: tokens.shape[1]]).astype(self.dtype)
        for i in range(self.depth):
            x = _Block(self.heads, self.mlp_width, self.mlp, self.dtype, name=f'block_{i}')(x)
        return _norm(self.dtype, 'norm')(x).astype(jnp.float32)


class _Block(nn.Module):
    """A block; its attributes are those of `CLIPTextEncoder`."""

    heads: int
    mlp_width: int
    mlp: str
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps vectors [b m width] to the same."""
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        y = _norm(self.dtype, 'before_attention')(x)
        q, k, v = (
            dense(x.shape[-1], name=name)(y).reshape(*y.shape[:2], self.heads, -1)
            for name in ('query', 'key', 'value')
        )
        seen = attend(q, k, v, causal_mask(x.shape[1])).reshape(x.shape)
        x = x + dense(x.shape[-1], name='attended')(seen)
        wide = dense(self.mlp_width, name='widen')(_norm(self.dtype, 'before_mlp')(x))
        exact = self.mlp == 'gelu'
        wide = nn.gelu(wide, approximate=False) if exact else wide * nn.sigmoid(1.702 * wide)
        return x + dense(x.shape[-1], name='narrow')(wide)


def _norm(dtype: str, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=_EPSILON, dtype=dtype, use_fast_variance=False, name=name)

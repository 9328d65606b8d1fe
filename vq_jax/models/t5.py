"""The encoder of T5, as published, for texts as conditions: Raffel et al. 2020 (arXiv:1910.10683)."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

_EPSILON = 1e-6  # of the published code, in all sizes


class T5Encoder(nn.Module):
    """Tokens of a text to a vector for each, of which every one sees all others.

    The form of T5 has a ReLU between its connected layers; that of T5 1.1, FLAN-T5 and mT5 gates them with
    the tanh approximation of GELU (Shazeer 2020, arXiv:2002.05202). Attention is not scaled, and knows of
    positions what `relative_buckets` says, in the same way in each block.

    Attributes:
        vocabulary: tokens.
        width: of the vectors.
        depth: blocks.
        heads: of attention.
        head_width: of each head.
        mlp_width: between the connected layers.
        gated: whether they are gated.
        buckets: of distances between positions.
        distance: from which on all distances are in the last bucket.
        dtype: what the layers compute in.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    head_width: int
    mlp_width: int
    gated: bool
    buckets: int = 32
    distance: int = 128
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens int32 [b m], -1 after the end, to float32 [b m width].

        What stands where there is no token is of no use.
        """
        n = tokens.shape[1]
        x = nn.Embed(self.vocabulary, self.width, name='token')(jnp.maximum(tokens, 0))
        table = self.param('position', nn.initializers.normal(), (self.buckets, self.heads), jnp.float32)
        bias = table[relative_buckets(n, self.buckets, self.distance)].transpose(2, 0, 1)[None]
        seen = (tokens >= 0)[:, None, None]
        for i in range(self.depth):
            block = _Block(
                self.heads, self.head_width, self.mlp_width, self.gated, self.dtype, name=f'block_{i}'
            )
            x = block(x, bias, seen)
        return _norm(self.dtype, 'norm')(x).astype(jnp.float32)


class _Block(nn.Module):
    """A block; its attributes are those of `T5Encoder`."""

    heads: int
    head_width: int
    mlp_width: int
    gated: bool
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array, seen: jax.Array) -> jax.Array:
        """Maps vectors [b m width], with what is added to scores [1 heads m m], and which keys are seen."""
        dense = functools.partial(nn.Dense, use_bias=False, dtype=self.dtype)
        y = _norm(self.dtype, 'before_attention')(x)
        q, k, v = (
            dense(self.heads * self.head_width, name=name)(y).reshape(*y.shape[:2], self.heads, -1)
            for name in ('query', 'key', 'value')
        )
        y = jax.nn.dot_product_attention(q, k, v, bias.astype(q.dtype), seen, scale=1.0)
        x = x + dense(x.shape[-1], name='attended')(y.reshape(*y.shape[:2], -1))
        y = _norm(self.dtype, 'before_mlp')(x)
        wide = dense(self.mlp_width, name='widen')(y)
        wide = nn.gelu(dense(self.mlp_width, name='gate')(y)) * wide if self.gated else nn.relu(wide)
        return x + dense(x.shape[-1], name='narrow')(wide)


def _norm(dtype: str, name: str) -> nn.RMSNorm:
    return nn.RMSNorm(epsilon=_EPSILON, dtype=dtype, name=name)


def relative_buckets(n: int, buckets: int, distance: int) -> np.ndarray:
    """The bucket of how far each key is from each query, int [n n], of section 2.1 of the paper.

    Half of the buckets are of keys after the query. Of each half, one half has a distance each, and the
    others grow with the logarithm of the distance, up to the last, which is of all from `distance` on.
    """
    away = np.arange(n) - np.arange(n)[:, None]
    half, far = buckets // 2, np.abs(away)
    exact = half // 2
    with np.errstate(divide='ignore'):
        share = np.log(far.astype(np.float32) / exact) / math.log(distance / exact)
    grown = exact + np.maximum(share * (half - exact), 0).astype(int)
    return half * (away > 0) + np.where(far < exact, far, np.minimum(grown, half - 1))

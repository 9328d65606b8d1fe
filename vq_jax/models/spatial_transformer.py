"""The spatial transformer of latent diffusion: Rombach et al. 2022 (arXiv:2112.10752), appendix E.2.1."""

import jax
from flax import linen as nn

from vq_jax.models.attention import CrossAttention
from vq_jax.models.convolution import Conv
from vq_jax.models.normalisation import GroupNorm, layer_norm
from vq_jax.ops.barrier import cpu_barrier
from vq_jax.ops.rows import dot_by_rows

_EPSILON = 1e-5  # of layer normalisation in the published code
_MLP_RATIO = 4  # width inside the connected layers there, in channels
_LECUN = nn.initializers.lecun_normal()


class SpatialTransformer(nn.Module):
    """A transformer over all positions of a grid, added to the input.

    Attributes:
        depth: blocks.
        heads: of attention; they must divide the channels.
        dtype: what is computed in.
    """

    depth: int
    heads: int = 1
    dtype: str = 'float32'

    @nn.compact
    def __call__(
        self, x: jax.Array, tokens: jax.Array | None = None, mask: jax.Array | None = None
    ) -> jax.Array:
        """Maps [b *grid c], with tokens of a context [b m d] if there are any, to the same.

        The mask is True for the tokens that are there, bool [b m]; None if all are.
        """
        (x,) = cpu_barrier(x)
        b, *_, c = x.shape
        y = Conv(c, 1, dtype=self.dtype, name='input')(GroupNorm()(x)).reshape(b, -1, c)
        for _ in range(self.depth):
            y = TransformerBlock(self.heads, self.dtype)(y, tokens, mask)
        zeros = nn.initializers.zeros_init()
        return x + Conv(c, 1, dtype=self.dtype, kernel_init=zeros, name='output')(y.reshape(x.shape))


class TransformerBlock(nn.Module):
    """Self-attention, attention to tokens, and connected layers with a gate (GEGLU).

    Of the last, Shazeer 2020 (arXiv:2002.05202). The attributes are those of `SpatialTransformer`.
    """

    heads: int
    dtype: str

    @nn.compact
    def __call__(self, x: jax.Array, tokens: jax.Array | None, mask: jax.Array | None) -> jax.Array:
        """Maps [b n c], with tokens [b m d], to the same."""
        c = x.shape[-1]

        def attention(name: str) -> CrossAttention:
            return CrossAttention(
                c, self.heads, self.dtype, _LECUN, _LECUN, biases=False, norm_epsilon=_EPSILON, name=name
            )

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, dot_general=dot_by_rows, name=name)

        x = x + attention('self_attention')(x)
        if tokens is not None:
            x = x + attention('cross_attention')(x, tokens, mask)
        y = layer_norm(self.dtype, epsilon=_EPSILON)(x)
        y = dense(_MLP_RATIO * c, 'widen')(y) * nn.gelu(dense(_MLP_RATIO * c, 'gate')(y), approximate=False)
        return x + dense(c, 'narrow')(y)

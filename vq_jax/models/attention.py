"""Attention: each query brings back the values of the keys that are like it, in one core for all networks.

Vaswani et al. 2017 (arXiv:1706.03762), section 3.2. Who may see whom has three forms: causal, block-causal,
and cross-attention to the tokens of a context.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.models.convolution import Conv, Initializer
from vq_jax.models.normalisation import GroupNorm, layer_norm
from vq_jax.ops.barrier import cpu_barrier
from vq_jax.ops.rows import dot_by_rows


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Attention of several heads, over `jax.nn.dot_product_attention`.

    Of queries [b n heads d], keys and values [b m heads d], the mean of the values that each query sees
    [b n heads d]; 0 where it may see none. The mask is True where a query may see a key, of a shape that
    broadcasts to [b heads n m]; None shows all.
    """
    if mask is None:
        return jax.nn.dot_product_attention(q, k, v)
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    seen = jax.nn.dot_product_attention(q, k, v, mask=mask)
    # Of scores that are all equal, since all are masked, a softmax would make a mean of what is masked.
    return jnp.where(mask.any(-1).swapaxes(1, 2)[..., None], seen, 0)


def attend_merged(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Attention in which examples and heads are one axis.

    Of a cache in which they are two, XLA's compiler for CPUs makes four copies for each sampled token.
    Queries are [b*heads n d], keys and values [b*heads m d], and the mask, of a shape that broadcasts to
    [b*heads n m], shows each query one key or more.
    """
    scores = jnp.einsum('gnd,gmd->gnm', q, k, preferred_element_type=jnp.float32)
    scores = scores / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum('gnm,gmd->gnd', jax.nn.softmax(scores).astype(v.dtype), v)


def causal_mask(n: int) -> jax.Array:
    """Each position sees itself and those before it: bool [n n], True where a row may see a column."""
    return block_causal_mask(jnp.arange(n))


def block_causal_mask(blocks: jax.Array) -> jax.Array:
    """Each position sees all of its own block, whose number is in `blocks`, int [n], and of those before it.

    True where a row may see a column, bool [n n]. As for next-scale prediction: Tian et al. 2024
    (arXiv:2404.02905), section 3.2.
    """
    return blocks[:, None] >= blocks


class Attention(nn.Module):
    """Self-attention over all positions of a grid, added to the input.

    Attributes:
        dtype: what is computed in.
        heads: of attention; they must divide the channels.
        last_init: how the kernel of the last convolution starts.
        norm_epsilon: what normalisation adds to variances.
    """

    dtype: str = 'float32'
    heads: int = 1
    last_init: Initializer = nn.initializers.lecun_normal()
    norm_epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to the same."""
        (x,) = cpu_barrier(x)
        c = x.shape[-1]
        normal = GroupNorm(epsilon=self.norm_epsilon)(x)
        query, key, value = (
            Conv(c, 1, dtype=self.dtype, name=name)(normal).reshape(len(x), -1, self.heads, c // self.heads)
            for name in ('query', 'key', 'value')
        )
        seen = attend(query, key, value).reshape(x.shape)
        return x + Conv(c, 1, dtype=self.dtype, kernel_init=self.last_init, name='output')(seen)


class AxialAttention(nn.Module):
    """Self-attention along each axis of a grid by itself; the sum of what positions see along all of them.

    Ho et al. 2019 (arXiv:1912.12180), in the form of VideoGPT's code (Yan et al. 2021, arXiv:2104.10157):
    with n positions along each of k axes, each sees about k*n of them and not n^k. The input is neither
    normalised nor added to the result.

    Attributes:
        heads: of attention; they must divide the channels.
        dtype: what is computed in.
    """

    heads: int = 1
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to the same."""
        (x,) = cpu_barrier(x)
        c = x.shape[-1]

        def along(axis: int) -> jax.Array:
            def lines(name: str) -> jax.Array:
                made = Conv(c, 1, use_bias=False, dtype=self.dtype, name=f'{name}_{axis - 1}')(x)
                return jnp.moveaxis(made, axis, -2)  # [b *others n c]

            query, key, value = map(lines, ('query', 'key', 'value'))
            heads = query.shape[-2], self.heads, c // self.heads
            seen = attend(*(x.reshape(-1, *heads) for x in (query, key, value)))
            seen = jnp.moveaxis(seen.reshape(query.shape), -2, axis)
            return Conv(c, 1, dtype=self.dtype, name=f'output_{axis - 1}')(seen)

        return sum(map(along, range(1, x.ndim - 1)))


class CrossAttention(nn.Module):
    """Attention of positions to the tokens of a context, or to themselves, to be added to the input.

    Attributes:
        width: of the positions.
        heads: of attention; they must divide the width.
        dtype: what is computed in.
        kernel_init: how the other kernels start.
        last_init: how the last kernel starts; at zeros the context changes nothing before training.
        biases: queries, keys and values have some.
        norm_epsilon: what normalisation adds to variances.
    """

    width: int
    heads: int = 1
    dtype: str = 'float32'
    kernel_init: Initializer = nn.initializers.lecun_normal()
    last_init: Initializer = nn.initializers.zeros_init()
    biases: bool = True
    norm_epsilon: float = 1e-6

    def setup(self) -> None:  # noqa: D102 (Flax's)
        def dense(init: Initializer, biases: bool = True) -> nn.Dense:
            options = {'use_bias': biases, 'dtype': self.dtype, 'dot_general': dot_by_rows}
            return nn.Dense(self.width, kernel_init=init, **options)

        self.norm = layer_norm(self.dtype, epsilon=self.norm_epsilon)
        self.query, self.key, self.value = (dense(self.kernel_init, self.biases) for _ in range(3))
        self.output = dense(self.last_init)

    def __call__(
        self, x: jax.Array, tokens: jax.Array | None = None, mask: jax.Array | None = None
    ) -> jax.Array:
        """What positions [b n width] see of a context's tokens [b m d]; a bias alone where there are none.

        The mask is True for the tokens that are there, bool [b m]; None if all are. Without tokens, what is
        normalised of the positions takes their place: self-attention.
        """
        return self.look(x, *self.read(self.norm(x) if tokens is None else tokens), mask)

    def read(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values [b m heads width/heads] of tokens [b m d], which many steps can share."""
        return self._split(self.key(tokens)), self._split(self.value(tokens))

    def look(self, x: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array | None) -> jax.Array:
        """As when called, with the keys and values that `read` returned."""
        shown = None if mask is None else mask[:, None, None]
        seen = attend(self._split(self.query(self.norm(x))), keys, values, shown)
        return self.output(seen.reshape(x.shape))

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], self.heads, -1)

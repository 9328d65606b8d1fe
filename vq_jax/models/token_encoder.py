"""What encodes conditions that are tokens, such as texts or codes: a small transformer that sees all."""

from typing import Literal

import jax
import jax.numpy as jnp

from vq_jax.models.context import Conditioner, Context
from vq_jax.models.normalisation import layer_norm
from vq_jax.models.transformer import INIT, Block, TransformerSizes
from vq_jax.ops.sharding import split_batch


class TokenEncoder(Conditioner, kw_only=True):
    """Embedded tokens of a condition to vectors of each and one of them all.

    A transformer in which every token sees all others (Vaswani et al. 2017, arXiv:1706.03762), with
    normalisation first. A vector that is learned stands before the tokens; what comes out in its place is the
    vector of the context, as BERT summarises a sentence (Devlin et al. 2019, arXiv:1810.04805, section 3),
    and the first of its tokens. A subclass embeds the tokens, and calls `context` from its compact
    `__call__`.

    Attributes:
        depth: blocks.
        width: of the vectors.
        heads: of attention; they must divide the width.
        mlp_ratio: width inside the connected layers, in widths.
        dtype: what the layers compute in.
    """

    depth: int = 4
    width: int = 192
    heads: int = 4
    mlp_ratio: int = 4
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        """Raises `UserError` for sizes that do not fit."""
        self._sizes()
        super().__post_init__()

    def context(self, x: jax.Array, there: jax.Array) -> Context:
        """The context of embedded tokens [b m width], of which some are there, bool [b m].

        Its tokens are [b m+1 width], and its vector is [b width].
        """
        sizes = self._sizes()
        first = self.param('first', INIT, (1, 1, self.width), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], axis=1)
        x = x + self.param('position', INIT, x.shape[1:], jnp.float32)
        there = jnp.pad(there, ((0, 0), (1, 0)), constant_values=True)
        # Of each head of each example, as `attend_merged` takes them.
        seen = jnp.repeat(there, self.heads, axis=0)[:, None]
        for i in range(self.depth):
            x = split_batch(Block(sizes, name=f'block_{i}')(x.astype(self.dtype), None, seen, None, None))
        x = layer_norm(self.dtype)(x).astype(jnp.float32)
        return Context(vector=x[:, 0], tokens=x, mask=there)

    def _sizes(self) -> TransformerSizes:
        return TransformerSizes(self.depth, self.width, self.heads, self.mlp_ratio, dtype=self.dtype)

"""The RQ-Transformer, of grids with several codes at a position: Lee et al. 2022 (arXiv:2203.01941).

Section 3.2: a transformer over positions sees one vector of each, and another, over depths, predicts the
codes of a position one after the other. UniAudio (Yang et al. 2023, arXiv:2310.00704) and Moshi (Défossez et
al. 2024, arXiv:2410.00037) have it for the codes of sound.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.context import NOTHING, Context
from vq_jax.models.transformer import INIT, Cache, Transformer, TransformerSizes
from vq_jax.ops.keys import fold_in
from vq_jax.ops.rows import dot_by_rows


@dataclasses.dataclass(frozen=True)
class DepthTransformerSizes(TransformerSizes):
    """Sizes of the transformer over depths, which is applied to each position; see `TransformerSizes`.

    Its `positions` are the depths.
    """

    depth: int = 2


class RQTransformer(nn.Module):
    """Codes of several depths to logits of codes, each from those of the positions before and of its own.

    Each depth has embeddings and a head of its own, as in Moshi: of a residual quantizer the codebooks may
    have nothing in common. (Those of the paper are one for all depths.)

    Attributes:
        positions: sees the sum of the embeddings of the codes of each position, its `tokens_per_slot`. Its
            own head is not used.
        depths: sees what `positions` makes of the ones before, in its first slot, and then a code a slot, of
            as many depths as its grid is long; it reads `num_outputs` tokens of each depth but the last.
    """

    positions: Transformer
    depths: Transformer

    grow = staticmethod(Transformer.grow)

    def setup(self) -> None:  # noqa: D102 (Flax's)
        k, depth = self.depths.num_outputs, self.positions.tokens_per_slot
        self.heads = [nn.Dense(k, kernel_init=INIT, dot_general=dot_by_rows) for _ in range(depth)]

    def __call__(
        self, codes: jax.Array, context: Context = NOTHING, keys: jax.Array | None = None
    ) -> jax.Array:
        """The logits of all codes.

        Args:
            codes: int [b n depth], n the number of positions.
            context: of each example, for `positions`.
            keys: a random key for each example [b], for dropout; None drops nothing.

        Returns:
            float32 [b n depth k]; those of a code depend on the codes of the positions before it and on those
            before it in its position alone.
        """
        b, n, depth = codes.shape
        vectors = self.positions.hidden(codes, context, fold_in(keys, 0))
        own = fold_in(keys, 1)
        if own is not None:
            own = jax.vmap(lambda key: jax.random.split(key, n))(own).reshape(-1)
        tokens = codes + self.depths.num_outputs * jnp.arange(depth)
        x = self.depths.hidden(tokens.reshape(-1, depth), Context(vector=vectors.reshape(b * n, -1)), own)
        logits = [head(x[:, d]) for d, head in enumerate(self.heads)]
        return jnp.stack(logits, axis=1).reshape(b, n, depth, -1)

    def start(self, b: int, context: Context = NOTHING) -> Cache:
        """See `Transformer.start`."""
        return self.positions.start(b, context)

    def step(self, codes: jax.Array, slot: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """What `depths` is given of one position, given those before it.

        Args:
            codes: of the position before it, int [b depth]; of no meaning in slot 0.
            slot: which position is predicted, int, from 0 to n - 1.
            cache: as for `Transformer.step`.

        Returns:
            Vectors [b width], and the cache for the next position.
        """
        return self.positions.hidden_step(codes, slot, cache)

    def start_depths(self, vectors: jax.Array) -> Cache:
        """The cache of `step_depths` for the first code of a position, of vectors [b width] (see `step`)."""
        start = self.depths.start(len(vectors), Context(vector=vectors))
        return Transformer.grow(start, len(self.heads))

    def step_depths(self, before: jax.Array, depth: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """The logits of one code, given those before it in its position.

        Args:
            before: the code before it, int [b]; of no meaning at depth 0.
            depth: which code is predicted, int.
            cache: what the step for the code before it returned, or `start_depths`.

        Returns:
            Logits float32 [b k], and the cache for the next code.
        """
        token = before + self.depths.num_outputs * jnp.maximum(depth - 1, 0)
        x, cache = self.depths.hidden_step(token, depth, cache)
        heads = [functools.partial(RQTransformer._logits, number=i) for i in range(len(self.heads))]
        return nn.switch(depth, heads, self, x), cache

    def _logits(self, x: jax.Array, number: int) -> jax.Array:
        return self.heads[number](x)

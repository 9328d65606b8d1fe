"""A transformer over grids of tokens: causal, in the manner of GPT, or seeing all, for MaskGIT.

Its input has one slot before the tokens, which holds the class. A causal transformer predicts each
token at the slot before it, so that slot i, which holds token i - 1, is asked for token i. One that sees
all predicts each token at the token's own slot.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.models.conditioning_stack import ConditioningStack
from vq_jax.models.normalisation import layer_norm
from vq_jax.ops.dropout import dropout
from vq_jax.ops.keys import fold_in

_INIT = nn.initializers.normal(0.02)  # Radford et al. 2019
_ROTARY_BASE = 10_000.0  # Su et al. 2021 (arXiv:2104.09864), section 3.2.2

Cache = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class TransformerSizes:
    """Sizes of a transformer.

    Attributes:
        depth: blocks.
        width: of the vectors.
        heads: of attention; they must divide the width.
        mlp_ratio: width inside the connected layers, in widths.
        positions: 'learned' adds a vector for each place; 'rotary' turns queries and keys by their row
            and column, half of each head for either (Su et al. 2021, in two dimensions).
        dropout: share of the numbers that training sets to 0, after the embedding and in each block.
        dtype: what the layers compute in; logits are float32.
    """

    depth: int = 6
    width: int = 256
    heads: int = 8
    mlp_ratio: int = 4
    positions: Literal['learned', 'rotary'] = 'learned'
    dropout: float = 0.0
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, 'config.transformer.', self, 'depth', 'width', 'heads', 'mlp_ratio')
        check_share('config.transformer.', self, 'dropout', one=False)
        if self.width % self.heads:
            raise UserError(f'the width {self.width} is not a multiple of {self.heads} heads; change one.')
        if self.positions == 'rotary' and (self.width // self.heads) % 4:
            raise UserError(
                f'rotary positions need heads of a multiple of 4 numbers, not {self.width // self.heads}; '
                'change the width or the number of heads.'
            )


class Transformer(nn.Module):
    """Tokens to logits of tokens: Vaswani et al. 2017, with normalisation first (Radford et al. 2019).

    Attributes:
        sizes: see `TransformerSizes`.
        num_inputs: tokens that can be read; more than `num_outputs` where a mask is among them.
        num_outputs: tokens that can be predicted, k.
        grid: rows and columns of the tokens [h w], which are read row by row.
        num_classes: classes that can be asked for; one more stands for none.
        causal: each slot sees itself and what is before it.
        num_above: tokens of the coarser level that these are finer ones of; 0 where there is none.
    """

    sizes: TransformerSizes
    num_inputs: int
    num_outputs: int
    grid: tuple[int, int]
    num_classes: int = 0
    causal: bool = True
    num_above: int = 0

    def setup(self) -> None:  # noqa: D102 (Flax's)
        s, n = self.sizes, self.grid[0] * self.grid[1]
        self.token = nn.Embed(self.num_inputs, s.width, embedding_init=_INIT)
        self.label = nn.Embed(self.num_classes + 1, s.width, embedding_init=_INIT)
        if s.positions == 'learned':
            self.place = self.param('place', _INIT, (n + 1, s.width), jnp.float32)
        if self.num_above:
            self.conditioning = ConditioningStack(self.num_above, s.width, self.grid, dtype=s.dtype)
        self.blocks = [Block(s) for _ in range(s.depth)]
        self.norm = layer_norm(s.dtype)
        self.head = nn.Dense(self.num_outputs, kernel_init=_INIT)

    def __call__(
        self,
        tokens: jax.Array,
        labels: jax.Array,
        above: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """The logits of all tokens.

        Args:
            tokens: int [b n], n = h w.
            labels: int [b]; `num_classes` stands for no class.
            above: tokens of the coarser level, int [b h' w'], if there is one.
            keys: a random key for each example [b], for dropout; None drops nothing.

        Returns:
            float32 [b n k]; if causal, those at i depend on the tokens before i alone.
        """
        label, token = self.label(labels)[:, None], self.token(tokens)
        if self.causal:
            x = jnp.concatenate([label, token[:, :-1]], axis=1) + self._context(above)
        else:
            x = jnp.concatenate([label, token + self._context(above)], axis=1)
        slots = jnp.arange(x.shape[1])
        x = dropout(self._placed(x, slots), fold_in(keys, 0), self.sizes.dropout)
        mask = slots[:, None] >= slots if self.causal else None
        for i, block in enumerate(self.blocks, 1):
            x = block(x, self._angles(slots), mask, fold_in(keys, i))
        x = x if self.causal else x[:, 1:]
        return self._logits(x)

    def start(self, labels: jax.Array, above: jax.Array | None = None) -> Cache:
        """What all steps are told, and a cache without room for any token; see `grow`."""
        s = self.sizes
        empty = jnp.zeros((len(labels) * s.heads, 0, s.width // s.heads), s.dtype)
        blocks = [{'keys': empty, 'values': empty} for _ in range(s.depth)]
        return {'label': self.label(labels), 'context': self._context(above), 'blocks': blocks}

    @staticmethod
    def grow(cache: Cache, tokens: int) -> Cache:
        """The cache with room for so many more tokens."""
        room = ((0, 0), (0, tokens), (0, 0))
        return {**cache, 'blocks': jax.tree.map(lambda x: jnp.pad(x, room), cache['blocks'])}

    def step(self, tokens: jax.Array, slot: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """The logits of one token, given those before it; only for a causal transformer.

        Args:
            tokens: the token before it, int [b]; of no meaning in slot 0.
            slot: which token is asked for, int, from 0 to n - 1.
            cache: what the step for the token before it returned, or `start`, with room for this token.

        Returns:
            Logits float32 [b k], and the cache for the next token.
        """
        x = jnp.where(slot == 0, cache['label'], self.token(tokens))[:, None]
        if self.num_above:
            x = x + jax.lax.dynamic_slice_in_dim(cache['context'], slot, 1, axis=1)
        slots = slot[None]
        x = self._placed(x, slots)
        grown = []
        for block, one in zip(self.blocks, cache['blocks'], strict=True):
            x, one = block.step(x, self._angles(slots), slot, one)
            grown.append(one)
        return self._logits(x)[:, 0], {**cache, 'blocks': grown}

    def _context(self, above: jax.Array | None) -> jax.Array | float:
        """What each token's place is told of the coarser level [b n width]; 0 if there is none."""
        if not self.num_above:
            return 0.0
        context = self.conditioning(above)
        return context.reshape(len(context), -1, self.sizes.width)

    def _placed(self, x: jax.Array, slots: jax.Array) -> jax.Array:
        if self.sizes.positions == 'learned':
            x = x + self.place[slots]
        return x.astype(self.sizes.dtype)

    def _angles(self, slots: jax.Array) -> jax.Array | None:
        """How far the pairs of a head's numbers are turned in each slot [slots d/2]."""
        s = self.sizes
        if s.positions == 'learned':
            return None
        # The slot of the class is turned by nothing, and the first token by one row and column.
        h, w = self.grid
        rows, columns = np.divmod(np.arange(h * w), w) + np.ones((2, 1), int)
        places = np.concatenate([np.zeros((1, 2)), np.stack([rows, columns], 1)])
        d = s.width // s.heads
        speeds = _ROTARY_BASE ** (-np.arange(0, d // 2, 2) / (d // 2))
        angles = (places[:, :, None] * speeds).reshape(h * w + 1, d // 2)
        return jnp.asarray(angles, jnp.float32)[slots]

    def _logits(self, x: jax.Array) -> jax.Array:
        return self.head(self.norm(x).astype(jnp.float32))


class Block(nn.Module):
    """Attention, then connected layers, each added to what came in.

    Attributes:
        sizes: see `TransformerSizes`.
    """

    sizes: TransformerSizes

    def setup(self) -> None:  # noqa: D102 (Flax's)
        s = self.sizes
        self.before_attention = layer_norm(s.dtype)
        self.qkv = nn.Dense(3 * s.width, dtype=s.dtype, kernel_init=_INIT)
        self.attended = nn.Dense(s.width, dtype=s.dtype, kernel_init=_INIT)
        self.before_mlp = layer_norm(s.dtype)
        self.widen = nn.Dense(s.mlp_ratio * s.width, dtype=s.dtype, kernel_init=_INIT)
        self.narrow = nn.Dense(s.width, dtype=s.dtype, kernel_init=_INIT)

    def __call__(
        self, x: jax.Array, angles: jax.Array | None, mask: jax.Array | None, keys: jax.Array | None
    ) -> jax.Array:
        """Maps [b n d] to the same.

        Args:
            x: the vectors.
            angles: see `rotate`, or None.
            mask: True where a row's slot may see a column's [n n], or None.
            keys: for dropout [b], or None.
        """
        rate = self.sizes.dropout
        q, k, v = self._heads(x, angles)
        x = x + dropout(self._attend(q, k, v, mask), fold_in(keys, 0), rate)
        return x + dropout(self._mlp(x), fold_in(keys, 1), rate)

    def step(
        self, x: jax.Array, angles: jax.Array | None, slot: jax.Array, cache: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """One slot [b 1 d], with the keys and values of those before it in the cache."""
        q, k, v = self._heads(x, angles)
        keys = jax.lax.dynamic_update_slice_in_dim(cache['keys'], k, slot, axis=1)
        values = jax.lax.dynamic_update_slice_in_dim(cache['values'], v, slot, axis=1)
        mask = (jnp.arange(keys.shape[1]) <= slot)[None]
        x = x + self._attend(q, keys, values, mask)
        return x + self._mlp(x), {'keys': keys, 'values': values}

    def _heads(self, x: jax.Array, angles: jax.Array | None) -> tuple[jax.Array, ...]:
        """Queries, keys and values [b*heads n d].

        Examples and heads are one axis: of a cache in which they are two, XLA's compiler for CPUs makes
        four copies for each token that is drawn.
        """
        b, n, _ = x.shape
        heads = self.sizes.heads
        qkv = self.qkv(self.before_attention(x)).reshape(b, n, 3, heads, -1)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4).reshape(3, b * heads, n, -1)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        return q, k, v

    def _attend(self, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
        scores = jnp.einsum('gnd,gmd->gnm', q, k, preferred_element_type=jnp.float32)
        scores = scores / np.sqrt(q.shape[-1])
        if mask is not None:
            scores = jnp.where(mask, scores, -jnp.inf)
        shares = jax.nn.softmax(scores).astype(v.dtype)
        seen = jnp.einsum('gnm,gmd->gnd', shares, v)
        heads, (_, n, d) = self.sizes.heads, seen.shape
        seen = seen.reshape(-1, heads, n, d).transpose(0, 2, 1, 3)
        return self.attended(seen.reshape(-1, n, heads * d))

    def _mlp(self, x: jax.Array) -> jax.Array:
        return self.narrow(nn.gelu(self.widen(self.before_mlp(x))))


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
    """Turns pairs of numbers (Su et al. 2021, arXiv:2104.09864, equation 34).

    Number j of the first half is paired with number j of the second.

    Args:
        x: [... n d].
        angles: of each pair in radians [n d/2].
    """
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)

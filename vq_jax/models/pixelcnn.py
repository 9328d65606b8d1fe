"""The gated PixelCNN, without a blind spot: van den Oord et al. 2016 (arXiv:1606.05328).

Nothing is masked. What a convolution must not see is kept out by where it is padded: the vertical stack
sees its own row and those above, and is handed one row down to the horizontal one, which sees its own
row up to the present position; in the first layer, up to the position before.

Where tokens are sampled one by one, each layer keeps the few rows and positions that its kernel reaches back
to (Ramachandran et al. 2017, arXiv:1704.06001): the vertical stack advances once a row, and the horizontal
one once a position.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.models.code_embedding import embed_codes
from vq_jax.models.context import NOTHING, Context, VectorEmbedding, vector_or_ones
from vq_jax.models.convolution import Conv
from vq_jax.ops.dropout import dropout
from vq_jax.ops.keys import fold_in
from vq_jax.ops.rows import dot_by_rows

Cache = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PixelCNNSizes:
    """Sizes of a gated PixelCNN.

    Attributes:
        depth: gated layers.
        channels: of both stacks.
        first_kernel: side of the first layer's field, odd, 3 at least.
        kernel: side of the other layers' field, odd.
        dropout: share of the numbers that training sets to 0, after the gate of the horizontal stack.
        dtype: what the layers compute in; logits are float32.
    """

    depth: int = 10
    channels: int = 64
    first_kernel: int = 7
    kernel: int = 3
    dropout: float = 0.0
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'depth', 'channels', 'kernel')
        check_least(3, self, 'first_kernel')
        check_share(self, 'dropout', one=False)
        for name in ('first_kernel', 'kernel'):
            if not getattr(self, name) % 2:
                raise UserError(f'{name} is {getattr(self, name)}; give an odd number.')


class PixelCNN(nn.Module):
    """Grids of tokens to logits of tokens, each from those above it and to its left.

    The grid is seen as rows of its last axis: a grid of one axis is a single row, and one of three, [t h w],
    is t*h rows one below the other, so that the last rows of a frame are above the first of the next.

    A position may hold several tokens, side by side, as a pixel holds red, green and blue: each is predicted
    from those before it in its position too. The last layers alone see these, whereas van den Oord et al.
    2016 (arXiv:1601.06759, section 3.4) part the channels of every layer among the colours.

    Of a context, the vector and the grid are added before the gates of all layers (equation 4 of the paper).

    Attributes:
        sizes: see `PixelCNNSizes`.
        num_tokens: the tokens, k.
        grid: sizes of the axes of the grid of positions [*grid].
        tokens_per_position: side by side on the last axis.
    """

    sizes: PixelCNNSizes
    num_tokens: int
    grid: tuple[int, ...]
    tokens_per_position: int = 1

    grow = None  # its cache is of one size

    def setup(self) -> None:  # noqa: D102 (Flax's)
        s, t = self.sizes, self.tokens_per_position
        self.token = nn.Embed(t * self.num_tokens, s.channels)
        self.layers = [GatedLayer(s, first=i == 0) for i in range(s.depth)]
        self.hidden = [Conv(s.channels, (1, 1), dtype=s.dtype) for _ in range(t)]
        # Of the tokens before each in its position.
        self.before = [nn.Embed(i * self.num_tokens, s.channels) for i in range(1, t)]
        self.logits = [nn.Dense(self.num_tokens, dot_general=dot_by_rows) for _ in range(t)]

    def __call__(
        self, tokens: jax.Array, context: Context = NOTHING, keys: jax.Array | None = None
    ) -> jax.Array:
        """The logits of all tokens.

        Args:
            tokens: int [b *grid], the last axis times `tokens_per_position`; or the same in a row [b n].
            context: of each example; its grid is [b *grid c].
            keys: a random key for each example [b], for dropout; None drops nothing.

        Returns:
            float32, with an axis k after those of the tokens; those of a token depend on the tokens before
            it in row-major order alone.

        Raises:
            UserError: if the context has tokens, to which nothing here attends.
        """
        shape = tokens.shape
        b, (h, w) = len(tokens), self._rows
        tokens = tokens.reshape(b, h, w, self.tokens_per_position)
        x = self._embedded(tokens)
        vector, grid = vector_or_ones(context, b), self._grid(context)
        vertical, horizontal, skipped = x, x, 0.0
        for i, layer in enumerate(self.layers):
            added = layer.added(vector)
            vertical, horizontal, skip = layer(vertical, horizontal, added, grid, fold_in(keys, i))
            skipped = skipped + skip
        logits = [self._logits(skipped, tokens, i) for i in range(self.tokens_per_position)]
        return jnp.stack(logits, 3).reshape(*shape, self.num_tokens)

    def start(self, b: int, context: Context = NOTHING) -> Cache:
        """What `step` is given for the first token of b examples; `context` as above."""
        s, t = self.sizes, self.tokens_per_position
        w = self._rows[1]
        vector = vector_or_ones(context, b)

        def zeros(*shape: int) -> jax.Array:
            return jnp.zeros((b, *shape), s.dtype)

        return {
            'added': [layer.added(vector) for layer in self.layers],
            'grid': self._grid(context),
            'tokens': jnp.zeros((b, w * t), jnp.int32),
            'rows': [zeros(layer.reach, w, s.channels) for layer in self.layers],
            'handed': [zeros(1, w, 2 * s.channels) for _ in self.layers],
            'left': [zeros(1, layer.reach, s.channels) for layer in self.layers],
            'skipped': zeros(1, 1, s.channels),
        }

    def step(self, before: jax.Array, i: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """The logits of one token, given those before it.

        Args:
            before: the token before it, int [b]; of no meaning for the first.
            i: which token is predicted, int, from 0 on, in row-major order.
            cache: what the step for the token before it returned, or `start`.

        Returns:
            Logits float32 [b k], and the cache for the next token.
        """
        t = self.tokens_per_position
        n = self._rows[1] * t
        row, column, number = i // n, i % n // t, i % t
        cache = {**cache, 'tokens': cache['tokens'].at[:, (i - 1) % n].set(before)}
        cache = nn.cond((row > 0) & (i % n == 0), PixelCNN._end_row, _unchanged, self, cache, row - 1)
        cache = nn.cond(number == 0, PixelCNN._enter_position, _unchanged, self, cache, row, column)
        position = jax.lax.dynamic_slice_in_dim(cache['tokens'], column * t, t, axis=1)[:, None, None]
        heads = [functools.partial(PixelCNN._logits, number=j) for j in range(t)]
        logits = nn.switch(number, heads, self, cache['skipped'], position)
        return logits[:, 0, 0], cache

    @property
    def _rows(self) -> tuple[int, int]:
        """As how many rows, of how many positions, the grid is seen."""
        return math.prod(self.grid[:-1]), self.grid[-1]

    def _grid(self, context: Context) -> jax.Array | None:
        """The grid of a context as rows [b h w c]."""
        if context.tokens is not None:
            raise UserError('a PixelCNN does not attend to the tokens of a context; choose a transformer.')
        return None if context.grid is None else context.grid.reshape(len(context.grid), *self._rows, -1)

    def _end_row(self, cache: Cache, row: jax.Array) -> Cache:
        """Takes a row of tokens that is complete through the vertical stack."""
        b, w = len(cache['tokens']), self._rows[1]
        x = self._embedded(cache['tokens'].reshape(b, 1, w, -1))
        grid = _part(cache['grid'], row)
        rows, handed = [], []
        for layer, added, above in zip(self.layers, cache['added'], cache['rows'], strict=True):
            window = jnp.concatenate([above, x], 1)
            v, x = layer.down(window, added, grid)
            rows.append(window[:, 1:])
            handed.append(v)
        left = [jnp.zeros_like(x) for x in cache['left']]
        return {**cache, 'rows': rows, 'handed': handed, 'left': left}

    def _enter_position(self, cache: Cache, row: jax.Array, column: jax.Array) -> Cache:
        """Takes the horizontal stack on by one position."""
        t = self.tokens_per_position
        last = jax.lax.dynamic_slice_in_dim(cache['tokens'], (column - 1) * t, t, axis=1)
        # To the left of the first position there is nothing.
        x = jnp.where(column > 0, self._embedded(last[:, None, None]), 0)
        grid = _part(_part(cache['grid'], row), column, axis=2)
        left, skipped = [], 0.0
        for layer, added, passed, handed in zip(
            self.layers, cache['added'], cache['left'], cache['handed'], strict=True
        ):
            window = jnp.concatenate([passed, x], 2)
            left.append(window[:, :, 1:])
            seen = window[:, :, 1:] if layer.first else window
            x, skip = layer.along(seen, x, _part(handed, column, axis=2), added, grid)
            skipped = skipped + skip
        return {**cache, 'left': left, 'skipped': skipped}

    def _embedded(self, tokens: jax.Array) -> jax.Array:
        """The sum of the embeddings of the tokens of each position: int [b h w t] to [b h w c]."""
        return embed_codes(self.token, tokens).astype(self.sizes.dtype)

    def _logits(self, skipped: jax.Array, tokens: jax.Array, number: int) -> jax.Array:
        """Of one token of each position [b h w k], given those before it in the position."""
        x = self.hidden[number](nn.relu(skipped)).astype(jnp.float32)
        if number:
            x = x + embed_codes(self.before[number - 1], tokens[..., :number])
        return self.logits[number](nn.relu(x))


Added = dict[str, jax.Array]  # to both halves of each gate [b 2c], by the name of the stack


class GatedLayer(nn.Module):
    """A layer of both stacks: figure 2 of the paper.

    Attributes:
        sizes: see `PixelCNNSizes`.
        first: the horizontal stack does not see the present position, which holds what is to be predicted.
    """

    sizes: PixelCNNSizes
    first: bool

    @property
    def reach(self) -> int:
        """How many rows up, and how many positions to the left, a kernel sees."""
        return (self.sizes.first_kernel if self.first else self.sizes.kernel) // 2

    def setup(self) -> None:  # noqa: D102 (Flax's)
        s, r = self.sizes, self.reach

        def conv(features: int, *kernel: int, sides: int = 0) -> Conv:
            return Conv(features, kernel, padding=((0, 0), (sides, sides)), dtype=s.dtype)

        c = s.channels
        self.vertical = conv(2 * c, r + 1, 2 * r + 1, sides=r)
        self.horizontal = conv(2 * c, 1, r if self.first else r + 1)
        self.from_vertical = conv(2 * c, 1, 1)
        self.skip = conv(c, 1, 1)
        self.onwards = conv(c, 1, 1)
        self.classes = {stack: VectorEmbedding(2 * c) for stack in ('vertical', 'horizontal')}
        self.contexts = {stack: conv(2 * c, 1, 1) for stack in ('vertical', 'horizontal')}

    def added(self, vector: jax.Array) -> Added:
        """What the vector of a context [b d] adds at every position of each stack."""
        return {stack: embed(vector) for stack, embed in self.classes.items()}

    def __call__(
        self,
        vertical: jax.Array,
        horizontal: jax.Array,
        added: Added,
        grid: jax.Array | None,
        keys: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Maps both stacks [b h w c] to the same; the third result is what the horizontal one skips ahead.

        `grid`, [b h w d] or None, is that of the context.
        """
        r = self.reach
        v, onwards = self.down(jnp.pad(vertical, ((0, 0), (r, 0), (0, 0), (0, 0))), added, grid)
        # One row down: what the vertical stack hands to the horizontal one is above its row.
        handed = jnp.pad(v[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
        window = jnp.pad(horizontal, ((0, 0), (0, 0), (r, 0), (0, 0)))
        window = window[:, :, :-1] if self.first else window
        h, skip = self.along(window, horizontal, handed, added, grid, keys)
        return onwards, h, skip

    def down(self, window: jax.Array, added: Added, grid: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The vertical stack: rows [b r+h w c] to what is handed to the horizontal one, and onwards."""
        v = self.vertical(window)
        return v, self._gate(v, added, grid, 'vertical')

    def along(
        self,
        window: jax.Array,
        x: jax.Array,
        handed: jax.Array,
        added: Added,
        grid: jax.Array | None,
        keys: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """The horizontal stack: what it sees [b h r+w c] and its positions [b h w c] to onwards and skip."""
        h = self.horizontal(window) + self.from_vertical(handed)
        h = dropout(self._gate(h, added, grid, 'horizontal'), keys, self.sizes.dropout)
        onwards = self.onwards(h)
        return onwards if self.first else onwards + x, self.skip(h)

    def _gate(self, x: jax.Array, added: Added, grid: jax.Array | None, stack: str) -> jax.Array:
        """The paper's equations 4 and 5: what passes is tanh of one half times the sigmoid of the other."""
        x = x + added[stack][:, None, None].astype(x.dtype)
        if grid is not None:
            x = x + self.contexts[stack](grid)
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.tanh(a) * nn.sigmoid(b)


def _unchanged(model: PixelCNN, cache: Cache, *position: jax.Array) -> Cache:
    return cache


def _part(x: jax.Array | None, i: jax.Array, axis: int = 1) -> jax.Array | None:
    """Row or column number i, as an axis of length 1."""
    return None if x is None else jax.lax.dynamic_slice_in_dim(x, i, 1, axis)

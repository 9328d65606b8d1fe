"""The gated PixelCNN, without a blind spot: van den Oord et al. 2016 (arXiv:1606.05328).

Nothing is masked. What a convolution must not see is kept out by where it is padded: the vertical stack
sees its own row and those above, and is handed one row down to the horizontal one, which sees its own
row up to the present place; in the first layer, up to the place before.

Where tokens are drawn one by one, each layer keeps the few rows and places that its kernel reaches back to
(Ramachandran et al. 2017, arXiv:1704.06001): the vertical stack advances once a row, and the horizontal one
once a place.
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.models.conditioning_stack import ConditioningStack
from vq_jax.models.convolution import Conv
from vq_jax.ops.dropout import dropout
from vq_jax.ops.keys import fold_in

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
        check_least(1, 'config.pixelcnn.', self, 'depth', 'channels', 'kernel')
        check_least(3, 'config.pixelcnn.', self, 'first_kernel')
        check_share('config.pixelcnn.', self, 'dropout', one=False)
        for name in ('first_kernel', 'kernel'):
            if not getattr(self, name) % 2:
                raise UserError(f'config.pixelcnn.{name} is {getattr(self, name)}; give an odd number.')


class PixelCNN(nn.Module):
    """Grids of tokens to logits of tokens, each from those above it and to its left.

    A place may hold several tokens, side by side, as a pixel holds red, green and blue: each is predicted
    from those before it in its place too. These are told to the last layers alone, whereas van den Oord et
    al. 2016 (arXiv:1601.06759, section 3.4) part the channels of every layer among the colours.

    Attributes:
        sizes: see `PixelCNNSizes`.
        num_tokens: the tokens, k.
        grid: rows and columns of places [h w].
        tokens_per_position: t.
        num_classes: classes that can be asked for; one more stands for none.
        num_above: tokens of the coarser level that these are finer ones of; 0 where there is none.
    """

    sizes: PixelCNNSizes
    num_tokens: int
    grid: tuple[int, int]
    tokens_per_position: int = 1
    num_classes: int = 0
    num_above: int = 0

    grow = None  # its cache is of one size

    def setup(self) -> None:  # noqa: D102 (Flax's)
        s, t = self.sizes, self.tokens_per_position
        self.token = nn.Embed(t * self.num_tokens, s.channels)
        if self.num_above:
            self.conditioning = ConditioningStack(self.num_above, s.channels, self.grid, dtype=s.dtype)
        self.layers = [
            GatedLayer(s, self.num_classes, first=i == 0, has_context=self.num_above > 0)
            for i in range(s.depth)
        ]
        self.hidden = [Conv(s.channels, (1, 1), dtype=s.dtype) for _ in range(t)]
        self.told = [nn.Embed(i * self.num_tokens, s.channels) for i in range(1, t)]
        self.logits = [nn.Dense(self.num_tokens) for _ in range(t)]

    def __call__(
        self,
        tokens: jax.Array,
        labels: jax.Array,
        above: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """The logits of all tokens.

        Args:
            tokens: int [b h w*t].
            labels: int [b]; `num_classes` stands for no class.
            above: tokens of the coarser level, int [b h' w'], if there is one.
            keys: a random key for each example [b], for dropout; None drops nothing.

        Returns:
            float32 [b h w*t k]; those at (i, j) depend on the tokens in the rows above i, and on those in
            row i to the left of j, alone.
        """
        b, h, _ = tokens.shape
        tokens = tokens.reshape(b, h, -1, self.tokens_per_position)
        x = self._embedded(tokens)
        context = self.conditioning(above) if self.num_above else None
        vertical, horizontal, skipped = x, x, 0.0
        for i, layer in enumerate(self.layers):
            vertical, horizontal, skip = layer(vertical, horizontal, labels, context, fold_in(keys, i))
            skipped = skipped + skip
        logits = [self._logits(skipped, tokens, i) for i in range(self.tokens_per_position)]
        return jnp.stack(logits, 3).reshape(b, h, -1, self.num_tokens)

    def start(self, labels: jax.Array, above: jax.Array | None = None) -> Cache:
        """What `step` is given for the first token; arguments as above."""
        s, t = self.sizes, self.tokens_per_position
        b, w = len(labels), self.grid[1]

        def zeros(*shape: int) -> jax.Array:
            return jnp.zeros((b, *shape), s.dtype)

        return {
            'labels': labels,
            'context': self.conditioning(above) if self.num_above else None,
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
            i: which token is asked for, int, from 0 to h w t - 1.
            cache: what the step for the token before it returned, or `start`.

        Returns:
            Logits float32 [b k], and the cache for the next token.
        """
        t = self.tokens_per_position
        n = self.grid[1] * t
        row, column, number = i // n, i % n // t, i % t
        cache = {**cache, 'tokens': cache['tokens'].at[:, (i - 1) % n].set(before)}
        cache = nn.cond((row > 0) & (i % n == 0), PixelCNN._end_row, _unchanged, self, cache, row - 1)
        cache = nn.cond(number == 0, PixelCNN._enter_place, _unchanged, self, cache, row, column)
        place = jax.lax.dynamic_slice_in_dim(cache['tokens'], column * t, t, axis=1)[:, None, None]
        heads = [functools.partial(PixelCNN._logits, number=j) for j in range(t)]
        logits = nn.switch(number, heads, self, cache['skipped'], place)
        return logits[:, 0, 0], cache

    def _end_row(self, cache: Cache, row: jax.Array) -> Cache:
        """Takes a row of tokens that is complete through the vertical stack."""
        b, w = len(cache['labels']), self.grid[1]
        x = self._embedded(cache['tokens'].reshape(b, 1, w, -1))
        context = _part(cache['context'], row)
        rows, handed = [], []
        for layer, above in zip(self.layers, cache['rows'], strict=True):
            window = jnp.concatenate([above, x], 1)
            v, x = layer.down(window, cache['labels'], context)
            rows.append(window[:, 1:])
            handed.append(v)
        left = [jnp.zeros_like(x) for x in cache['left']]
        return {**cache, 'rows': rows, 'handed': handed, 'left': left}

    def _enter_place(self, cache: Cache, row: jax.Array, column: jax.Array) -> Cache:
        """Takes the horizontal stack on by one place."""
        t = self.tokens_per_position
        last = jax.lax.dynamic_slice_in_dim(cache['tokens'], (column - 1) * t, t, axis=1)
        # To the left of the first place there is nothing.
        x = jnp.where(column > 0, self._embedded(last[:, None, None]), 0)
        context = _part(_part(cache['context'], row), column, axis=2)
        left, skipped = [], 0.0
        for layer, passed, handed in zip(self.layers, cache['left'], cache['handed'], strict=True):
            window = jnp.concatenate([passed, x], 2)
            left.append(window[:, :, 1:])
            x, skip = layer.along(
                window[:, :, 1:] if layer.first else window,
                x,
                _part(handed, column, axis=2),
                cache['labels'],
                context,
            )
            skipped = skipped + skip
        return {**cache, 'left': left, 'skipped': skipped}

    def _embedded(self, tokens: jax.Array) -> jax.Array:
        """The sum of what stands for the tokens of each place: int [b h w t] to [b h w c]."""
        x = self.token(tokens + self.num_tokens * jnp.arange(self.tokens_per_position))
        return x.sum(3).astype(self.sizes.dtype)

    def _logits(self, skipped: jax.Array, tokens: jax.Array, number: int) -> jax.Array:
        """Of one token of each place [b h w k], given those before it in the place."""
        x = self.hidden[number](nn.relu(skipped)).astype(jnp.float32)
        if number:
            told = self.told[number - 1](tokens[..., :number] + self.num_tokens * jnp.arange(number))
            x = x + told.sum(3)
        return self.logits[number](nn.relu(x))


class GatedLayer(nn.Module):
    """A layer of both stacks: figure 2 of the paper.

    Attributes:
        sizes: see `PixelCNNSizes`.
        num_classes: see `PixelCNN`.
        first: the horizontal stack does not see the present place, which holds what is to be predicted.
        has_context: places are told of a coarser level.
    """

    sizes: PixelCNNSizes
    num_classes: int
    first: bool
    has_context: bool

    @property
    def reach(self) -> int:
        """How many rows up, and how many places to the left, a kernel sees."""
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
        self.classes = {stack: nn.Embed(self.num_classes + 1, 2 * c) for stack in ('vertical', 'horizontal')}
        if self.has_context:
            self.contexts = {stack: conv(2 * c, 1, 1) for stack in ('vertical', 'horizontal')}

    def __call__(
        self,
        vertical: jax.Array,
        horizontal: jax.Array,
        labels: jax.Array,
        context: jax.Array | None,
        keys: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Maps both stacks [b h w c] to the same; the third result is what the horizontal one skips ahead.

        `context`, [b h w c] or None, is what each place is told of a coarser level.
        """
        r = self.reach
        v, onwards = self.down(jnp.pad(vertical, ((0, 0), (r, 0), (0, 0), (0, 0))), labels, context)
        # One row down: what the horizontal stack is given of the vertical one is above its row.
        handed = jnp.pad(v[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
        window = jnp.pad(horizontal, ((0, 0), (0, 0), (r, 0), (0, 0)))
        window = window[:, :, :-1] if self.first else window
        h, skip = self.along(window, horizontal, handed, labels, context, keys)
        return onwards, h, skip

    def down(
        self, window: jax.Array, labels: jax.Array, context: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """The vertical stack: rows [b r+h w c] to what is handed to the horizontal one, and onwards."""
        v = self.vertical(window)
        return v, self._gate(v, labels, context, 'vertical')

    def along(
        self,
        window: jax.Array,
        x: jax.Array,
        handed: jax.Array,
        labels: jax.Array,
        context: jax.Array | None,
        keys: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """The horizontal stack: what it sees [b h r+w c] and its places [b h w c] to onwards and skip."""
        h = self.horizontal(window) + self.from_vertical(handed)
        h = dropout(self._gate(h, labels, context, 'horizontal'), keys, self.sizes.dropout)
        onwards = self.onwards(h)
        return onwards if self.first else onwards + x, self.skip(h)

    def _gate(self, x: jax.Array, labels: jax.Array, context: jax.Array | None, stack: str) -> jax.Array:
        """The paper's equations 4 and 5: what passes is tanh of one half times the sigmoid of the other."""
        x = x + self.classes[stack](labels)[:, None, None].astype(x.dtype)
        if context is not None:
            x = x + self.contexts[stack](context)
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.tanh(a) * nn.sigmoid(b)


def _unchanged(model: PixelCNN, cache: Cache, *place: jax.Array) -> Cache:
    return cache


def _part(x: jax.Array | None, i: jax.Array, axis: int = 1) -> jax.Array | None:
    """Row or column number i, as an axis of length 1."""
    return None if x is None else jax.lax.dynamic_slice_in_dim(x, i, 1, axis)

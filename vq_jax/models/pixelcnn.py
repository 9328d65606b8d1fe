"""The gated PixelCNN, without a blind spot: van den Oord et al. 2016 (arXiv:1606.05328).

Nothing is masked. What a convolution must not see is kept out by where it is padded: the vertical stack
sees its own row and those above, and is handed one row down to the horizontal one, which sees its own
row up to the present place; in the first layer, up to the place before.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.models.conditioning_stack import ConditioningStack
from vq_jax.models.convolution import Conv
from vq_jax.ops.dropout import dropout
from vq_jax.ops.keys import fold_in


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

    Attributes:
        sizes: see `PixelCNNSizes`.
        num_tokens: the tokens, k.
        num_classes: classes that can be asked for; one more stands for none.
        num_above: tokens of the coarser level that these are finer ones of; 0 where there is none.
    """

    sizes: PixelCNNSizes
    num_tokens: int
    num_classes: int = 0
    num_above: int = 0

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        labels: jax.Array,
        above: jax.Array | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """The logits of all tokens.

        Args:
            tokens: int [b h w].
            labels: int [b]; `num_classes` stands for no class.
            above: tokens of the coarser level, int [b h' w'], if there is one.
            keys: a random key for each example [b], for dropout; None drops nothing.

        Returns:
            float32 [b h w k]; those at (i, j) depend on the tokens in the rows above i, and on those in
            row i to the left of j, alone.
        """
        s = self.sizes
        x = nn.Embed(self.num_tokens, s.channels)(tokens).astype(s.dtype)
        context = None
        if self.num_above:
            grid = tokens.shape[1:]
            context = ConditioningStack(self.num_above, s.channels, grid, dtype=s.dtype)(above)
        vertical, horizontal, skipped = x, x, 0.0
        for i in range(s.depth):
            vertical, horizontal, skip = GatedLayer(s, self.num_classes, first=i == 0)(
                vertical, horizontal, labels, context, fold_in(keys, i)
            )
            skipped = skipped + skip
        x = Conv(s.channels, (1, 1), dtype=s.dtype)(nn.relu(skipped))
        return nn.Dense(self.num_tokens)(nn.relu(x).astype(jnp.float32))


class GatedLayer(nn.Module):
    """A layer of both stacks: figure 2 of the paper.

    Attributes:
        sizes: see `PixelCNNSizes`.
        num_classes: see `PixelCNN`.
        first: the horizontal stack does not see the present place, which holds what is to be predicted.
    """

    sizes: PixelCNNSizes
    num_classes: int
    first: bool

    @nn.compact
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
        s = self.sizes
        c, k = s.channels, s.first_kernel if self.first else s.kernel
        r = k // 2
        v = Conv(2 * c, (r + 1, k), padding=((r, 0), (r, r)), dtype=s.dtype, name='vertical')(vertical)
        # One row down: what the horizontal stack is given of the vertical one is above its row.
        above = jnp.pad(v[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
        h = self._left(horizontal) + Conv(2 * c, (1, 1), dtype=s.dtype, name='from_vertical')(above)
        h = dropout(self._gate(h, labels, context, 'horizontal'), keys, s.dropout)
        skip = Conv(c, (1, 1), dtype=s.dtype, name='skip')(h)
        h = Conv(c, (1, 1), dtype=s.dtype, name='onwards')(h)
        if not self.first:
            h = h + horizontal
        return self._gate(v, labels, context, 'vertical'), h, skip

    def _left(self, x: jax.Array) -> jax.Array:
        """The horizontal convolution."""
        s = self.sizes
        r = s.first_kernel // 2 if self.first else s.kernel // 2
        if self.first:
            conv = Conv(2 * s.channels, (1, r), padding=((0, 0), (r, 0)), dtype=s.dtype, name='horizontal')
            return conv(x)[:, :, :-1]
        return Conv(2 * s.channels, (1, r + 1), padding=((0, 0), (r, 0)), dtype=s.dtype, name='horizontal')(x)

    def _gate(self, x: jax.Array, labels: jax.Array, context: jax.Array | None, stack: str) -> jax.Array:
        """The paper's equations 4 and 5: what passes is tanh of one half times the sigmoid of the other."""
        given = nn.Embed(self.num_classes + 1, x.shape[-1], name=f'{stack}_class')(labels)
        x = x + given[:, None, None].astype(x.dtype)
        if context is not None:
            x = x + Conv(x.shape[-1], (1, 1), dtype=self.sizes.dtype, name=f'{stack}_context')(context)
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.tanh(a) * nn.sigmoid(b)

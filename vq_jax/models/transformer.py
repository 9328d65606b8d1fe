"""A transformer over grids of tokens: causal, in the manner of GPT, or seeing all, for MaskGIT.

Its input has one slot before the tokens, which holds the vector of the context, such as the class. A causal
transformer predicts each token at the slot before it: slot i, which holds token i - 1, predicts token i. One
that sees all predicts each token at the token's own slot.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share, on_device
from vq_jax.models.attention import CrossAttention, attend_merged, causal_mask
from vq_jax.models.code_embedding import embed_codes
from vq_jax.models.context import NOTHING, Context, VectorEmbedding, vector_or_ones
from vq_jax.models.normalisation import layer_norm
from vq_jax.ops.dropout import dropout
from vq_jax.ops.keys import fold_in
from vq_jax.ops.rows import dot_by_rows
from vq_jax.ops.sharding import split_batch

INIT = nn.initializers.normal(0.02)  # Radford et al. 2019
_SWIGLU_UNIT = 256  # of LLaMA's code: `multiple_of`
_ROTARY_BASE = 10_000.0  # Su et al. 2021 (arXiv:2104.09864), section 3.2.2

Cache = dict[str, Any]
Turns = tuple[jax.Array, jax.Array]  # cosines and sines of the angles of each slot [n d/2]


@dataclasses.dataclass(frozen=True)
class TransformerSizes:
    """Sizes of a transformer.

    Attributes:
        depth: blocks.
        width: of the vectors.
        heads: of attention; they must divide the width.
        mlp_ratio: width inside the connected layers, in widths; see `mlp`.
        positions: 'learned' adds a vector for each position; 'rotary' turns queries and keys by their
            index on each axis of the grid, an equal share of each head for every axis (Su et al. 2021, in
            as many dimensions); 'rotary_tokens' does so for tokens alone, and the first slot, of the context,
            has zeros for query and key, as in LlamaGen (Sun et al. 2024, arXiv:2406.06525): all see its
            value with the same score.
        norm: of vectors, where `norm_first` says: 'layer', or 'rms' without means and biases (Zhang and
            Sennrich 2019, arXiv:1910.07467).
        norm_epsilon: what is added to variances there; 1e-5 in most published transformers.
        mlp: what is between the connected layers: 'gelu_tanh' is the usual approximation of 'gelu'
            (Hendrycks and Gimpel 2016, arXiv:1606.08415); 'swiglu' is a layer times a swish of another
            (Shazeer 2020, arXiv:2002.05202), both two thirds as wide and rounded up to a multiple of 256,
            as in LLaMA (Touvron et al. 2023, arXiv:2302.13971).
        biases: of linear layers; cross-attention, and the heads of the pattern depth, always have them.
        dropout: share of the numbers that training sets to 0, after the embedding and in each block.
        dtype: what the layers compute in; logits are float32.
        remat: compute the insides of blocks again in the backward pass instead of keeping them.
        scan: compute the blocks in a loop, so that a deep network compiles as fast as a shallow one; a step
            then holds a second copy of their parameters, and of their gradients.
        norm_first: normalise before attention, before the connected layers and at the end, as GPT-2 does; if
            not, what each has added to, and the embeddings, as BERT does (Devlin et al. 2019,
            arXiv:1810.04805). Cross-attention always normalises before.
        head: what makes logits: 'linear', a layer; 'tied', the head of BERT for masked tokens, which compares
            vectors with the embeddings of tokens (see `TiedHead`), of one token a slot.
    """

    depth: int = 6
    width: int = 256
    heads: int = 8
    mlp_ratio: int = 4
    positions: Literal['learned', 'rotary', 'rotary_tokens'] = 'learned'
    norm: Literal['layer', 'rms'] = 'layer'
    norm_epsilon: float = 1e-6
    mlp: Literal['gelu_tanh', 'gelu', 'swiglu'] = 'gelu_tanh'
    biases: bool = True
    dropout: float = 0.0
    dtype: Literal['float32', 'bfloat16'] = 'float32'
    remat: bool = False
    scan: bool = False
    norm_first: bool = True
    head: Literal['linear', 'tied'] = 'linear'

    def __post_init__(self) -> None:
        check_least(1, self, 'depth', 'width', 'heads', 'mlp_ratio')
        check_share(self, 'dropout', one=False)
        if self.width % self.heads:
            raise UserError(f'width is {self.width}, not a multiple of {self.heads} heads; change one.')
        if not on_device('norm_epsilon', self.norm_epsilon) > 0:
            raise UserError(f'norm_epsilon is {self.norm_epsilon}; give a number above 0.')

    @property
    def mlp_width(self) -> int:
        """Width between the connected layers."""
        wide = self.mlp_ratio * self.width
        return -(-(2 * wide // 3) // _SWIGLU_UNIT) * _SWIGLU_UNIT if self.mlp == 'swiglu' else wide

    def layer_norm(self) -> nn.LayerNorm | nn.RMSNorm:
        """A normalisation, with statistics in float32."""
        if self.norm == 'rms':
            return nn.RMSNorm(epsilon=self.norm_epsilon, dtype=self.dtype)
        return layer_norm(self.dtype, epsilon=self.norm_epsilon)

    def dense(self, features: int) -> nn.Dense:
        """A linear layer."""
        return nn.Dense(
            features, use_bias=self.biases, dtype=self.dtype, kernel_init=INIT, dot_general=dot_by_rows
        )


class Transformer(nn.Module):
    """Tokens to logits of tokens: Vaswani et al. 2017, with normalisation first or last (see the sizes).

    Of a context, the vector fills the first slot, the grid is added to the positions, and each block attends
    to the tokens after its self-attention.

    Attributes:
        sizes: see `TransformerSizes`.
        num_inputs: tokens that can be read; more than `num_outputs` where a mask is among them.
        num_outputs: tokens that can be predicted, k.
        grid: sizes of the axes of the grid of tokens, which are read in row-major order.
        causal: each slot sees itself and those before it.
        tokens_per_slot: their embeddings are summed, and all of a slot are predicted at once, each with a
            head of its own and independently of the others.
    """

    sizes: TransformerSizes
    num_inputs: int
    num_outputs: int
    grid: tuple[int, ...]
    causal: bool = True
    tokens_per_slot: int = 1

    def __post_init__(self) -> None:
        """Raises `UserError` if the heads cannot be turned on every axis, or tokens have no head."""
        head, pair = self.sizes.width // self.sizes.heads, 2 * len(self.grid)
        if self.sizes.positions != 'learned' and head % pair:
            raise UserError(
                f'rotary positions on {len(self.grid)} axes need heads of a multiple of {pair} numbers, not '
                f'{head}; change the width or the number of heads.'
            )
        if self.sizes.head == 'tied' and self.tokens_per_slot > 1:
            raise UserError(
                f'head is tied, which is of one token in a slot, and there are {self.tokens_per_slot}; set '
                'head=linear.'
            )
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        s, n = self.sizes, math.prod(self.grid)
        self.token = nn.Embed(self.tokens_per_slot * self.num_inputs, s.width, embedding_init=INIT)
        self.label = VectorEmbedding(s.width, INIT)
        if s.positions == 'learned':
            self.position_table = self.param('position', INIT, (n + 1, s.width), jnp.float32)
        block = nn.remat(Block) if s.remat else Block
        self.blocks = [block(s) for _ in range(s.depth)]
        self.norm = s.layer_norm()  # of the embeddings, or at the end
        if s.head == 'tied':
            self.head = TiedHead(s, self.num_outputs)
        else:
            self.head = nn.Dense(
                self.tokens_per_slot * self.num_outputs,
                use_bias=s.biases,
                kernel_init=INIT,
                dot_general=dot_by_rows,
            )

    def __call__(
        self, tokens: jax.Array, context: Context = NOTHING, keys: jax.Array | None = None
    ) -> jax.Array:
        """The logits of all tokens.

        Args:
            tokens: int [b n], n the number of positions of the grid; of several in a slot [b n t].
            context: of each example; its grid is [b *grid width].
            keys: a random key for each example [b], for dropout; None drops nothing.

        Returns:
            float32 [b n k], or [b n t k]; if causal, those at i depend on the tokens before i alone.
        """
        return self._logits(self.hidden(tokens, context, keys))

    def hidden(
        self, tokens: jax.Array, context: Context = NOTHING, keys: jax.Array | None = None
    ) -> jax.Array:
        """What the head makes the logits of, float32 [b n width]; the arguments are those of a call."""
        first = self._first(len(tokens), context)[:, None]
        if self.causal:
            x = jnp.concatenate([first, self._embedded(tokens[:, :-1])], axis=1) + self._grid(context)
        else:
            x = jnp.concatenate([first, self._embedded(tokens) + self._grid(context)], axis=1)
        slots = jnp.arange(x.shape[1])
        x = split_batch(dropout(self._positioned(x, slots), fold_in(keys, 0), self.sizes.dropout))
        mask = causal_mask(len(slots)) if self.causal else None
        x = self._all_blocks(x, self._turns(slots), mask, context, keys)
        return self._ended(x if self.causal else x[:, 1:])

    def start(self, b: int, context: Context = NOTHING) -> Cache:
        """What steps read of the context of b examples, and a cache without room for a token; see `grow`."""
        s = self.sizes
        empty = jnp.zeros((b * s.heads, 0, s.width // s.heads), s.dtype)
        return {
            'first': self._first(b, context),
            'grid': self._grid(context),
            'read': [block.read(context) for block in self.blocks],
            'blocks': [{'keys': empty, 'values': empty} for _ in range(s.depth)],
        }

    @staticmethod
    def grow(cache: Cache, tokens: int) -> Cache:
        """The cache with room for so many more tokens."""
        room = ((0, 0), (0, tokens), (0, 0))
        return {**cache, 'blocks': jax.tree.map(lambda x: jnp.pad(x, room), cache['blocks'])}

    def step(self, tokens: jax.Array, slot: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """The logits of one token, given those before it; only for a causal transformer.

        Args:
            tokens: the token before it, int [b], or [b t]; of no meaning in slot 0.
            slot: which token is predicted, int, from 0 to n - 1.
            cache: what the step for the token before it returned, or `start`, with room for this token.

        Returns:
            Logits float32 [b k], or [b t k], and the cache for the next token.
        """
        x, cache = self.hidden_step(tokens, slot, cache)
        return self._logits(x), cache

    def hidden_step(self, tokens: jax.Array, slot: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """What the head makes the logits of, float32 [b width], as `step` otherwise."""
        x = jnp.where(slot == 0, cache['first'], self._embedded(tokens))[:, None]
        if jnp.ndim(cache['grid']):
            x = x + jax.lax.dynamic_slice_in_dim(cache['grid'], slot, 1, axis=1)
        slots = slot[None]
        x = self._positioned(x, slots)
        grown = []
        for block, one, read in zip(self.blocks, cache['blocks'], cache['read'], strict=True):
            x, one = block.step(x, self._turns(slots), slot, one, read)
            grown.append(one)
        return self._ended(x)[:, 0], {**cache, 'blocks': grown}

    def _all_blocks(self, x: jax.Array, *given: Any) -> jax.Array:
        """One block after another; arguments are those of `_one_block`."""
        s = self.sizes
        if not s.scan or self.is_initializing():
            for i, block in enumerate(self.blocks, 1):
                x = _one_block(block, x, i, *given)
            return x

        def one(x: jax.Array, block: tuple[Any, jax.Array]) -> tuple[jax.Array, None]:
            params, number = block
            return nn.apply(_one_block, Block(s, parent=None))({'params': params}, x, number, *given), None

        # The parameters have the names that they have without the loop.
        params = jax.tree.map(lambda *x: jnp.stack(x), *(block.variables['params'] for block in self.blocks))
        one = jax.checkpoint(one, prevent_cse=False) if s.remat else one
        return jax.lax.scan(one, x, (params, jnp.arange(1, s.depth + 1)))[0]

    def _first(self, b: int, context: Context) -> jax.Array:
        """The slot before the tokens [b width]."""
        return self.label(vector_or_ones(context, b))

    def _grid(self, context: Context) -> jax.Array | float:
        """What is added to the position of each token [b n width]; 0 if there is nothing."""
        if context.grid is None:
            return 0.0
        return context.grid.reshape(len(context.grid), -1, self.sizes.width)

    def _positioned(self, x: jax.Array, slots: jax.Array) -> jax.Array:
        if self.sizes.positions == 'learned':
            x = x + self.position_table[slots]
        return (x if self.sizes.norm_first else self.norm(x)).astype(self.sizes.dtype)

    def _ended(self, x: jax.Array) -> jax.Array:
        return (self.norm(x) if self.sizes.norm_first else x).astype(jnp.float32)

    def _turns(self, slots: jax.Array) -> Turns | None:
        """How the pairs of a head's numbers are turned in each slot."""
        s, n, rank = self.sizes, math.prod(self.grid), len(self.grid)
        if s.positions == 'learned':
            return None
        # The first slot is not turned, and the first token is by one step on every axis.
        indices = np.stack(np.unravel_index(np.arange(n), self.grid), axis=1) + 1
        indices = np.concatenate([np.zeros((1, rank)), indices])
        pairs = s.width // s.heads // 2 // rank  # on each axis
        speeds = _ROTARY_BASE ** (-np.arange(pairs) / pairs)
        angles = (indices[:, :, None] * speeds).reshape(n + 1, -1)
        turns = np.stack([np.cos(angles), np.sin(angles)])
        if s.positions == 'rotary_tokens':
            turns[:, 0] = 0
        cos, sin = jnp.asarray(turns, jnp.float32)[:, slots]
        return cos, sin

    def _embedded(self, tokens: jax.Array) -> jax.Array:
        """What stands for the tokens of each slot, int [...] or [... t]: [... width]."""
        return self.token(tokens) if self.tokens_per_slot == 1 else embed_codes(self.token, tokens)

    def _logits(self, x: jax.Array) -> jax.Array:
        if self.sizes.head == 'tied':
            return self.head(x, self.token.embedding[: self.num_outputs])
        logits, t = self.head(x), self.tokens_per_slot
        return logits if t == 1 else logits.reshape(*x.shape[:-1], t, self.num_outputs)


class TiedHead(nn.Module):
    """The products of vectors with the embeddings of tokens, after a layer of their own.

    The head of BERT's masked language model (Devlin et al. 2019, arXiv:1810.04805, in their code): a linear
    layer, the GELU of the blocks, a normalisation, and products, to which biases of tokens are added.

    Attributes:
        sizes: of the transformer.
        num_outputs: tokens that can be predicted, k.
    """

    sizes: TransformerSizes
    num_outputs: int

    def setup(self) -> None:  # noqa: D102 (Flax's)
        s = self.sizes
        self.dense, self.norm = s.dense(s.width), s.layer_norm()
        if s.biases:
            self.bias = self.param('bias', nn.initializers.zeros_init(), (self.num_outputs,), jnp.float32)

    def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        """Maps vectors [... width], given the embeddings [k width], to logits float32 [... k]."""
        x = nn.gelu(self.dense(x), approximate=self.sizes.mlp != 'gelu')
        x = self.norm(x).astype(jnp.float32)
        logits = dot_by_rows(x, embedding.T, (((x.ndim - 1,), (0,)), ((), ())))
        return logits + self.bias if self.sizes.biases else logits


# Keys and values of a context's tokens [b m heads d], and which of them are there, bool [b m] or None.
Read = tuple[jax.Array, jax.Array, jax.Array | None]


class Block(nn.Module):
    """Attention, then connected layers, each added to what came in."""

    sizes: TransformerSizes

    def setup(self) -> None:  # noqa: D102 (Flax's)
        s = self.sizes
        if s.norm_first:
            self.before_attention, self.before_mlp = s.layer_norm(), s.layer_norm()
        else:
            self.after_attention, self.after_mlp = s.layer_norm(), s.layer_norm()
        self.qkv = s.dense(3 * s.width)
        self.attended = s.dense(s.width)
        self.cross = CrossAttention(s.width, s.heads, s.dtype, INIT, INIT)
        self.widen = s.dense(s.mlp_width)
        if s.mlp == 'swiglu':
            self.gate = s.dense(s.mlp_width)
        self.narrow = s.dense(s.width)

    def read(self, context: Context) -> Read | None:
        """What `cross` reads of the tokens of a context; None if there are none."""
        return None if context.tokens is None else (*self.cross.read(context.tokens), context.mask)

    def __call__(
        self,
        x: jax.Array,
        turns: Turns | None,
        mask: jax.Array | None,
        read: Read | None,
        keys: jax.Array | None,
    ) -> jax.Array:
        """Maps [b n d] to the same.

        `turns` are those of `rotate`, `mask` is True where a row's slot may see a column's (see
        `attend_merged`), `read` is what the method of that name returned, and `keys`, [b], are for dropout;
        each may be None.
        """
        rate = self.sizes.dropout
        seen = self._attend(*self._heads(x, turns), mask)
        x = self._after_attention(x + dropout(seen, fold_in(keys, 0), rate))
        if read:
            x = x + dropout(self.cross.look(x, *read), fold_in(keys, 2), rate)
        return self._after_mlp(x + dropout(self._mlp(x), fold_in(keys, 1), rate))

    def step(
        self,
        x: jax.Array,
        turns: Turns | None,
        slot: jax.Array,
        cache: dict[str, jax.Array],
        read: Read | None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """One slot [b 1 d], with the keys and values of those before it in the cache."""
        q, k, v = self._heads(x, turns)
        keys = jax.lax.dynamic_update_slice_in_dim(cache['keys'], k, slot, axis=1)
        values = jax.lax.dynamic_update_slice_in_dim(cache['values'], v, slot, axis=1)
        mask = (jnp.arange(keys.shape[1]) <= slot)[None]
        x = self._after_attention(x + self._attend(q, keys, values, mask))
        if read:
            x = x + self.cross.look(x, *read)
        return self._after_mlp(x + self._mlp(x)), {'keys': keys, 'values': values}

    def _heads(self, x: jax.Array, turns: Turns | None) -> tuple[jax.Array, ...]:
        """Queries, keys and values [b*heads n d]; see `attend_merged`."""
        b, n, _ = x.shape
        heads = self.sizes.heads
        x = self.before_attention(x) if self.sizes.norm_first else x
        qkv = self.qkv(x).reshape(b, n, 3, heads, -1)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4).reshape(3, b * heads, n, -1)
        if turns is not None:
            q, k = rotate(q, turns), rotate(k, turns)
        return q, k, v

    def _attend(self, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
        seen = attend_merged(q, k, v, mask)
        heads, (_, n, d) = self.sizes.heads, seen.shape
        seen = seen.reshape(-1, heads, n, d).transpose(0, 2, 1, 3)
        return self.attended(seen.reshape(-1, n, heads * d))

    def _mlp(self, x: jax.Array) -> jax.Array:
        x = self.before_mlp(x) if self.sizes.norm_first else x
        if self.sizes.mlp == 'swiglu':
            return self.narrow(nn.swish(self.gate(x)) * self.widen(x))
        return self.narrow(nn.gelu(self.widen(x), approximate=self.sizes.mlp == 'gelu_tanh'))

    def _after_attention(self, x: jax.Array) -> jax.Array:
        return x if self.sizes.norm_first else self.after_attention(x)

    def _after_mlp(self, x: jax.Array) -> jax.Array:
        return x if self.sizes.norm_first else self.after_mlp(x)


def _one_block(
    block: Block,
    x: jax.Array,
    number: int | jax.Array,
    turns: Turns | None,
    mask: jax.Array | None,
    context: Context,
    keys: jax.Array | None,
) -> jax.Array:
    """What a block, whose number counts from 1, makes of [b n d]; the other arguments are as for `Block`."""
    return split_batch(block(x, turns, mask, block.read(context), fold_in(keys, number)))


def rotate(x: jax.Array, turns: Turns) -> jax.Array:
    """Turns pairs of the numbers [... n d] by angles whose cosines and sines are given.

    Su et al. 2021 (arXiv:2104.09864), equation 34. Number j of the first half is paired with number j of the
    second.
    """
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = turns
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)

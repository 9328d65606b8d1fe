"""A text encoder that learns with the generator it conditions: a small transformer over tokens of text."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.models.context import Conditioner, Context
from vq_jax.models.normalisation import layer_norm
from vq_jax.models.transformer import INIT, Block, TransformerSizes
from vq_jax.ops.sharding import split_batch
from vq_jax.spec import ConditionSpec
from vq_jax.text_tokenizers import TextTokenizer, pad_tokens


class TextEncoder(Conditioner):
    """The condition `text`, tokens int32 [b m] with -1 after the end, to vectors of tokens and one of it all.

    A transformer in which every token sees all others (Vaswani et al. 2017, arXiv:1706.03762), with
    normalisation first. A vector that is learned stands before the tokens; what comes out in its place is the
    vector of the context, as BERT summarises a sentence (Devlin et al. 2019, arXiv:1810.04805, section 3),
    and the first of its tokens.

    Attributes:
        tokenizer: of what users write.
        length: of texts in tokens, m.
        depth: blocks.
        width: of the vectors.
        heads: of attention; they must divide the width.
        mlp_ratio: width inside the connected layers, in widths.
        dtype: what the layers compute in.
    """

    tokenizer: TextTokenizer
    length: int
    depth: int = 4
    width: int = 192
    heads: int = 4
    mlp_ratio: int = 4
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        """Raises `UserError` for sizes that do not fit."""
        self._sizes()
        super().__post_init__()

    def specs(self) -> dict[str, ConditionSpec]:
        """See `Conditioner`."""
        return {'text': ConditionSpec((self.length,), 'int32')}

    @nn.compact
    def __call__(self, text: jax.Array) -> Context:
        """See `Conditioner`; tokens are [b m+1 width], and the vector [b width]."""
        sizes = self._sizes()
        x = nn.Embed(self.tokenizer.size, self.width, embedding_init=INIT, name='token')(jnp.maximum(text, 0))
        first = self.param('first', INIT, (1, 1, self.width), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], axis=1)
        x = x + self.param('position', INIT, (self.length + 1, self.width), jnp.float32)
        there = jnp.pad(text >= 0, ((0, 0), (1, 0)), constant_values=True)
        # Of each head of each example, as `attend_merged` takes them.
        seen = jnp.repeat(there, self.heads, axis=0)[:, None]
        for i in range(self.depth):
            x = split_batch(Block(sizes, name=f'block_{i}')(x.astype(self.dtype), None, seen, None, None))
        x = layer_norm(self.dtype)(x).astype(jnp.float32)
        return Context(vector=x[:, 0], tokens=x, mask=there)

    def prepare(self, text: str) -> dict[str, Any]:
        """The tokens of a text that a user writes.

        Raises:
            UserError: if it is none, empty, or longer than those that were learned.
        """
        if not isinstance(text, str) or not text.strip():
            raise UserError(f'the text is {text!r}; say what is to be made, such as "a red apple".')
        tokens = self.tokenizer.encode(text.strip())
        if len(tokens) > self.length:
            raise UserError(
                f'the text has {len(tokens):,} tokens, and this model was trained on texts of up to '
                f'{self.length}; give a shorter one.'
            )
        return {'text': pad_tokens([tokens], self.length)[0]}

    def describe(self, text: np.ndarray) -> list[str]:
        """See `Conditioner`."""
        return [self.tokenizer.decode(tokens) for tokens in text]

    def _sizes(self) -> TransformerSizes:
        return TransformerSizes(self.depth, self.width, self.heads, self.mlp_ratio, dtype=self.dtype)

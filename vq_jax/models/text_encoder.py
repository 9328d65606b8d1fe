"""A text encoder that learns with the generator it conditions: a small transformer over tokens of text."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.models.context import Context
from vq_jax.models.token_encoder import TokenEncoder
from vq_jax.models.transformer import INIT
from vq_jax.spec import ConditionSpec
from vq_jax.text_tokenizers import TextTokenizer, pad_tokens


class TextEncoder(TokenEncoder):
    """The condition `text`, tokens int32 [b m] with -1 after the end, to vectors of tokens and one of it all.

    Attributes:
        tokenizer: of what users write.
        length: of texts in tokens, m.
    """

    tokenizer: TextTokenizer
    length: int

    def specs(self) -> dict[str, ConditionSpec]:
        """See `Conditioner`."""
        return {'text': ConditionSpec((self.length,), 'int32')}

    @nn.compact
    def __call__(self, text: jax.Array) -> Context:
        """See `Conditioner`; tokens are [b m+1 width], and the vector [b width]."""
        x = nn.Embed(self.tokenizer.size, self.width, embedding_init=INIT, name='token')(jnp.maximum(text, 0))
        return self.context(x, text >= 0)

    def prepare(self, text: str) -> dict[str, Any]:
        """The tokens of a text that a user writes.

        Raises:
            UserError: if it is none, empty, or longer than those that were learned.
        """
        return {'text': text_tokens(text, self.tokenizer, self.length)}

    def describe(self, text: np.ndarray) -> list[str]:
        """See `Conditioner`."""
        return [self.tokenizer.decode(tokens) for tokens in text]


def text_tokens(text: str, tokenizer: TextTokenizer, length: int) -> np.ndarray:
    """The tokens of a text that a user writes, int32 [length], -1 after the end.

    Raises:
        UserError: if it is none, empty, or longer.
    """
    if not isinstance(text, str) or not text.strip():
        raise UserError(f'the text is {text!r}; say what is to be made, such as "a red apple".')
    tokens = tokenizer.encode(text.strip())
    if len(tokens) > length:
        raise UserError(
            f'the text has {len(tokens):,} tokens, and this model was trained on texts of up to '
            f'{length}; give a shorter one.'
        )
    return pad_tokens([tokens], length)[0]

"""Texts as a condition, of which a frozen encoder has made vectors."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.models.context import Conditioner, Context
from vq_jax.models.normalisation import layer_norm
from vq_jax.models.text_encoder import text_tokens
from vq_jax.spec import ConditionSpec, TextVectors
from vq_jax.text_tokenizers import TextTokenizer

Pool = Literal['mean', 'last']


class EmbeddedText(Conditioner):
    """The conditions `text`, `text_vectors` and `text_length` to a context; what is learned are linear maps.

    One is of each vector, after normalisation, and makes a token; another is of all, pooled, and makes the
    vector, as in Imagen (Saharia et al. 2022, arXiv:2205.11487, section 2.3). The tokens of the text are for
    people alone.

    Attributes:
        tokenizer: of what users write.
        length: of texts in its tokens, m.
        vectors: what they are, k at most of a width d.
        embed: makes of a text that a user writes its vectors, float [n d]; raises `UserError` where it
            cannot.
        pool: what is the vector of all: their mean, or the last one.
        width: of the context.
    """

    tokenizer: TextTokenizer
    length: int
    vectors: TextVectors
    embed: Callable[[str], np.ndarray]
    pool: Pool = 'mean'
    width: int = 512

    def specs(self) -> dict[str, ConditionSpec]:
        """See `Conditioner`."""
        return {
            'text': ConditionSpec((self.length,), 'int32'),
            'text_vectors': ConditionSpec((self.vectors.length, self.vectors.width), 'float16'),
            'text_length': ConditionSpec((), 'int32'),
        }

    @nn.compact
    def __call__(self, text: jax.Array, text_vectors: jax.Array, text_length: jax.Array) -> Context:
        """See `Conditioner`; tokens are [b k width], and the vector [b width]."""
        there = jnp.arange(self.vectors.length) < text_length[:, None]
        x = layer_norm('float32')(text_vectors.astype(jnp.float32)) * there[..., None]
        if self.pool == 'mean':
            pooled = x.sum(1) / jnp.maximum(text_length, 1)[:, None]
        else:
            last = jnp.maximum(text_length - 1, 0)
            pooled = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
        tokens = nn.Dense(self.width, name='tokens')(x)
        return Context(vector=nn.Dense(self.width, name='pooled')(pooled), tokens=tokens, mask=there)

    def prepare(self, text: str, text_vectors: Any = None) -> dict[str, Any]:
        """The conditions of a text that a user writes, whose vectors [n d] may be given.

        Raises:
            UserError: if the text is none, empty, or longer than those that were learned, if there is no
                encoder, or vectors are too many, of another width, or of numbers that float16 does not hold.
        """
        tokens = text_tokens(text, self.tokenizer, self.length)
        if text_vectors is None:
            text_vectors = self.embed(self.tokenizer.decode(tokens))
        most, width = self.vectors.length, self.vectors.width
        wanted = f'give 1 to {most} vectors of {width} numbers'
        try:
            found = np.asarray(text_vectors)
        except ValueError as error:  # lists of different lengths
            raise UserError(f'text_vectors are no array; {wanted}.') from error
        if found.dtype.kind not in 'iuf' and found.dtype != jnp.bfloat16:
            raise UserError(f'text_vectors are of the type {found.dtype}; {wanted}.')
        if found.ndim != 2 or not 0 < len(found) <= most or found.shape[1] != width:
            raise UserError(f'text_vectors have the shape {found.shape}; {wanted}.')
        room = np.zeros((most, width), np.float16)
        with np.errstate(over='ignore'):  # which is told below
            room[: len(found)] = found
        if not np.isfinite(room).all():
            raise UserError(
                f'text_vectors have numbers that float16 does not hold, or that are none; {wanted} up to '
                f'{np.finfo(np.float16).max:g}.'
            )
        return {'text': tokens, 'text_vectors': room, 'text_length': np.int32(len(found))}

    def describe(self, text: np.ndarray, text_vectors: np.ndarray, text_length: np.ndarray) -> list[str]:
        """See `Conditioner`."""
        return [self.tokenizer.decode(tokens) for tokens in text]

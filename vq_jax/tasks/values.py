"""Examples of any kind as autoencoders see them: numbers in [-1, 1], or of text, tokens as vectors."""

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.ops.images import to_float, to_integers
from vq_jax.ops.texts import one_hot, up_to_end
from vq_jax.spec import Spec, Tokens
from vq_jax.text_tokenizers import PADDING, text_tokenizer


def to_values(x: jax.Array, spec: Spec) -> jax.Array:
    """Examples as a spec says [b ...], float32 [b *grid c]: in [-1, 1], or of text as `one_hot` gives it."""
    return one_hot(x, end_of(spec)) if spec.kind == 'text' else to_float(x)


def to_examples(values: jax.Array, spec: Spec, goes_on: jax.Array | None = None) -> jax.Array:
    """And back, rounded and clipped; of text, up to the first position at which an end is likeliest.

    Where a text is known to go on, bool [b n], it has the likeliest token.
    """
    if spec.kind == 'text':
        end = end_of(spec)
        if goes_on is not None:
            values = values.at[..., end].set(jnp.where(goes_on, -jnp.inf, values[..., end]))
        return up_to_end(jnp.argmax(values, axis=-1), end)
    return to_integers(values, spec.dtype)


def num_channels(spec: Spec) -> int:
    """How many values there are at each position; of text, one for each token and one for the end."""
    return end_of(spec) + 1 if spec.kind == 'text' else spec.channels


def end_of(spec: Spec) -> int:
    """The code that stands where there is no text."""
    return text_tokenizer(known_tokens(spec)).size


def known_tokens(spec: Spec) -> Tokens:
    """What the tokens of texts stand for; raises `UserError` if that is not known."""
    if spec.tokens is None:
        raise UserError(
            'what the tokens of these texts stand for is not known, and so not how many there are; let the '
            "source say it, as tokens = vq_jax.spec.Tokens('bytes')."
        )
    return spec.tokens


def bytes_of(x: jax.Array, tokens: Tokens) -> jax.Array:
    """How many bytes of UTF-8 texts int [b n] have, float32 [b]."""
    lengths = jnp.asarray(text_tokenizer(tokens).lengths, jnp.float32)
    return jnp.sum(jnp.where(x == PADDING, 0, lengths[x]), axis=1)

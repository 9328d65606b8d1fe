"""Tokens of texts, -1 where a text has ended, and the same with a code of their own for the end."""

import jax
import jax.numpy as jnp

from vq_jax.text_tokenizers import PADDING


def with_ends(x: jax.Array, end: int) -> jax.Array:
    """Tokens int [b n] with the code `end` wherever the text has ended."""
    return jnp.where(x == PADDING, end, x)


def after_end(codes: jax.Array, end: int) -> jax.Array:
    """Where what `with_ends` gives [b n] follows an end, and so is certain, bool [b n]."""
    ends = codes == end
    return ends & jnp.pad(ends[:, :-1], ((0, 0), (1, 0)))


def up_to_end(codes: jax.Array, end: int) -> jax.Array:
    """The tokens, int [b n], that are before the first end of any codes [b n]; -1 stands after them."""
    ended = jax.lax.cummax((codes == end).astype(jnp.int32), axis=1)
    return jnp.where(ended, PADDING, codes)


def one_hot(x: jax.Array, end: int) -> jax.Array:
    """Tokens int [b n] as vectors, float32 [b n end+1], zeros after the end, which is one of them itself."""
    codes = with_ends(x, end)
    return jax.nn.one_hot(codes, end + 1) * ~after_end(codes, end)[..., None]

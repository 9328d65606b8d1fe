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


def up_to_end(codes: jax.Array, end: int, goes_on: jax.Array | None = None) -> jax.Array:
    """The tokens, int [b n], that are before the first end of any codes [b n]; -1 stands after them.

    An end where a text is known to go on, bool [b n], is no more than a token that is missing, -1.
    """
    ends = codes == end
    last = ends if goes_on is None else ends & ~goes_on
    ended = jax.lax.cummax(last.astype(jnp.int32), axis=1)
    return jnp.where(ends | (ended > 0), PADDING, codes)


def known_to_go_on(x: jax.Array, hole: jax.Array) -> jax.Array:
    """Where texts, int [b n], have a token there or later that is in no hole, bool [b n]: bool [b n]."""
    known = (x != PADDING) & ~hole
    return jax.lax.cummax(known.astype(jnp.int32), axis=1, reverse=True) > 0


def fill_text(x: jax.Array, hole: jax.Array) -> jax.Array:
    """Fills the holes, bool [b n], of texts, int [b n], with what the text beside them is encoded well with.

    That is the nearest token before, or at the beginning the first one after, as far as a text is known to go
    on. What follows is no text.
    """
    n, known = x.shape[1], (x != PADDING) & ~hole
    at = jnp.arange(n)
    before = jax.lax.cummax(jnp.where(known, at, -1), axis=1)
    after = jax.lax.cummin(jnp.where(known, at, n - 1), axis=1, reverse=True)
    nearest = jnp.take_along_axis(x, jnp.where(before < 0, after, before), axis=1)
    return jnp.where(hole, jnp.where(known_to_go_on(x, hole), nearest, PADDING), x)


def one_hot(x: jax.Array, end: int) -> jax.Array:
    """Tokens int [b n] as vectors, float32 [b n end+1], zeros after the end, which is one of them itself."""
    codes = with_ends(x, end)
    return jax.nn.one_hot(codes, end + 1) * ~after_end(codes, end)[..., None]

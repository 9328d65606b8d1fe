"""Changes of logits before a token is sampled, and sampling.

Filters take logits [... n] of n tokens and return such; a token that must not be sampled has -inf.
"""

import jax
import jax.numpy as jnp


def top_k(logits: jax.Array, k: int) -> jax.Array:
    """Keeps the k most likely tokens (Fan et al. 2018, arXiv:1805.04833); of equals at the limit, all.

    The number k is static; n or more keeps all.
    """
    if k >= logits.shape[-1]:
        return logits
    least = jax.lax.top_k(logits, k)[0][..., -1:]
    return jnp.where(logits < least, -jnp.inf, logits)


def top_p(logits: jax.Array, p: float | jax.Array) -> jax.Array:
    """Keeps the fewest most likely tokens whose probabilities reach p (Holtzman et al. 2020).

    arXiv:1904.09751, section 3.1. The most likely token is always kept, and so are equals at the limit; p is
    from 0 to 1, which keeps all.
    """
    ordered = -jnp.sort(-logits, axis=-1)
    shares = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(shares, axis=-1) - shares  # the share of all tokens that are more likely
    kept = (before < p).at[..., 0].set(True)
    least = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where((logits < least) & (jnp.asarray(p) < 1), -jnp.inf, logits)


def sample_categorical(keys: jax.Array, logits: jax.Array) -> jax.Array:
    """Samples tokens, int32 [b ...], of logits [b ... n], each example's with its own random key [b]."""
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)

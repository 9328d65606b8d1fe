"""The symmetric contrastive loss of pairs, and how often the other half of a pair is found."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def contrast(
    examples: jax.Array, texts: jax.Array, tokens: jax.Array, scale: jax.Array, there: jax.Array
) -> dict[str, jax.Array]:
    """Cross-entropy of each example's own text among all texts, and the other way round.

    Radford et al. 2021 (arXiv:2103.00020), figure 3, but that others with the same text are not counted as
    wrong answers.

    Args:
        examples: vectors of length 1 [n d].
        texts: the same of their texts.
        tokens: the texts, int32 [n m].
        scale: that makes logits of their products.
        there: False for pairs that are none, bool [n].

    Returns:
        'loss', the mean of both in nats [n], and 'recall_at_1', whether an example's own text is the
        likeliest [n].
    """
    own = jnp.eye(len(tokens), dtype=bool)
    alike = jnp.all(tokens[:, None] == tokens, axis=-1) & ~own
    logits = scale * jnp.dot(examples, texts.T, precision=jax.lax.Precision.HIGHEST)

    def loss(logits: jax.Array) -> jax.Array:
        logits = jnp.where(own | (there & ~alike), logits, -jnp.inf)
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(len(logits)))

    wrong = jnp.where(there & ~alike & ~own, logits, -jnp.inf)
    right = jnp.diagonal(logits) > wrong.max(axis=1)
    return {'loss': (loss(logits) + loss(logits.T)) / 2, 'recall_at_1': right.astype(jnp.float32)}


def ranks(examples: np.ndarray, texts: np.ndarray, own: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The rank of each example's text among others, int [n], from 1, the most like it.

    Args:
        examples: vectors of length 1 [n d].
        texts: the same of texts [k d].
        own: which of the texts is its own, int [n].
        candidates: the others, int [n c]; of those that are as like it as its own, all come first.
    """
    like = np.einsum('nd,ncd->nc', examples, texts[candidates])
    likes_own = np.einsum('nd,nd->n', examples, texts[own])
    return 1 + (like >= likes_own[:, None]).sum(axis=1)

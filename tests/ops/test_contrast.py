"""The contrastive loss against NumPy, and ranks against sorting."""

import jax.numpy as jnp
import numpy as np

from vq_jax.ops.contrast import contrast, ranks

RNG = np.random.default_rng(0)


def units(*shape):
    x = RNG.normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_loss_is_that_of_figure_3_of_the_paper():
    """Of five pairs, of which the second and the fourth have one text, and one more that is padding."""
    examples, texts, scale = units(6, 4), units(6, 4), 7.0
    tokens = np.array([[1], [2], [3], [2], [4], [5]])
    texts[3] = texts[1]
    found = contrast(*map(jnp.asarray, (examples, texts, tokens)), scale, jnp.arange(6) < 5)
    logits = scale * examples[:5] @ texts[:5].T
    apart = (tokens[:5] != tokens[:5].T) | np.eye(5, dtype=bool)
    odds = np.where(apart, np.exp(logits), 0)
    own = np.diagonal(odds)
    expected = -(np.log(own / odds.sum(1)) + np.log(own / odds.sum(0))) / 2
    np.testing.assert_allclose(found['loss'][:5], expected, rtol=1e-4)
    np.testing.assert_array_equal(found['recall_at_1'][:5], odds.argmax(1) == np.arange(5))


def test_ranks_are_those_of_sorted_products():
    examples, texts = units(40, 3), units(50, 3)
    own, candidates = RNG.integers(0, 10, 40), np.tile(np.arange(10, 50), (40, 1))
    found = ranks(examples, texts, own, candidates)
    for i in range(40):
        order = np.argsort(-(texts[[own[i], *candidates[i]]] @ examples[i]))
        assert found[i] == 1 + list(order).index(0)
    # What is as like as the right one comes before it, so that vectors that are all one find nothing.
    assert (ranks(np.ones((2, 1)), np.ones((9, 1)), np.array([0, 1]), np.array([[2, 3], [4, 5]])) == 3).all()

"""Changes of logits, against NumPy written from the definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops.logits import sample_categorical, top_k, top_p

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(40, 9)).astype(np.float32) * 3


def kept(logits):
    return np.isfinite(np.asarray(logits))


@pytest.mark.parametrize('k', [1, 2, 5, 9, 20])
def test_top_k(k):
    for row, mask in zip(LOGITS, kept(top_k(jnp.asarray(LOGITS), k)), strict=True):
        assert set(np.flatnonzero(mask)) == set(np.argsort(-row)[:k])


@pytest.mark.parametrize('p', [0.01, 0.3, 0.5, 0.9, 1.0])
def test_top_p(p):
    for row, mask in zip(LOGITS, kept(top_p(jnp.asarray(LOGITS), p)), strict=True):
        shares = np.exp(row) / np.exp(row).sum()
        nucleus, total = [], 0.0
        for token in np.argsort(-shares):
            nucleus.append(token)
            total += shares[token]
            if total >= p:
                break
        assert set(np.flatnonzero(mask)) == set(nucleus)


def test_what_is_kept_is_not_changed():
    for filtered in (top_k(jnp.asarray(LOGITS), 4), top_p(jnp.asarray(LOGITS), 0.7)):
        mask = kept(filtered)
        np.testing.assert_array_equal(np.asarray(filtered)[mask], LOGITS[mask])


def test_top_p_after_top_k():
    both = top_p(top_k(jnp.asarray(LOGITS), 3), 0.6)
    for row, mask in zip(LOGITS, kept(both), strict=True):
        best = np.argsort(-row)[:3]
        shares = np.exp(row[best]) / np.exp(row[best]).sum()
        n = 1 + np.searchsorted(np.cumsum(shares), 0.6)
        assert set(np.flatnonzero(mask)) == set(best[:n])


def test_equals_at_the_limit_are_all_kept():
    assert kept(top_k(jnp.array([1.0, 2.0, 1.0, 0.0]), 2)).tolist() == [True, True, True, False]


def test_samples_follow_the_probabilities():
    logits = jnp.log(jnp.array([0.5, 0.3, 0.2, 0.0]))
    n = 20_000
    tokens = sample_categorical(jax.random.split(jax.random.key(0), n), jnp.broadcast_to(logits, (n, 4)))
    counts = np.bincount(tokens, minlength=4)
    expected = np.array([0.5, 0.3, 0.2]) * n
    assert counts[3] == 0
    assert np.sum((counts[:3] - expected) ** 2 / expected) < 13.8  # chi-squared, 2 degrees: p = 0.001

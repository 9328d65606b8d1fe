"""Tokens sampled many at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.sampling.autoregressive import Choice
from vq_jax.sampling.masked import generate_masked

N, TOKENS = 12, 5
LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(N, TOKENS)) * 2, jnp.float32)


def independent(tokens):
    """A network to which the tokens do not matter."""
    return jnp.broadcast_to(LOGITS, (*tokens.shape, TOKENS))


@pytest.mark.parametrize('steps', [1, 5, 12, 30])
def test_all_tokens_are_drawn_and_those_given_stay(steps):
    given = jnp.full((3, N), -1).at[1, 2].set(4).at[2].set(1)
    keys = jax.random.split(jax.random.key(0), 3)
    tokens = generate_masked(independent, keys, given, steps=steps, choice=Choice())
    assert (np.asarray(tokens) >= 0).all() and (np.asarray(tokens) < TOKENS).all()
    np.testing.assert_array_equal(np.where(given >= 0, tokens, -1), given)


@pytest.mark.parametrize('temperature, sure', [(3e38, 1.0), (4.5, np.inf), (4.5, np.nan)])
def test_tokens_that_are_given_stay_whatever_the_confidence(temperature, sure):
    given = jnp.full((8, N), -1).at[:, :6].set(3)
    keys = jax.random.split(jax.random.key(0), 8)
    tokens = generate_masked(
        lambda tokens: sure * independent(tokens),
        keys,
        given,
        steps=6,
        choice=Choice(),
        confidence_temperature=temperature,
    )
    np.testing.assert_array_equal(tokens[:, :6], 3)
    assert (np.asarray(tokens) >= 0).all()


def test_in_one_step_tokens_follow_their_own_distributions():
    n = 8_000
    keys, given = jax.random.split(jax.random.key(0), n), jnp.full((n, N), -1)
    tokens = np.asarray(generate_masked(independent, keys, given, steps=1, choice=Choice()))
    shares = np.stack([np.bincount(column, minlength=TOKENS) for column in tokens.T]) / n
    np.testing.assert_allclose(shares, jax.nn.softmax(LOGITS), atol=0.02)


def test_as_many_tokens_are_missing_as_the_schedule_says():
    seen = []

    def counted(tokens):
        jax.debug.callback(lambda t: seen.append(int((t[0] < 0).sum())), tokens, ordered=True)
        return jnp.zeros((*tokens.shape, TOKENS))

    keys, given = jax.random.split(jax.random.key(0), 1), jnp.full((1, 64), -1)
    generate_masked(counted, keys, given, steps=8, choice=Choice()).block_until_ready()
    jax.effects_barrier()
    expected = [64] + [int(64 * np.cos(np.pi / 2 * i / 8)) for i in range(1, 8)]
    assert seen == expected


def test_the_noise_on_the_confidence_falls_as_published():
    """Their code scales it by `1 - (step + 1) / steps`: of two steps, in the first by a half.

    The difference of two Gumbel numbers is logistic, so that of two tokens the one stays whose log
    probability is c more with the probability 1 / (1 + exp(-c / scale)).
    """
    n, temperature = 20_000, 3.0
    logits = jnp.array([[2.0, 0.0], [0.0, -0.5]])

    def network(tokens):
        # In the second step, the other token.
        begun = (tokens >= 0).any(1)[:, None, None]
        return jnp.where(begun, -logits, logits)

    tokens = generate_masked(
        network,
        jax.random.split(jax.random.key(0), n),
        jnp.full((n, 2), -1),
        steps=2,
        choice=Choice(temperature=0),
        confidence_temperature=temperature,
    )
    np.testing.assert_array_equal(np.sum(tokens, 1), 1)
    confidence = np.max(jax.nn.log_softmax(logits), 1)
    wanted = 1 / (1 + np.exp(-(confidence[0] - confidence[1]) / (temperature / 2)))
    assert np.mean(tokens[:, 0] == 0) == pytest.approx(wanted, abs=4 * 0.5 / np.sqrt(n))


def test_without_noise_the_surest_tokens_are_kept_first():
    seen = []

    def network(tokens):
        jax.debug.callback(lambda t: seen.append(np.asarray(t[0] >= 0)), tokens, ordered=True)
        return jnp.broadcast_to(40.0 * LOGITS, (*tokens.shape, TOKENS))

    keys = jax.random.split(jax.random.key(0), 1)
    generate_masked(
        network,
        keys,
        jnp.full((1, N), -1),
        steps=4,
        choice=Choice(temperature=0),
        confidence_temperature=0,
    ).block_until_ready()
    jax.effects_barrier()
    sure = np.asarray(jax.nn.log_softmax(40.0 * LOGITS).max(-1))
    for known in seen[1:]:
        assert sure[known].min() >= sure[~known].max() - 1e-6

"""Against SciPy, and against what probabilities must sum to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vq_jax.ops import likelihoods

RNG = np.random.default_rng(0)
LEVELS = np.arange(256, dtype=np.float32) * 2 / 255 - 1


def test_bernoulli():
    x, logits = RNG.integers(0, 2, (3, 4, 5)), RNG.normal(size=(3, 4, 5)) * 5
    expected = stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-logits))).sum((1, 2))
    np.testing.assert_allclose(likelihoods.bernoulli(x, logits), expected, rtol=1e-4)
    assert np.isfinite(likelihoods.bernoulli(x, logits * 1e4)).all()


def test_gaussian():
    x, mean = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3, 4))
    expected = stats.norm.logpdf(x, mean, np.exp(-0.7)).sum((1, 2))
    np.testing.assert_allclose(likelihoods.gaussian(x, mean, -0.7), expected, rtol=1e-5)


@pytest.mark.parametrize('mean', [-1.3, -1.0, 0.1, 0.99])
@pytest.mark.parametrize('log_scale', [-6.0, -3.0, 0.0])
def test_the_probabilities_of_all_bytes_sum_to_one(mean, log_scale):
    log_p = likelihoods.discretised_logistic(LEVELS[:, None], mean, log_scale)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-4)


def test_discretised_logistic():
    x = LEVELS[[3, 100, 254]]
    half = 1 / 255
    cdf = stats.logistic(0.2, np.exp(-1.5)).cdf
    expected = np.log(cdf(x + half) - cdf(x - half))
    np.testing.assert_allclose(likelihoods.discretised_logistic(x[:, None], 0.2, -1.5), expected, rtol=1e-3)


def test_discretised_logistic_has_gradients_far_off():
    grad = jax.grad(lambda m, s: likelihoods.discretised_logistic(LEVELS[:, None], m, s).sum(), (0, 1))
    for log_scale in (-12.0, -7.0, 5.0):
        assert np.isfinite(grad(3.0, log_scale)).all()


def test_binarize_draws_white_as_often_as_grey_is_bright():
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = likelihoods.binarize(keys, jnp.tile(jnp.array([-1.0, -0.5, 0.0, 1.0]), (4000, 1)))
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(0), [0, 0.25, 0.5, 1], atol=0.03)


def test_dequantize_stays_within_a_level():
    keys = jax.random.split(jax.random.key(0), 100)
    spread = likelihoods.dequantize(keys, jnp.tile(LEVELS, (100, 1))) - LEVELS
    assert np.abs(spread).max() <= likelihoods.LEVEL / 2 * 1.0001
    assert np.ptp(spread) > 0.99 * likelihoods.LEVEL


def test_bits_per_dimension():
    assert likelihoods.bits_per_dimension(-8 * np.log(2) * 10, 10) == pytest.approx(8)


def test_levels_of_a_gaussian_sum_to_one_and_match_the_distribution_function():
    levels = jnp.arange(256) * 2 / 255 - 1
    for mean, scale in ((0.1, 0.02), (-1.3, 0.5), (0.97, 0.3)):
        found = np.asarray(
            jax.vmap(
                lambda x, m=mean, s=scale: likelihoods.discretised_gaussian(x[None, None], m, jnp.log(s))[0]
            )(levels)
        )
        assert np.exp(found).sum() == pytest.approx(1, abs=1e-4)
        edges = np.concatenate([[-np.inf], (np.asarray(levels)[1:] + np.asarray(levels)[:-1]) / 2, [np.inf]])
        inside = np.diff(stats.norm.cdf(edges.astype(np.float64), mean, scale))
        sure = inside > 1e-4
        np.testing.assert_allclose(found[sure], np.log(inside[sure]), rtol=1e-2, atol=2e-3)
    # Far from the mean it stays finite, and so does its gradient.
    far = jax.grad(lambda m: likelihoods.discretised_gaussian(jnp.zeros((1, 1)), m, jnp.log(1e-3))[0])(1.0)
    assert np.isfinite(far)

"""The distributions of examples against SciPy and against what probabilities must sum to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vq_jax.models.observation import Observation, expected
from vq_jax.ops.images import to_float

RNG = np.random.default_rng(0)
OUTPUTS = RNG.normal(size=(2, 3, 4, 3)).astype(np.float32)
BYTES = RNG.integers(0, 256, OUTPUTS.shape, np.uint8)
LOG_SCALE = np.float32([-1.0, -2.0, 0.3])


def described(likelihood, outputs=OUTPUTS, dtype=np.uint8):
    observation = Observation(likelihood, dtype)
    variables = observation.init(jax.random.key(0), outputs)
    if likelihood == 'bernoulli':
        assert not variables
    else:
        assert variables['params']['log_scale'].shape == outputs.shape[-1:]
        variables = {'params': {'log_scale': LOG_SCALE[: outputs.shape[-1]]}}
    return observation.apply(variables, outputs)


def test_discretised_logistic_has_a_scale_for_each_channel():
    x = np.float64(BYTES) * 2 / 255 - 1
    logistic = stats.logistic(OUTPUTS, np.exp(LOG_SCALE))
    upper = np.where(BYTES == 255, 1, logistic.cdf(x + 1 / 255))
    lower = np.where(BYTES == 0, 0, logistic.cdf(x - 1 / 255))
    expected = np.log(upper - lower).sum((1, 2, 3))
    found = described('discretised_logistic').log_probability(to_float(BYTES))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_gaussian_is_a_density_times_the_width_of_a_level():
    x = to_float(BYTES)
    density = stats.norm(OUTPUTS, np.exp(LOG_SCALE)).logpdf(np.asarray(x))
    expected = (density + np.log(2 / 255)).sum((1, 2, 3))
    np.testing.assert_allclose(described('gaussian').log_probability(x), expected, rtol=1e-4)


def test_samples_of_sound_have_levels_of_16_bits():
    sounds = np.arange(-(2**15), 2**15).astype(np.int16)
    x, outputs = to_float(sounds)[:, None, None], np.full((2**16, 1, 1), 0.97, np.float32)
    log_p = described('discretised_logistic', outputs, np.int16).log_probability(x)
    np.testing.assert_allclose(np.exp(np.float64(log_p)).sum(), 1, rtol=1e-3)
    normal = stats.norm(0.97, np.exp(LOG_SCALE[0]))
    expected = normal.logpdf(np.asarray(x)[:, 0, 0]) - 15 * np.log(2)
    np.testing.assert_allclose(
        described('gaussian', outputs, np.int16).log_probability(x), expected, rtol=1e-4
    )
    spread = Observation('gaussian', np.int16).observe(jax.random.split(jax.random.key(0), 100), 0 * x[:100])
    assert 0.9 / 2**16 < np.abs(spread).max() <= 1 / 2**16


@pytest.mark.parametrize('likelihood', ['bernoulli', 'discretised_logistic'])
def test_the_probabilities_of_one_pixel_sum_to_one(likelihood):
    """Over all that it can be."""
    values = np.float32([-1, 1]) if likelihood == 'bernoulli' else to_float(np.arange(256))
    outputs = np.full((len(values), 1, 1, 1), 0.4, np.float32)
    log_p = described(likelihood, outputs).log_probability(values[:, None, None, None])
    np.testing.assert_allclose(np.exp(log_p).sum(), 1, rtol=1e-4)


def test_the_image_of_logits_is_the_expectation_of_draws():
    mean = described('bernoulli').mean()
    p = 1 / (1 + np.exp(-OUTPUTS))
    np.testing.assert_allclose(mean, p * 1 + (1 - p) * -1, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(expected(OUTPUTS), OUTPUTS)
    np.testing.assert_array_equal(expected(described('gaussian')), np.clip(OUTPUTS, -1, 1))


def test_what_is_observed():
    keys = jax.random.split(jax.random.key(0), 500)
    images = jnp.broadcast_to(to_float(np.uint8([0, 51, 255])), (500, 1, 1, 3))
    drawn = np.asarray(Observation('bernoulli').observe(keys, images))
    assert set(np.unique(drawn)) == {-1, 1}
    np.testing.assert_allclose(drawn.mean((0, 1, 2)), images[0, 0, 0], atol=0.15)
    spread = Observation('gaussian').observe(keys, images) - images
    assert 0.9 / 255 < np.abs(spread).max() <= 1.001 / 255
    assert Observation('discretised_logistic').observe(keys, images) is images

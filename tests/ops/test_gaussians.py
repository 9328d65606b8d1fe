"""Against SciPy, and against integration on a grid."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from vq_jax.ops import gaussians


def test_kl_equals_the_integral():
    x = np.linspace(-30, 30, 200_001)
    for mean, log_variance in ((0.0, 0.0), (1.5, -2.0), (-0.3, 1.2)):
        q = stats.norm(mean, np.exp(log_variance / 2))
        # Far out, where q is 0 in floating point, q log q is 0.
        integrand = np.where(q.pdf(x) > 0, q.pdf(x) * (q.logpdf(x) - stats.norm.logpdf(x)), 0)
        np.testing.assert_allclose(
            gaussians.kl_to_standard(mean, log_variance), np.trapezoid(integrand, x), atol=1e-5
        )


def test_kl_is_never_negative_and_does_not_cancel():
    tiny = np.logspace(-12, 0, 10_001)
    log_variance = np.concatenate([-tiny, [0], tiny]).astype(np.float32)
    found = jax.jit(gaussians.kl_to_standard)(jnp.zeros_like(log_variance), log_variance)
    assert (found >= 0).all()
    exact = 0.5 * (np.expm1(np.float64(log_variance)) - log_variance)
    assert (np.abs(found - exact) <= 2e-7 * np.abs(log_variance)).all()


def test_log_density():
    x = np.linspace(-3, 3, 7).astype(np.float32)
    expected = stats.norm.logpdf(x, 0.5, np.exp(0.4))
    np.testing.assert_allclose(gaussians.log_density(x, 0.5, 0.8), expected, rtol=1e-5)


def test_samples_have_the_moments_and_pass_gradients():
    keys = jax.random.split(jax.random.key(0), 20_000)
    mean, log_variance = jnp.full((20_000, 2), 3.0), jnp.full((20_000, 2), np.log(4.0))
    x = gaussians.sample(keys, mean, log_variance)
    np.testing.assert_allclose(x.mean(0), 3.0, atol=0.05)
    np.testing.assert_allclose(x.std(0), 2.0, atol=0.05)
    # d x / d log variance is half of the noise term.
    grad = jax.grad(lambda v: gaussians.sample(keys, mean, v).sum())(log_variance)
    np.testing.assert_allclose(grad, (x - mean) / 2, rtol=1e-5, atol=1e-5)


def test_kl_of_two_equals_the_integral():
    x = np.linspace(-30, 30, 200_001)
    for (mean, log_variance), (m, v) in (((0.5, -1.0), (0.5, -1.0)), ((1.5, -2.0), (-0.3, 0.7))):
        q, p = stats.norm(mean, np.exp(log_variance / 2)), stats.norm(m, np.exp(v / 2))
        integrand = np.where(q.pdf(x) > 0, q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), 0)
        found = gaussians.kl(*map(jnp.float32, (mean, log_variance, m, v)))
        np.testing.assert_allclose(found, np.trapezoid(integrand, x), atol=1e-5)

"""Bounds and likelihoods of normal data, whose entropy is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.sampling.test_diffusion import exact, on_grid
from vq_jax.ops.diffusion import Process
from vq_jax.ops.likelihoods import LEVEL, dequantize
from vq_jax.sampling.diffusion import Denoised
from vq_jax.sampling.likelihood import bound, flow_log_likelihood, step_divergence

MEAN, VARIANCE = 0.1, 0.04


def data(n):
    x = np.random.default_rng(0).normal(MEAN, np.sqrt(VARIANCE), (n, 1))
    return jnp.float32(np.round((np.clip(x, -1, 1) + 1) / LEVEL) * LEVEL - 1)


def total(parts):
    return parts.prior + jnp.sum(parts.diffusion, axis=1) + parts.decoder


def keys(n):
    return jax.random.split(jax.random.key(3), n)


@pytest.mark.slow
@pytest.mark.parametrize('process', [Process('cosine'), Process('straight', 'straight'), Process('linear')])
def test_the_bound_of_continuous_time_is_that_of_direct_integration(process):
    """For the exact denoiser all noise levels together are one divergence, of q(x_0' | x) from p(x_0').

    x_0' is the least noisy example. Both, and the decoder's term, are integrated over it on a grid.
    """
    n = 60_000
    parts_of = jax.jit(lambda x: bound(exact(process, MEAN, VARIANCE), process, keys(n), x, 16))
    alpha, sigma = (float(v) for v in process.scales(jnp.zeros(())))
    z = np.linspace(-7, 7, 4001)
    for level in (60, 140, 200):
        x = level * LEVEL - 1
        noisy = alpha * x + sigma * z
        scale = np.sqrt(alpha**2 * VARIANCE + sigma**2)
        nats = stats.norm.logpdf(noisy, alpha * x, sigma) - stats.norm.logpdf(noisy, alpha * MEAN, scale)
        inside = stats.norm.cdf(x + LEVEL / 2, noisy / alpha, sigma / alpha)
        nats -= np.log(inside - stats.norm.cdf(x - LEVEL / 2, noisy / alpha, sigma / alpha))
        wanted = np.sum(stats.norm.pdf(z) * nats) * (z[1] - z[0])
        parts = parts_of(jnp.full((n, 1), x, jnp.float32))
        found = np.asarray(total(parts), np.float64)
        assert parts.diffusion.shape == (n, 16)
        error = 5 * found.std() / np.sqrt(n)
        assert error < 0.1
        assert found.mean() == pytest.approx(wanted, abs=float(error))
        # A bound: of bytes, by the distribution function.
        p = stats.norm(MEAN, np.sqrt(VARIANCE))
        assert found.mean() - error > -np.log(p.cdf(x + LEVEL / 2) - p.cdf(x - LEVEL / 2))


@pytest.mark.parametrize('width', ['posterior', 'forward'])
def test_the_bound_of_discrete_time_is_that_of_direct_integration(width):
    """Ho et al. 2020, equation 5, term by term, each integrated over x_t on a grid.

    The model's steps are as wide as the posterior, or as a step of the forward process (section 3.2).
    """
    steps = 20
    # A weak noise, so that something is left of the data at the end.
    process = Process('linear', shift=0.05, timesteps=steps)
    x0, mean, variance = 0.1, -0.2, 0.3  # the denoiser's data are others than these
    denoise = exact(process, mean, variance)
    z = np.linspace(-7, 7, 4001)
    weight = stats.norm.pdf(z) * (z[1] - z[0])

    def scales(i):
        return (float(v) for v in process.scales(jnp.float32(i / steps)))

    terms = []
    for i in range(2, steps + 1):
        (a, b), (c, d) = scales(i - 1), scales(i)
        beta = d**2 - (c / a) ** 2 * b**2
        x = c * x0 + d * z
        expected = (d**2 * mean + c * variance * x) / (c**2 * variance + d**2)
        # The means differ by the factor of x0 in equation 7.
        difference = a * beta / d**2 * (expected - x0)
        narrow = beta * b**2 / d**2
        wide = narrow if width == 'posterior' else beta
        nats = (narrow + difference**2) / (2 * wide) - 0.5 + 0.5 * np.log(wide / narrow)
        terms.append(np.sum(weight * nats))
    # The first step is as wide as the posterior of the second, as in the published code.
    (c, d), (c2, d2) = scales(1), scales(2)
    x = c * x0 + d * z
    expected = (d**2 * mean + c * variance * x) / (c**2 * variance + d**2)
    width_1 = np.sqrt((1 - (c2 / d2) ** 2 / (c / d) ** 2) * d**2)
    level = stats.norm.cdf(x0 + LEVEL / 2, expected, width_1) - stats.norm.cdf(
        x0 - LEVEL / 2, expected, width_1
    )
    decoder = -np.sum(weight * np.log(level))
    c, d = scales(steps)
    prior = 0.5 * (c**2 * x0**2 + d**2 - 1 - np.log(d**2))

    n = 40_000
    found = jax.jit(lambda: bound(denoise, process, keys(n), jnp.full((n, 1), x0), 1000, width))()
    assert found.diffusion.shape == (n, steps - 1)  # each time once
    ours = np.asarray(found.diffusion, np.float64)
    error = 5 * ours.std(0) / np.sqrt(n)
    assert (np.abs(ours.mean(0) - terms) < error + 1e-3 * np.abs(terms) + 1e-6).all()
    assert np.mean(found.decoder) == pytest.approx(decoder, rel=0.02)
    assert np.mean(found.prior) == pytest.approx(prior, rel=1e-2)
    # A few times drawn at random give the same on average.
    few = jax.jit(lambda: bound(denoise, process, keys(n), jnp.full((n, 1), x0), 3, width))()
    few = few.diffusion.sum(1)
    assert np.mean(few) == pytest.approx(sum(terms), abs=float(5 * np.std(few) / np.sqrt(n)))


def test_the_divergence_of_a_step_with_a_learned_variance():
    """Of two normal densities, by integration."""
    process = Process('linear', timesteps=100)
    t = jnp.array([0.3])
    x0, x, guess, share = (jnp.full((1, 1), v) for v in (0.2, 0.5, 0.1, 0.7))
    found = step_divergence(Denoised(x0=guess, variance_share=share), process, x0, x, t)
    mean, variance = (np.ravel(v)[0] for v in process.posterior(x0, x, t - 0.01, t))
    other, _ = (np.ravel(v)[0] for v in process.posterior(guess, x, t - 0.01, t))
    most = float(process.added_variance(t - 0.01, t)[0])
    wide = np.exp(0.7 * np.log(most) + 0.3 * np.log(variance))
    q, p = stats.norm(mean, np.sqrt(variance)), stats.norm(other, np.sqrt(wide))
    grid = np.linspace(mean - 2, mean + 2, 200_001)
    integrand = q.pdf(grid) * (q.logpdf(grid) - p.logpdf(grid))
    wanted = np.trapezoid(np.where(q.pdf(grid) > 0, integrand, 0), grid)
    np.testing.assert_allclose(found, wanted, rtol=1e-2)


@pytest.mark.parametrize('learned', [False, True])
@pytest.mark.parametrize(
    'process', [Process('cosine', timesteps=4000), Process('straight', 'straight', timesteps=1000)]
)
def test_the_bound_is_finite_where_the_ratio_stands_still(process, learned):
    """Beyond its limit, two times that follow each other have one ratio: their step costs nothing."""
    x0 = data(4)

    def denoise(x, t):
        return Denoised(x0=jnp.zeros_like(x), variance_share=jnp.full_like(x, 0.3) if learned else None)

    parts = jax.jit(lambda: bound(denoise, process, keys(4), x0, process.timesteps))()
    assert np.isfinite(total(parts)).all()
    np.testing.assert_allclose(parts.diffusion[:, -1], 0, atol=1e-6)
    assert (parts.diffusion[:, 100] > 0).all()


def test_of_all_discrete_times_each_is_measured_once():
    seen, process = [], Process('linear', timesteps=1000)

    def denoise(x, t):
        jax.debug.callback(lambda t: seen.extend(np.asarray(t)), t)
        return Denoised(x0=x)

    jax.block_until_ready(bound(denoise, process, keys(1), data(1), process.timesteps))
    jax.effects_barrier()
    np.testing.assert_allclose(np.sort(seen), np.arange(1, 1001) / 1000, rtol=1e-6)


@pytest.mark.parametrize('process', [Process('cosine'), Process('straight', 'straight')])
def test_the_likelihood_of_the_flow_is_the_density(process):
    n = 64
    x = dequantize(keys(n), data(n))
    wanted = stats.norm.logpdf(np.float64(x), MEAN, np.sqrt(VARIANCE))[:, 0]

    def run(steps):
        return flow_log_likelihood(exact(process, MEAN, VARIANCE), process, keys(n), x, steps)

    errors = [np.abs(jax.jit(run, static_argnums=0)(steps) - wanted).max() for steps in (100, 200)]
    assert errors[1] < 0.02, errors


def test_the_likelihood_of_the_flow_is_the_density_of_several_numbers():
    """Each depends on all others, and the divergence is what the probes say on average."""
    n, d = 512, 4
    # With so much noise at time 0 that the scale of the data there counts.
    process = Process('log_linear', 'straight', shift=100.0)
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0]
    mean, covariance = 0.2 * rng.normal(size=d), turn @ np.diag(np.linspace(0.02, 0.5, d)) @ turn.T
    x = np.float32(rng.multivariate_normal(mean, covariance, n))

    def denoise(x, t):
        alpha, sigma = process.scales(t[0])
        noisy = alpha**2 * jnp.float32(covariance) + sigma**2 * jnp.eye(d)
        gain = alpha * jnp.float32(covariance) @ jnp.linalg.inv(noisy)
        return Denoised(x0=jnp.float32(mean) + (x - alpha * jnp.float32(mean)) @ gain.T)

    alpha, sigma = map(np.float64, process.scales(jnp.zeros(())))
    assert d * np.log(alpha) < -0.4
    noisy = stats.multivariate_normal(alpha * mean, alpha**2 * covariance + sigma**2 * np.eye(d))
    wanted = noisy.logpdf(alpha * x) + d * np.log(alpha)
    found = jax.jit(lambda x: flow_log_likelihood(denoise, process, keys(n), x, 200, 8))(x)
    errors = np.asarray(found, np.float64) - wanted
    most = 5 * errors.std() / np.sqrt(n)
    assert most < 0.15 and abs(errors.mean()) < most, (errors.mean(), most)


@pytest.mark.parametrize('grid', [(6, 1), (1, 3, 2, 1)])
def test_grids_of_any_rank_are_as_likely_as_vectors(grid):
    process, x = Process('cosine'), data(30).reshape(5, 6)
    flat, denoise = exact(process, MEAN, VARIANCE), on_grid(grid, exact(process, MEAN, VARIANCE))
    a, b = (bound(f, process, keys(5), v, 4) for f, v in ((flat, x), (denoise, x.reshape(5, *grid))))
    np.testing.assert_allclose(total(a), total(b), rtol=1e-4)
    a, b = (
        flow_log_likelihood(f, process, keys(5), v, 4) for f, v in ((flat, x), (denoise, x.reshape(5, *grid)))
    )
    np.testing.assert_allclose(a, b, rtol=1e-4)

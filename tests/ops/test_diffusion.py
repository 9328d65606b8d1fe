"""The forward process against the papers' formulas, evaluated with NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.ops import diffusion
from vq_jax.ops.diffusion import PREDICTIONS, SCHEDULES, Process

# Ho et al. 2020, section 4.
BETAS = np.linspace(1e-4, 0.02, 1000)
ALPHA_BARS = np.cumprod(1 - BETAS)
DDPM = Process('linear', timesteps=1000)
RNG = np.random.default_rng(0)


# Rombach et al. 2022: `make_beta_schedule` of their code.
SCALED = np.cumprod(1 - np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2)


@pytest.mark.parametrize('schedule, alpha_bars', [('linear', ALPHA_BARS), ('scaled_linear', SCALED)])
def test_schedules_are_the_products_of_the_published_betas(schedule, alpha_bars):
    t = np.arange(1, 1001) / 1000
    alpha, sigma = Process(schedule, timesteps=1000).scales(jnp.float32(t))
    np.testing.assert_allclose(np.square(alpha), alpha_bars, rtol=1e-5)
    np.testing.assert_allclose(np.square(sigma), 1 - alpha_bars, rtol=1e-5)


def test_the_cosine_schedule():
    """Nichol and Dhariwal 2021, equation 17, but for its ends, where the ratio is limited."""
    t = np.linspace(0.001, 0.99, 50)
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    alpha_bar = f / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    alpha, sigma = Process('cosine').scales(jnp.float32(t))
    np.testing.assert_allclose(np.square(alpha), alpha_bar, rtol=1e-4)
    np.testing.assert_allclose(np.square(sigma), 1 - alpha_bar, rtol=1e-4)


def test_the_log_linear_schedule():
    """Kingma et al. 2021, appendix B: from 13.3 to -5, so that the bound asks as much of all times."""
    process = Process('log_linear')
    t = np.linspace(0, 1, 11, dtype=np.float32)
    np.testing.assert_allclose(process.log_snr(t), np.linspace(13.3, -5, 11), rtol=1e-5)
    weight = diffusion.loss_weight('bound', 'noise', process, jnp.float32(t[1:-1]))
    np.testing.assert_allclose(weight, 18.3 / 2, rtol=1e-4)


def test_the_straight_path():
    t = np.linspace(0.01, 0.99, 50, dtype=np.float32)
    alpha, sigma = Process('straight', 'straight').scales(t)
    np.testing.assert_allclose(alpha, 1 - t, atol=1e-6)
    np.testing.assert_allclose(sigma, t, atol=1e-6)


def test_a_shift_of_the_straight_path_is_that_of_the_time():
    """Esser et al. 2024, equation 23: with shift s, the time t becomes s t / (1 + (s - 1) t)."""
    t = np.linspace(0.01, 0.99, 50, dtype=np.float32)
    _, sigma = Process('straight', 'straight', shift=3.0).scales(t)
    np.testing.assert_allclose(sigma, 3 * t / (1 + 2 * t), rtol=1e-4)


@pytest.mark.parametrize('path', ['variance_preserving', 'straight'])
@pytest.mark.parametrize('schedule', SCHEDULES)
def test_schedules_fall_and_can_be_inverted(schedule, path):
    process = Process(schedule, path, shift=2.0)
    t = jnp.linspace(0, 1, 101)
    ratio = process.log_snr(t)
    assert np.isfinite(ratio).all() and (np.diff(ratio) < 0).all()
    np.testing.assert_allclose(process.time(ratio), t, atol=2e-3)
    np.testing.assert_allclose(process.time(ratio)[1:-1], t[1:-1], atol=1e-5)
    alpha, sigma = process.scales(t)
    np.testing.assert_allclose(np.log(alpha**2 / sigma**2), ratio, rtol=1e-4, atol=1e-4)
    whole = alpha + sigma if path == 'straight' else alpha**2 + sigma**2
    np.testing.assert_allclose(whole, 1, rtol=1e-5)


@pytest.mark.parametrize('shift', [0.25, 1.0, 8.0])
def test_data_are_free_of_noise_however_far_the_schedule_is_shifted(shift):
    """Where the schedule itself gets so far: less than a quarter of a level of a byte is left."""
    _, sigma = Process('cosine', shift=shift).scales(jnp.zeros(()))
    assert 127.5 * sigma < 0.25
    assert Process('cosine', shift=shift).log_snr(jnp.ones(())) == pytest.approx(-13.3, rel=1e-5)


def test_marginals_are_what_steps_come_to():
    """q(x_t | x_0) of one draw, against the chain of 1,000 steps of equation 2 of Ho et al. 2020."""
    x0, n = 0.7, 200_000
    mean, variance = x0, 0.0
    for beta in BETAS[:400]:
        mean, variance = np.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    noise = jax.random.normal(jax.random.key(0), (n, 1))
    drawn = DDPM.diffuse(jnp.full((n, 1), x0), noise, jnp.full(n, 0.4))
    assert np.mean(drawn) == pytest.approx(mean, abs=4 * np.sqrt(variance / n))
    assert np.var(drawn) == pytest.approx(variance, rel=0.02)
    # In two steps, by way of time 0.1.
    early = DDPM.diffuse(jnp.full((n, 1), x0), noise, jnp.full(n, 0.1))
    fresh = jax.random.normal(jax.random.key(1), (n, 1))
    drawn = DDPM.diffuse_on(early, fresh, jnp.full(n, 0.1), jnp.full(n, 0.4))
    assert np.mean(drawn) == pytest.approx(mean, abs=4 * np.sqrt(variance / n))
    assert np.var(drawn) == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize('i', [2, 3, 10, 500, 1000])
def test_the_posterior_is_that_of_the_paper(i):
    """Ho et al. 2020, equation 7, with their betas; i counts steps from 1."""
    beta, bar, before = BETAS[i - 1], ALPHA_BARS[i - 1], ALPHA_BARS[i - 2]
    x0, x = RNG.normal(size=(2, 3, 4))
    mean = np.sqrt(before) * beta / (1 - bar) * x0 + np.sqrt(1 - beta) * (1 - before) / (1 - bar) * x
    variance = (1 - before) / (1 - bar) * beta
    s, t = jnp.full(3, (i - 1) / 1000), jnp.full(3, i / 1000)
    ours = DDPM.posterior(jnp.float32(x0), jnp.float32(x), s, t)
    np.testing.assert_allclose(ours[0], mean, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(ours[1][0], variance, rtol=2e-3)
    np.testing.assert_allclose(DDPM.added_variance(s, t), beta, rtol=2e-3)


def test_the_posterior_of_a_wide_step_is_bayes_rule():
    """On the straight path too: q(x_s | x_0) q(x_t | x_s), integrated over a grid of x_s."""
    for process in (Process('straight', 'straight'), Process('cosine', shift=2.0)):
        (alpha_s, sigma_s), (alpha_t, sigma_t) = (
            map(float, process.scales(jnp.float32(t))) for t in (0.3, 0.7)
        )
        x0, x = 0.4, -0.2
        grid = np.linspace(-6, 6, 20_001)
        step = sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2
        log_p = -((grid - alpha_s * x0) ** 2) / (2 * sigma_s**2)
        log_p -= (x - alpha_t / alpha_s * grid) ** 2 / (2 * step)
        p = np.exp(log_p - log_p.max())
        mean = np.sum(p * grid) / p.sum()
        variance = np.sum(p * (grid - mean) ** 2) / p.sum()
        s, t = jnp.array([0.3]), jnp.array([0.7])
        ours = process.posterior(jnp.array([[x0]]), jnp.array([[x]]), s, t)
        np.testing.assert_allclose(np.ravel(ours[0]), mean, rtol=1e-3)
        np.testing.assert_allclose(np.ravel(ours[1]), variance, rtol=1e-3)


@pytest.mark.parametrize('process', [DDPM, Process('straight', 'straight')])
@pytest.mark.parametrize('name', PREDICTIONS)
def test_predictions_and_back(name, process):
    x0, noise = jnp.float32(RNG.normal(size=(2, 5, 3)))
    t = jnp.array([0.02, 0.3, 0.5, 0.8, 0.95])
    x = process.diffuse(x0, noise, t)
    wanted = diffusion.target(name, process, x0, noise, t)
    np.testing.assert_allclose(diffusion.to_x0(name, process, wanted, x, t), x0, atol=2e-3)
    np.testing.assert_allclose(diffusion.from_x0(name, process, x0, x, t), wanted, atol=2e-3)


@pytest.mark.parametrize('process', [Process('cosine'), Process('straight', 'straight')])
def test_the_tangent_is_the_derivative_along_the_path(process):
    """By differences, of x_t with respect to `position`."""
    x0, noise = jnp.float32(RNG.normal(size=(2, 1, 3)))
    t, h = jnp.array([0.4]), 1e-3
    a, b = (process.diffuse(x0, noise, t + d) for d in (-h, h))
    slope = (b - a) / (process.position(t + h) - process.position(t - h))
    wanted = diffusion.target(process.tangent, process, x0, noise, t)
    np.testing.assert_allclose(slope, wanted, atol=3e-3)


def test_weights():
    """Of noise, min(SNR, gamma) / SNR; of x0, min(SNR, gamma); of v, over SNR + 1 (Hang et al. 2023)."""
    process, t = Process('cosine'), jnp.array([0.05, 0.3, 0.6, 0.9])
    snr = np.exp(process.log_snr(t))
    least = np.minimum(snr, 5)
    for name, wanted in (('x0', least), ('noise', least / snr), ('v', least / (snr + 1))):
        found = diffusion.loss_weight('min_snr', name, process, t, 5.0)
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
        np.testing.assert_array_equal(diffusion.loss_weight('uniform', name, process, t), 1)
    # The bound's weight of the error of the noise is half the fall of the log ratio: its integral over
    # time is half of the whole fall.
    t = jnp.linspace(0, 1, 200_001)
    found = diffusion.loss_weight('bound', 'noise', Process('straight'), t)
    assert np.trapezoid(found, t) == pytest.approx(diffusion.LOG_SNR_LIMIT, rel=1e-2)


def test_the_weights_of_the_bound_in_discrete_time():
    """Ho et al. 2020, equation 12, of the noise; and the squared error of their decoder of step 1."""
    beta = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.cumprod(1 - beta)
    variance = beta[1:] * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])  # that of the posterior
    wanted = beta[1:] ** 2 / (2 * variance * (1 - beta[1:]) * (1 - alpha_bar[1:]))
    t = jnp.arange(1, 1001) / 1000
    found = diffusion.loss_weight('bound', 'noise', Process('linear', timesteps=1000), t) / 1000
    np.testing.assert_allclose(found[1:], wanted, rtol=5e-3)
    # Of x0, half the inverse of the decoder's variance, that of the posterior of the second step.
    first = beta[0] / (1 - beta[0]) / (2 * variance[0])
    np.testing.assert_allclose(found[0], first, rtol=5e-3)


def test_learned_variances_lie_between_the_least_and_the_most():
    s, t = jnp.array([0.4]), jnp.array([0.41])
    shares = jnp.array([[0.0, 0.5, 1.0]])
    found = diffusion.interpolated_log_variance(shares, DDPM, s, t)[0]
    _, least = DDPM.posterior(shares, shares, s, t)
    most = DDPM.added_variance(s, t)
    np.testing.assert_allclose(np.exp(found[0]), np.ravel(least)[0], rtol=1e-4)
    np.testing.assert_allclose(np.exp(found[2]), most[0], rtol=1e-4)
    np.testing.assert_allclose(found[1], (found[0] + found[2]) / 2, rtol=1e-5)


@pytest.mark.parametrize(
    'process, s, t',
    [
        # Neighbours whose ratios are both beyond the limit, and times that are visited twice.
        (Process('cosine', timesteps=4000), 3999 / 4000, 1.0),
        (Process('straight', 'straight', timesteps=1000), 0.999, 1.0),
        (DDPM, 0.5, 0.5),
        (DDPM, 0.0, 0.0),
    ],
)
def test_a_step_between_equal_ratios_changes_nothing(process, s, t):
    s, t = jnp.array([s]), jnp.array([t])
    assert process.log_snr(s) == process.log_snr(t)
    x0, x, noise = jnp.float32(RNG.normal(size=(3, 1, 5)))
    mean, variance = process.posterior(x0, x, s, t)
    np.testing.assert_allclose(mean, x, rtol=1e-6)
    assert 0 < np.sqrt(variance).max() < 1e-9
    np.testing.assert_allclose(process.diffuse_on(x, noise, s, t), x, rtol=1e-6)
    shares = jnp.array([[0.0, 0.5, 1.0]])
    widths = np.exp(diffusion.interpolated_log_variance(shares, process, s, t) / 2)
    assert (widths > 0).all() and (widths < 1e-9).all()


def test_mistakes():
    with pytest.raises(UserError, match='shift'):
        Process(shift=0.0)
    with pytest.raises(UserError, match='timesteps'):
        Process(timesteps=1)

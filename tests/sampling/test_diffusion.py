"""Samplers where the exact denoiser is known: the data are normal, so that everything has a closed form.

With data of mean m and variance v, x_t is normal with mean `alpha m` and variance
`alpha^2 v + sigma^2`, and the expected data are
`(sigma^2 m + alpha v x_t) / (alpha^2 v + sigma^2)`. The probability flow takes x_t to the same quantile at
any other time.
"""

import functools
import itertools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.ops.diffusion import Process
from vq_jax.ops.guidance import halves, pair
from vq_jax.sampling.diffusion import (
    GRIDS,
    READERS,
    SAMPLERS,
    Denoised,
    GridName,
    Known,
    Move,
    Options,
    clipped,
    guided,
    solve,
    thresholded,
    time_grid,
)

MEAN, VARIANCE = 0.5, 0.04
VP, FLOW = Process('cosine'), Process('straight', 'straight')
DDPM = Process('linear', timesteps=100)
PROCESSES = {'cosine': VP, 'flow': FLOW}


def exact(process, mean=MEAN, variance=VARIANCE):
    def denoise(x, t):
        alpha, sigma = (scale[:, None] for scale in process.scales(t))
        x0 = (sigma**2 * mean + alpha * variance * x) / (alpha**2 * variance + sigma**2)
        return Denoised(x0=x0)

    return denoise


def follow(x, process, t, s, mean=MEAN, variance=VARIANCE):
    """Where the probability flow takes x from t to s, in closed form."""
    (a, b), (c, d) = (map(np.float64, process.scales(jnp.float32(time))) for time in (t, s))
    at, to = np.sqrt(a**2 * variance + b**2), np.sqrt(c**2 * variance + d**2)
    return c * mean + to * (x - a * mean) / at


@functools.cache
def compiled(name, process, n, eta=0.0, variance='posterior'):
    def draw(keys, x, times):
        options = Options(eta=eta, variance=variance)
        return solve(SAMPLERS[name], exact(process), process, keys, x, times, options)[0]

    return jax.jit(draw)


def draw(name, process, times, x, seed=0, **options):
    keys = jax.random.split(jax.random.key(seed), len(x))
    return np.asarray(compiled(name, process, len(times), **options)(keys, x, times), np.float64)


def noise(n):
    return jax.random.normal(jax.random.key(9), (n, 1))


@pytest.mark.parametrize(
    'name, process', [*((name, 'cosine') for name in SAMPLERS), ('ddim', 'flow'), ('unipc', 'flow')]
)
def test_samples_have_the_mean_and_variance_of_the_data(name, process):
    n = 20_000
    # Ancestral steps are of first order, and so many are needed for a variance that is this near.
    times = time_grid('uniform', PROCESSES[process], 1000 if name == 'ddpm' else 200)
    x = draw(name, PROCESSES[process], times, noise(n))
    assert x.mean() == pytest.approx(MEAN, abs=0.006)
    assert x.var() == pytest.approx(VARIANCE, rel=0.05)


@pytest.mark.parametrize('process', PROCESSES)
@pytest.mark.parametrize(
    'name, order', [('ddim', 1), ('euler', 1), ('heun', 2), ('dpm_solver', 2), ('unipc', 3)]
)
def test_errors_fall_with_the_order_of_the_method(name, order, process):
    """Halving steps divides the error of the flow by 2 to the order; between times away from the ends."""
    process = PROCESSES[process]
    x = jnp.array([[-1.0], [0.3], [2.0]])
    wanted = follow(np.asarray(x, np.float64), process, 0.9, 0.2)
    errors = []
    for steps in (8, 16, 32) if order == 3 else (16, 32, 64):  # before rounding is all that is left
        times = jnp.linspace(0.9, 0.2, steps + 1)
        errors.append(np.abs(draw(name, process, times, x) - wanted).max())
    found = np.log2(np.divide(errors[:-1], errors[1:]))
    assert order - 0.25 < found.mean() < order + 0.6, (errors, found)


def on_grid(grid, denoise):
    """The denoiser of vectors [b n] for grids of n numbers [b *grid]."""

    def reshaped(x, t):
        return Denoised(x0=denoise(x.reshape(len(x), -1), t).x0.reshape(x.shape))

    return reshaped


@pytest.mark.parametrize('grid', [(6, 1), (1, 3, 2, 1)])
@pytest.mark.parametrize('name', ['ddpm', 'heun', 'unipc'])
def test_grids_of_any_rank_are_sampled_alike(name, grid):
    """A sequence and a video: number by number as vectors are, and as the flow goes where it is known."""
    times, x = time_grid('uniform', VP, 40, 0.9), noise(30).reshape(5, 6)
    keys = jax.random.split(jax.random.key(0), 5)
    flat, _ = solve(SAMPLERS[name], exact(VP), VP, keys, x, times)
    sampled, _ = solve(SAMPLERS[name], on_grid(grid, exact(VP)), VP, keys, x.reshape(5, *grid), times)
    np.testing.assert_allclose(sampled.reshape(5, 6), flat, atol=1e-5)
    if name != 'ddpm':
        np.testing.assert_allclose(flat, follow(np.asarray(x, np.float64), VP, 0.9, 0.0), atol=0.02)


def moments(name, process, times, denoise=None, **options):
    """Mean and variance at the last of the times, exactly: each step is affine in x and in its noise."""
    denoise = denoise or exact(process)

    @jax.jit
    def step(t, s):
        x, noise = jnp.array([[0.0], [1.0], [0.0]]), jnp.array([[0.0], [0.0], [1.0]])
        last = jnp.array(False)
        move = Move(t=t, s=s, t_before=t, x0_before=jnp.zeros_like(x), last=last, noise=noise)
        return SAMPLERS[name](denoise, process, x, move, Options(**options))[0][:, 0]

    mean, variance = normal_at(process, times[0])
    for t, s in itertools.pairwise(times):
        constant, with_x, with_noise = np.float64(step(t, s))
        mean = constant + (with_x - constant) * mean
        variance = (with_x - constant) ** 2 * variance + (with_noise - constant) ** 2
    return mean, variance


def normal_at(process, t):
    """Mean and variance of x_t."""
    alpha, sigma = map(np.float64, process.scales(jnp.float32(t)))
    return alpha * MEAN, alpha**2 * VARIANCE + sigma**2


@pytest.mark.parametrize('process', PROCESSES)
@pytest.mark.parametrize(
    'name, options', [('ddpm', {}), ('ddpm', {'variance': 'forward'}), ('ddim', {'eta': 0.5})]
)
def test_with_noise_the_mean_is_exact_and_the_variance_of_first_order(name, options, process):
    process = PROCESSES[process]
    mean, variance = normal_at(process, 0.2)
    errors = []
    for steps in (16, 32, 64, 128):
        found = moments(name, process, jnp.linspace(0.9, 0.2, steps + 1), **options)
        assert found[0] == pytest.approx(mean, abs=1e-6)
        errors.append(abs(found[1] - variance))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 0.9).all() and (orders < 1.12).all(), (errors, orders)


def test_with_the_learned_variance_of_the_data_a_step_of_any_length_is_exact():
    """A step is then as wide as the posterior of one x0, and as what x0 may be besides."""
    times = jnp.array([0.9, 0.6, 0.3])
    steps = {float(t): s for t, s in itertools.pairwise(times)}

    def denoise(x, t):
        t = t[:1]
        s = jnp.select([t == start for start in steps], list(steps.values()))
        (alpha, sigma), (alpha_s, sigma_s) = DDPM.scales(t), DDPM.scales(s)
        least = sigma_s**2 * DDPM.lost(s, t)
        of_x0 = 1 / (1 / VARIANCE + alpha**2 / sigma**2)
        wanted = jnp.log(least + (alpha_s * DDPM.lost(s, t)) ** 2 * of_x0)
        share = (wanted - jnp.log(least)) / (jnp.log(DDPM.added_variance(s, t)) - jnp.log(least))
        return Denoised(x0=exact(DDPM)(x, jnp.full(len(x), t)).x0, variance_share=jnp.full_like(x, share))

    wanted = normal_at(DDPM, times[-1])
    np.testing.assert_allclose(moments('ddpm', DDPM, times, denoise), wanted, rtol=1e-5)
    plain = moments('ddpm', DDPM, times)
    assert abs(plain[1] / wanted[1] - 1) > 1e-3


@pytest.mark.parametrize('name', SAMPLERS)
def test_the_network_is_traced_as_often_for_many_steps_as_for_few(name):
    """The loop is compiled once: what it takes to start does not grow with it."""

    def traces(steps, repeats=1):
        seen = []
        known = None if repeats == 1 else Known(x0=jnp.zeros((4, 1)), mask=jnp.array(True))

        def denoise(x, t):
            seen.append(steps)
            return exact(VP)(x, t)

        def run(keys, x):
            times = time_grid('uniform', VP, steps)
            return solve(SAMPLERS[name], denoise, VP, keys, x, times, None, known, repeats)[0]

        run = jax.jit(run)
        for seed in range(3):  # batches of one size
            jax.block_until_ready(run(jax.random.split(jax.random.key(seed), 4), noise(4)))
        return len(seen)

    assert 0 < traces(40) == traces(4) == traces(4, repeats=10) <= 4


@pytest.mark.parametrize('name', SAMPLERS)
def test_options_change_what_their_samplers_draw_alone(name):
    times, x = time_grid('uniform', VP, 4), noise(8)
    plain = draw(name, VP, times, x)
    for option, value in (('eta', 0.5), ('variance', 'forward')):
        changed = (draw(name, VP, times, x, **{option: value}) != plain).any()
        assert changed == (name in READERS[option])


def test_ddim_with_the_noise_of_ddpm_is_ddpm():
    """Song et al. 2021, section 4.1: with eta 1 and all steps, number by number."""
    times = time_grid('uniform', DDPM, 100)
    x = noise(8)
    a = draw('ddpm', DDPM, times, x)
    b = draw('ddim', DDPM, times, x, eta=1.0)
    np.testing.assert_allclose(a, b, atol=2e-4)
    assert np.abs(a - draw('ddim', DDPM, times, x)).max() > 0.05


def test_euler_on_the_straight_path_is_ddim():
    """Both then go along straight lines from x_t to where the data are expected."""
    times = time_grid('uniform', FLOW, 10)
    np.testing.assert_allclose(
        draw('euler', FLOW, times, noise(8)), draw('ddim', FLOW, times, noise(8)), atol=1e-4
    )


def test_ddpm_with_either_variance_is_right_for_the_data_it_is_made_for():
    """Ho et al. 2020, section 3.2: 'posterior' for data that are one point, 'forward' for normal noise."""
    few = jnp.linspace(1, 0.5, 4)
    for variance, of_data in (('posterior', 0.0), ('forward', 1.0)):

        def run(keys, x, variance=variance, of_data=of_data):
            denoise, options = exact(VP, 0.0, of_data), Options(variance=variance)
            # The last step adds no noise: the one before it is compared.
            return solve(SAMPLERS['ddpm'], denoise, VP, keys, x, few, options, visited=[len(few) - 2])[1]

        found = np.asarray(jax.jit(run)(jax.random.split(jax.random.key(0), 40_000), noise(40_000)))
        alpha, sigma = VP.scales(few[-2])
        assert found.var() == pytest.approx(float(alpha**2 * of_data + sigma**2), rel=0.03)


def test_inversion_leads_back():
    times = time_grid('uniform', VP, 400)
    x0 = jnp.array([[0.2], [0.5], [0.9]])
    found = draw('ddim', VP, times[::-1], x0)
    wanted = follow(np.asarray(x0), VP, 0.0, 1.0)
    np.testing.assert_allclose(found, wanted, atol=0.05)
    np.testing.assert_allclose(draw('ddim', VP, times, jnp.float32(found)), x0, atol=0.02)


def test_a_sample_does_not_depend_on_its_batch():
    times, x = time_grid('uniform', VP, 5), noise(6)
    keys = jax.random.split(jax.random.key(0), 6)
    run = functools.partial(solve, SAMPLERS['ddpm'], exact(VP), VP)
    np.testing.assert_allclose(run(keys, x, times)[0][2:4], run(keys[2:4], x[2:4], times)[0], atol=1e-6)


def test_what_is_visited_is_where_shorter_ways_end():
    times, x, keys = time_grid('uniform', VP, 6), noise(3), jax.random.split(jax.random.key(0), 3)
    run = functools.partial(solve, SAMPLERS['euler'], exact(VP), VP, keys, x)
    last, visited = run(times, visited=[0, 2, 2, 5, 6])
    ends = [x, *(run(times[: n + 1])[0] for n in (2, 2, 5)), last]
    np.testing.assert_allclose(visited, jnp.stack(ends), atol=1e-6)
    assert run(times)[1].shape == (0, 3, 1)


def test_memory_does_not_grow_with_steps():
    def used(steps):
        def run(keys, x):
            return solve(SAMPLERS['ddpm'], exact(VP), VP, keys, x, time_grid('uniform', VP, steps))[0]

        arguments = jax.random.split(jax.random.key(0), 4), jnp.zeros((4, 1000))
        return jax.jit(run).lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    assert used(500) < used(5) + 4 * 4000  # a single further step would be as much


@pytest.mark.parametrize('name', typing.get_args(GridName))
def test_grids(name):
    for process in (VP, FLOW, DDPM):
        times = np.asarray(time_grid(name, process, 10, start=0.8))
        assert times[0] == pytest.approx(0.8) and times[-1] == 0
        assert (np.diff(times) <= 0).all()
        if process.timesteps:
            np.testing.assert_allclose(times * 100, np.round(times * 100), atol=1e-4)
    times = time_grid(name, VP, 10)
    ratio = np.asarray(VP.log_snr(times), np.float64)
    if name == 'log_snr':
        np.testing.assert_allclose(np.diff(ratio), 2.66, rtol=2e-2)
    if name == 'karras':  # equation 5, with the published rho
        low, high = np.exp(-ratio[-1] / 2), np.exp(-ratio[0] / 2)
        i = np.arange(11) / 10
        wanted = (high ** (1 / 7) + i * (low ** (1 / 7) - high ** (1 / 7))) ** 7
        np.testing.assert_allclose(np.exp(-ratio / 2), wanted, rtol=2e-2)
    power = {'quadratic': 2, 'cubic': 3}.get(name)
    for process in (VP, FLOW, Process('log_linear')) if power else ():
        place = np.asarray(process.position(time_grid(name, process, 10)), np.float64)
        wanted = np.linspace(place[0] ** (1 / power), place[-1] ** (1 / power), 11) ** power
        np.testing.assert_allclose(place, wanted, rtol=2e-3)
    if name == 'quadratic':  # of the square root of time, but for how far apart the data and time 0 are
        np.testing.assert_allclose(time_grid(name, FLOW, 10), np.linspace(1, 0, 11) ** 2, atol=0.02)
    with pytest.raises(UserError, match='1 to 100'):
        time_grid(name, DDPM, 101)


@pytest.mark.parametrize('name', typing.get_args(GridName))
@pytest.mark.parametrize('process', [DDPM, Process('cosine', timesteps=100)])
def test_no_time_of_discrete_time_is_visited_twice(process, name):
    starts = np.array([1, 0.5, 0.2, 0.01, 0], np.float32)
    for steps in (15, 50):
        grids = jax.jit(jax.vmap(lambda start, n=steps: time_grid(name, process, n, start)))(starts)
        for start, numbers in zip(starts, 100 * np.asarray(grids), strict=True):
            up = min(steps, round(100 * start))  # then it stays at 0
            assert (np.diff(numbers)[:up] < -0.5).all() and (numbers[up:] == 0).all()
            np.testing.assert_allclose(numbers, np.round(numbers), atol=1e-4)
            assert numbers[0] == pytest.approx(100 * start)
    # Where there is room, they are the nearest times.
    if name == 'uniform':
        np.testing.assert_allclose(grids[0], np.round(100 * (1 - np.arange(51) / 50)) / 100, atol=1e-6)


@pytest.mark.parametrize(
    'name, process',
    [*((name, VP) for name in SAMPLERS), ('ddpm', DDPM), ('ddim', DDPM), ('euler', FLOW), ('unipc', FLOW)],
)
def test_the_last_step_gives_what_the_network_takes_the_examples_for(name, process):
    """Not a point on the way there: Karras et al. 2022, algorithm 1, and Ho et al. 2020, algorithm 2."""

    def run(keys, x, options):
        times = jnp.array([1.0, 0.6, 0.3, 0.0])  # the last step is a long one
        denoise = exact(process)
        found, visited = solve(SAMPLERS[name], denoise, process, keys, x, times, options, visited=[2])
        return found, denoise(visited[0], jnp.full(len(x), times[2])).x0

    for options in (Options(), Options(eta=1.0, variance='forward')):
        draw = jax.jit(functools.partial(run, options=options))
        found, wanted = draw(jax.random.split(jax.random.key(0), 8), noise(8))
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize('name', SAMPLERS)
@pytest.mark.parametrize('repeats', [1, 3])
def test_the_network_is_called_no_oftener_than_needed(name, repeats):
    """Once a step, by Heun's method twice but for the last; the last step is not repeated."""
    called, steps = [], 5
    known = None if repeats == 1 else Known(x0=jnp.zeros((4, 1)), mask=jnp.array([[True]] * 3 + [[False]]))

    def denoise(x, t):
        jax.debug.callback(lambda t: called.append(float(t)), t[0])
        return exact(VP)(x, t)

    def run(keys, x):
        times = time_grid('uniform', VP, steps)
        return solve(SAMPLERS[name], denoise, VP, keys, x, times, None, known, repeats)[0]

    found = jax.jit(run)(jax.random.split(jax.random.key(0), 4), noise(4))
    jax.effects_barrier()
    assert np.isfinite(found).all()
    assert len(called) == (steps - 1) * repeats * (2 if name == 'heun' else 1) + 1
    assert min(called) == pytest.approx(1 / steps)  # never at the data, where nothing can be told


@pytest.mark.parametrize('name', SAMPLERS)
def test_steps_that_lead_nowhere_change_nothing(name):
    """The step to 0 is the last one, which adds no noise, however many follow it."""
    x = noise(8)
    options = {'eta': 1.0, 'variance': 'forward'}
    for at in (0.0, 0.5):
        np.testing.assert_allclose(draw(name, DDPM, jnp.full(4, at), x, **options), x, atol=1e-5)
    once = draw(name, DDPM, jnp.array([0.3, 0.1, 0.0]), x, **options)
    more = draw(name, DDPM, jnp.array([0.3, 0.1, 0.0, 0.0, 0.0]), x, **options)
    np.testing.assert_allclose(once, more, atol=1e-5)


def test_guidance():
    """1 is the model with the class, 0 that without; 2 as far again; rescaled, with the model's deviation."""
    x, t = jax.random.normal(jax.random.key(0), (3, 50)), jnp.full(3, 0.5)
    a, b = exact(VP, mean=jnp.linspace(-1, 1, 50)), exact(VP, mean=0.0)
    plain, without = a(x, t).x0, b(x, t).x0

    def both(x, t):  # of a batch of two halves
        return pair(a(*halves((x, t))[0]), b(*halves((x, t))[1]))

    np.testing.assert_allclose(guided(both, 1.0)(x, t).x0, plain, atol=1e-6)
    np.testing.assert_allclose(guided(both, 0.0)(x, t).x0, without, atol=1e-6)
    far = guided(both, 4.0)(x, t).x0
    np.testing.assert_allclose(far, 4 * plain - 3 * without, atol=1e-5)
    kept = guided(both, 4.0, rescale=1.0)(x, t).x0
    np.testing.assert_allclose(np.std(kept, axis=1), np.std(plain, axis=1), rtol=1e-4)
    half = guided(both, 4.0, rescale=0.5)(x, t).x0
    np.testing.assert_allclose(half, (far + kept) / 2, atol=1e-5)


def test_thresholds():
    values = jnp.stack([jnp.linspace(-4, 4, 201), jnp.linspace(-0.5, 0.5, 201)])

    def network(x, t):
        return Denoised(x0=values)

    np.testing.assert_array_equal(clipped(network)(values, jnp.ones(2)).x0, np.clip(values, -1, 1))
    found = np.asarray(thresholded(network, 0.5)(values, jnp.ones(2)).x0)
    # Half of the first are within 2; none of the second is beyond 1, and they stay.
    np.testing.assert_allclose(found[0], np.clip(values[0] / 2, -1, 1), atol=1e-2)
    np.testing.assert_allclose(found[1], values[1], atol=1e-6)


def mixture(process, deviation):
    """The exact denoiser of three normal distributions in the plane."""
    centres = jnp.array([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]])

    def denoise(x, t):
        alpha, sigma = (scale[:, None] for scale in process.scales(t))
        variance = (deviation * alpha) ** 2 + sigma**2
        squares = jnp.sum((x[:, None] - alpha[..., None] * centres) ** 2, -1)
        near = jax.nn.softmax(-squares / (2 * variance), axis=1) @ centres
        return Denoised(x0=near + alpha * deviation**2 / variance * (x - alpha * near))

    return denoise


@functools.partial(jax.jit, static_argnames=('name', 'process', 'deviation'))
def end_in_mixture(name, process, deviation, x, times):
    keys = jax.random.split(jax.random.key(0), len(x))  # of no effect
    return solve(SAMPLERS[name], mixture(process, deviation), process, keys, x, times)[0]


def test_unipc_equals_the_published_code():
    """That of Zhao et al. 2023 (github.com/wl-zhao/UniPC, uni_pc.py), with this denoiser in float64.

    `UniPC(..., algorithm_type='data_prediction', variant='bh2').sample(x, steps=8, t_start=0.95, t_end=0.05,
    order=2, skip_type='time_uniform', lower_order_final=False)`.
    """
    x = jnp.array([[-1.5, 0.3], [0.2, 0.4], [1.0, -2.0]])
    wanted = [[-0.90817592, 0.651402153], [0.025424573, 0.525339558], [0.17612702, -1.190565035]]
    found = end_in_mixture('unipc', VP, 0.3, x, jnp.linspace(0.95, 0.05, 9))
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_default_grids_err_less_and_unipc_least():
    """Where the flow is not straight; see benchmarks/samplers.py for more data, schedules and steps."""
    x, errors = jax.random.normal(jax.random.key(0), (64, 2)), {}
    for process in PROCESSES.values():
        # Further zeros change nothing, and all grids need one compilation.
        times = {
            (grid, n): np.pad(time_grid(grid, process, n), (0, 300 - n))
            for grid, n in [('cubic', 300), *itertools.product(typing.get_args(GridName), [40])]
        }
        exact = end_in_mixture('unipc', process, 0.1, x, times['cubic', 300])
        for name in ('ddim', 'euler', 'heun', 'dpm_solver', 'unipc'):
            for grid in {'uniform', 'log_snr', GRIDS[name]}:
                distances = end_in_mixture(name, process, 0.1, x, times[grid, 40]) - exact
                errors.setdefault((name, grid), []).append(np.median(np.sqrt(np.square(distances).mean(-1))))
    means = {key: np.exp(np.mean(np.log(values))) for key, values in errors.items()}
    for name in ('ddim', 'euler', 'heun', 'dpm_solver', 'unipc'):
        assert means[name, GRIDS[name]] < min(means[name, 'uniform'], means[name, 'log_snr']), (name, means)
    assert means['unipc', 'cubic'] < 0.5 * means['dpm_solver', 'cubic'], means


@pytest.mark.parametrize('repeats, error', [(1, 0.3), (8, 0.1)])
def test_what_is_drawn_fits_what_is_known(repeats, error):
    """Two numbers that are nearly equal, of which one is known: more repeats, a better fit."""
    correlation = 0.98
    covariance = jnp.array([[1.0, correlation], [correlation, 1.0]])

    def denoise(x, t):
        alpha, sigma = VP.scales(t[0])
        gain = alpha * covariance @ jnp.linalg.inv(alpha**2 * covariance + sigma**2 * jnp.eye(2))
        return Denoised(x0=x @ gain.T)

    known = Known(x0=jnp.tile(jnp.array([1.5, 0.0]), (2000, 1)), mask=jnp.array([[False, True]]))
    keys = jax.random.split(jax.random.key(0), 2000)
    x = jax.random.normal(jax.random.key(1), (2000, 2))

    def run(keys, x):
        times = time_grid('uniform', VP, 100)
        return solve(SAMPLERS['ddpm'], denoise, VP, keys, x, times, None, known, repeats)[0]

    found = np.asarray(jax.jit(run)(keys, x))
    np.testing.assert_array_equal(found[:, 0], 1.5)
    assert abs(found[:, 1].mean() - 1.5 * correlation) < error

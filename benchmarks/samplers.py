"""What samplers err in where the best network is known, against steps and grids of times.

    python benchmarks/samplers.py

The data are mixtures of normal distributions, around 8x8 images of digits and around points of a plane, whose
expected x_0 has a closed form, so that nothing but the sampler errs. Samplers without noise are compared with
where the probability flow leads from the same noise, and `ddpm` with the mean and the deviation of normal
data, at deviations from 0.02 to 0.5: each of its steps is affine, so that what it samples is known exactly.
"""

import functools
import itertools
import typing
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app
from sklearn.datasets import load_digits

from vq_jax.ops.diffusion import Process, spread
from vq_jax.sampling.diffusion import (
    GRIDS,
    SAMPLERS,
    Denoised,
    Denoiser,
    GridName,
    Move,
    Options,
    solve,
    time_grid,
)

PROCESSES = {
    'cosine': Process('cosine'),
    'linear': Process('linear'),
    'straight': Process('straight', 'straight'),
    'log_linear': Process('log_linear'),
}
CALLS = (5, 10, 20, 40, 100)
NAMES = typing.get_args(GridName)
GREY = 127.5  # grey levels in a unit of [-1, 1]


def mixture(process: Process, centres: np.ndarray, deviation: float) -> Denoiser:
    """The expected x_0 of data around centres [k d]."""

    def denoise(x: jax.Array, t: jax.Array) -> Denoised:
        alpha, sigma = (spread(scale, x) for scale in process.scales(t))
        variance = jnp.square(alpha * deviation) + jnp.square(sigma)
        distances = jnp.sum(jnp.square(x[:, None] - alpha[..., None] * centres), axis=-1)
        near = jax.nn.softmax(-distances / (2 * variance), axis=1) @ centres
        return Denoised(x0=near + alpha * deviation**2 / variance * (x - alpha * near))

    return denoise


def ends(sampler: str, process: Process, denoise: Denoiser, x: jax.Array, grids: np.ndarray) -> np.ndarray:
    """Where a sampler without noise leads from x [b d], along grids of times [g n + 1], [g b d]."""
    keys = jax.random.split(jax.random.key(0), len(x))  # of no effect
    run = jax.jit(lambda times: solve(SAMPLERS[sampler], denoise, process, keys, x, times)[0])
    return np.stack([run(times) for times in grids])


def padded(process: Process, grid: GridName, steps: int, length: int) -> np.ndarray:
    """A grid of times, and as many further zeros as make one length of all: they change nothing."""
    times = time_grid(grid, process, steps)
    return np.pad(times, (0, length + 1 - len(times)))


def flow_errors(process: Process, centres: np.ndarray, deviation: float) -> dict[tuple[str, str, int], float]:
    """By sampler, grid and calls: the median distance from the flow's end, in grey levels."""
    denoise = mixture(process, centres, deviation)
    x = jax.random.normal(jax.random.key(1), (32, centres.shape[1]))
    fine = np.asarray(time_grid('cubic', process, 1000))[None]
    exact = ends('unipc', process, denoise, x, fine)[0]
    errors = {}
    for sampler in SAMPLERS:
        if sampler == 'ddpm':
            continue
        chosen = list(itertools.product(NAMES, CALLS))
        steps = [(calls + 1) // 2 if sampler == 'heun' else calls for _, calls in chosen]
        length = max(steps)
        grids = [padded(process, grid, n, length) for (grid, _), n in zip(chosen, steps, strict=True)]
        found = ends(sampler, process, denoise, x, np.stack(grids))
        distances = np.sqrt(np.square(found - exact).mean(-1))
        for (grid, calls), error in zip(chosen, np.median(distances, axis=1), strict=True):
            errors[sampler, grid, calls] = GREY * float(error)
    return errors


def ancestral_errors(process: Process) -> dict[tuple[str, str, int], float]:
    """The same of `ddpm`: how far means and deviations are from those of normal data."""
    mean, deviations = 0.5, jnp.array([0.5, 0.3, 0.1, 0.05, 0.02])

    def denoise(x: jax.Array, t: jax.Array) -> Denoised:
        alpha, sigma = (spread(scale, x) for scale in process.scales(t))
        variance = jnp.square(alpha * deviations) + jnp.square(sigma)
        return Denoised(x0=(sigma**2 * mean + alpha * deviations**2 * x) / variance)

    @functools.partial(jax.jit, static_argnames='variance')
    def step(variance: str, t: jax.Array, s: jax.Array) -> jax.Array:
        x = jnp.array([0.0, 1.0, 0.0])[:, None] * jnp.ones_like(deviations)
        noise = jnp.array([0.0, 0.0, 1.0])[:, None] * jnp.ones_like(deviations)
        move = Move(t=t, s=s, t_before=t, x0_before=x, last=s == 0, noise=noise)
        return SAMPLERS['ddpm'](denoise, process, x, move, Options(variance=variance))[0]

    errors = {}
    for variance, grid, calls in itertools.product(('posterior', 'forward'), NAMES, CALLS):
        found, variances = np.zeros(len(deviations)), np.ones(len(deviations))
        for t, s in itertools.pairwise(np.asarray(time_grid(grid, process, calls))):
            constant, with_x, with_noise = np.float64(step(variance, t, s))
            found = constant + (with_x - constant) * found
            variances = (with_x - constant) ** 2 * variances + (with_noise - constant) ** 2
        squares = np.square(found - mean) + np.square(np.sqrt(variances) - np.float64(deviations))
        errors[f'ddpm, {variance}', grid, calls] = GREY * float(np.sqrt(squares.mean()))
    return errors


def table(errors: list[dict[tuple[str, str, int], float]], say: Callable[[str], None] = print) -> None:
    """Geometric means over the cases, as Markdown; the default of each sampler is bold."""
    say(f'| sampler | grid | {" | ".join(f"{calls} calls" for calls in CALLS)} |')
    say(f'| --- | --- |{" --- |" * len(CALLS)}')
    for sampler in dict.fromkeys(key[0] for case in errors for key in case):
        for grid in NAMES:
            cases = [case for case in errors if (sampler, grid, CALLS[0]) in case]
            means = [
                np.exp(np.mean([np.log(case[sampler, grid, calls]) for case in cases])) for calls in CALLS
            ]
            name = f'**{grid}**' if GRIDS[sampler.partition(',')[0]] == grid else grid
            say(f'| {sampler} | {name} | {" | ".join(f"{error:.3g}" for error in means)} |')


def main(_: list[str]) -> None:
    """Prints the table of all cases, and one for each schedule."""
    digits = load_digits().images[:60].reshape(60, 64) / 8 - 1
    points = np.random.default_rng(0).normal(size=(6, 2)) / 2
    found = {
        name: [
            flow_errors(process, np.float32(digits), 0.2),
            flow_errors(process, np.float32(points), 0.1),
            ancestral_errors(process),
        ]
        for name, process in PROCESSES.items()
    }
    table([case for cases in found.values() for case in cases])
    for name, cases in found.items():
        print(f'\n{name}\n')
        table(cases)


if __name__ == '__main__':
    app.run(main)

"""Sampling from a diffusion model: samplers, guidance, inpainting, inversion.

All of it takes a denoiser, a function of noisy examples [b ...] of any rank and their times, and knows
nothing of the network in it. A sampler is one function, a step from a time to another; the loop is common
to all.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import chex
import jax
import jax.numpy as jnp

from vq_jax.errors import UserError, check_share
from vq_jax.ops.diffusion import MOST_TIMESTEPS, Process, from_x0, interpolated_log_variance, spread
from vq_jax.ops.guidance import guide, halves, twice
from vq_jax.ops.keys import fold_in, normal
from vq_jax.ops.traced import differs

GridName = Literal['uniform', 'quadratic', 'cubic', 'log_snr', 'karras']
VarianceName = Literal['posterior', 'forward']


@chex.dataclass(frozen=True)
class Denoised:
    """What a network takes noisy examples for.

    Attributes:
        x0: the expected data [b ...].
        variance_share: where the variance of a step lies from the least to the most (see
            `vq_jax.ops.diffusion.interpolated_log_variance`) [b ...]; None if it is not learned.
    """

    x0: jax.Array
    variance_share: jax.Array | None = None


Denoiser = Callable[[jax.Array, jax.Array], Denoised]  # of x_t [b ...] and times [b]


@chex.dataclass(frozen=True)
class Move:
    """One step of a sampler, from a time to another.

    Attributes:
        t: where the example is.
        s: where it goes; 0 is the data.
        t_before: where the step before began; t itself in the first step.
        x0_before: what the network took the examples for there [b ...].
        t_earlier: where the step before that one began, for `unipc`; t_before if there was none.
        x0_earlier: what the network took the examples for there [b ...], likewise.
        last: whether this step leads to the data, from noise to time 0, bool. Of all samplers `solve` then
            takes what the network takes the examples for: no noise is left to step through, and any that a
            method left would be seen.
        noise: standard normal noise, for samplers that use it [b ...].
    """

    t: jax.Array
    s: jax.Array
    t_before: jax.Array
    x0_before: jax.Array
    last: jax.Array
    noise: jax.Array
    t_earlier: jax.Array | None = None
    x0_earlier: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """What can be chosen about samplers.

    Attributes:
        eta: of DDIM: how much of the noise of DDPM is added in each step; 0 adds none, 1 as much as DDPM.
            More would leave no variance for the noise that is there, and the sum would be too wide.
        variance: of a step of DDPM and, in discrete time, of the bound, if it is not learned: that of the
            'posterior' of known data or that of the 'forward' step, the least and the most it can be (Ho et
            al. 2020, section 3.2).
    """

    eta: float = 0.0
    variance: VarianceName = 'posterior'

    def __post_init__(self) -> None:
        check_share(self, 'eta')


Stepped = tuple[jax.Array, jax.Array]  # x_s [b ...], and what the network took x_t for [b ...]
Sampler = Callable[[Denoiser, Process, jax.Array, Move, Options], Stepped]  # a step of x_t [b ...]


def ddpm(denoise: Denoiser, process: Process, x: jax.Array, move: Move, options: Options) -> Stepped:
    """Ancestral sampling: Ho et al. 2020 (arXiv:2006.11239), algorithm 2, between any two times."""
    t, s = _times(x, move)
    denoised = denoise(x, t)
    mean, variance = process.posterior(denoised.x0, x, s, t)
    if denoised.variance_share is not None:
        variance = jnp.exp(interpolated_log_variance(denoised.variance_share, process, s, t))
    elif options.variance == 'forward':
        variance = process.added_variance(move.s, move.t)
    return mean + jnp.sqrt(variance) * move.noise, denoised.x0


def ddim(denoise: Denoiser, process: Process, x: jax.Array, move: Move, options: Options) -> Stepped:
    """Song et al. 2021 (arXiv:2010.02502), equation 12; without noise, also from noise to data and back."""
    t, _ = _times(x, move)
    x0 = denoise(x, t).x0
    noise = from_x0('noise', process, x0, x, t)
    alpha, sigma = process.scales(move.s)
    eta = options.eta
    if not differs(eta, 0):
        return alpha * x0 + sigma * noise, x0
    difference = process.log_snr(move.t) - process.log_snr(move.s)
    fresh = sigma * eta * jnp.sqrt(jnp.maximum(0, -jnp.expm1(difference)))
    # The variance that is left beside the fresh noise, without a difference of nearly equal numbers.
    left = 1 - eta**2 + eta**2 * jnp.exp(difference)
    kept = sigma * jnp.sqrt(jnp.maximum(0, left))
    return alpha * x0 + kept * noise + fresh * move.noise, x0


def euler(denoise: Denoiser, process: Process, x: jax.Array, move: Move, options: Options) -> Stepped:
    """Euler's method on the probability flow, along the path's own coordinate (`Process.position`)."""
    slope, x0 = _flow(denoise, process, x, _times(x, move)[0])
    return x + (process.position(move.s) - process.position(move.t)) * slope, x0


def heun(denoise: Denoiser, process: Process, x: jax.Array, move: Move, options: Options) -> Stepped:
    """Heun's method, of second order (Karras et al. 2022, arXiv:2206.00364), where `euler` is of first.

    Two calls of the network a step, but one in the last, as in their algorithm 1: without noise, what the
    network errs in cannot be distinguished from it.
    """
    t, s = _times(x, move)
    slope, x0 = _flow(denoise, process, x, t)

    def corrected() -> jax.Array:
        way = process.position(move.s) - process.position(move.t)
        after, _ = _flow(denoise, process, x + way * slope, s)
        return x + way * (slope + after) / 2

    return jax.lax.cond(move.last, lambda: x0, corrected), x0


def dpm_solver(denoise: Denoiser, process: Process, x: jax.Array, move: Move, options: Options) -> Stepped:
    """DPM-Solver++(2M) of Lu et al. 2022 (arXiv:2211.01095), algorithm 2.

    The first step is of first order, having none before it.
    """
    x0 = denoise(x, _times(x, move)[0]).x0
    return _extrapolated(process, x, x0, move), x0


def unipc(denoise: Denoiser, process: Process, x: jax.Array, move: Move, options: Options) -> Stepped:
    """UniPC of Zhao et al. 2023 (arXiv:2302.04867), of order 2, with `B(h) = exp(h) - 1`: of third order.

    Its predictor is `dpm_solver`. What the network takes an example for where that led to corrects it, before
    the next step, by the same call of the network that the next step begins with.
    """
    x0 = denoise(x, _times(x, move)[0]).x0
    x = x + _correction(process, x0, move)
    return _extrapolated(process, x, x0, move), x0


SAMPLERS: dict[str, Sampler] = {f.__name__: f for f in (ddpm, ddim, euler, heun, dpm_solver, unipc)}
SamplerName = Literal[*SAMPLERS]
# The grid that each sampler errs least on, over schedules and steps: see benchmarks/README.md.
GRIDS: dict[str, GridName] = {
    **dict.fromkeys(('ddpm', 'ddim', 'euler', 'heun'), 'quadratic'),
    **dict.fromkeys(('dpm_solver', 'unipc'), 'cubic'),
}
# The samplers that read each of `Options`.
READERS: dict[str, tuple[str, ...]] = {'eta': ('ddim',), 'variance': ('ddpm',)}


def check_steps(steps: int, process: Process) -> None:
    """Raises `UserError` unless a sampler can make so many steps of a process."""
    most = process.timesteps or MOST_TIMESTEPS
    if not 1 <= steps <= most:
        reason = ', as many as the model was trained with' if process.timesteps else ''
        raise UserError(f'a sampler cannot make {steps} steps; give 1 to {most}{reason}.')


def time_grid(name: GridName, process: Process, steps: int, start: float | jax.Array = 1.0) -> jax.Array:
    """The times that a sampler visits.

    Args:
        name: 'uniform' in time; 'quadratic' and 'cubic', uniform in the square root and the cube root of
            `Process.position`, which nearly is time, as in the quadratic grid of Song et al. 2021
            (arXiv:2010.02502), appendix D.2, where the schedule is 'cosine' or 'straight'; 'log_snr', uniform
            in the log signal-to-noise ratio; 'karras', uniform in the seventh root of sigma / alpha (Karras
            et al. 2022, equation 5). `GRIDS` has the best for each sampler.
        process: the forward process. In discrete time the nearest of its times are taken, each once: where
            several numbers of the grid are nearest to one, some of them take its neighbours.
        steps: n.
        start: the first time.

    Returns:
        From `start` down to 0 [n + 1]. Where discrete time has fewer than n times up to `start`, the steps
        that are left over lead from 0 to 0: examples stay as they are, but the network is asked, since
        `start` need not be known when the loop is compiled.

    Raises:
        UserError: if there are more steps than times in all.
    """
    check_steps(steps, process)
    share = jnp.linspace(0, 1, steps + 1)
    if name == 'uniform':
        times = start * (1 - share)
    else:
        there, back = {
            'quadratic': (lambda r: jnp.sqrt(process.position_of(r)), lambda x: process.log_snr_of(x**2)),
            'cubic': (lambda r: jnp.cbrt(process.position_of(r)), lambda x: process.log_snr_of(x**3)),
            'log_snr': (lambda r: r, lambda x: x),
            'karras': (lambda r: jnp.exp(-r / 14), lambda x: -14 * jnp.log(x)),
        }[name]
        first, last = (there(process.log_snr(t)) for t in (jnp.asarray(start, jnp.float32), jnp.zeros(())))
        times = process.time(back(first + share * (last - first)))
        times = times.at[0].set(start).at[-1].set(0.0)
    if process.timesteps:
        number, i = jnp.round(times * process.timesteps), jnp.arange(steps + 1)
        apart = jax.lax.cummax(number + i, reverse=True) - i  # each above all that come after it
        apart = jnp.minimum(apart, number[0] - i)  # and below all that came before
        times = jnp.maximum(apart, 0) / process.timesteps
    return times


@chex.dataclass(frozen=True)
class Known:
    """Parts of examples that are to stay as they are.

    Attributes:
        x0: the examples [b ...].
        mask: True where they are to be sampled anew, of a shape that broadcasts to [b ...].
    """

    x0: jax.Array
    mask: jax.Array


def solve(
    sampler: Sampler,
    denoise: Denoiser,
    process: Process,
    keys: jax.Array,
    x: jax.Array,
    times: jax.Array,
    options: Options | None = None,
    known: Known | None = None,
    repeats: int = 1,
    visited: Sequence[int] = (),
) -> tuple[jax.Array, jax.Array]:
    """Takes examples along a grid of times, in one compiled loop.

    Args:
        sampler: a step, such as those in `SAMPLERS`.
        denoise: the network.
        process: the forward process it was trained on.
        keys: a random key for each example [b].
        x: the examples at the first time [b ...].
        times: [n + 1], falling to 0, or rising from 0 for a sampler that adds no noise.
        options: of the sampler.
        known: parts that are replaced after each step by noisy versions of what is known (Song et al.
            2021, arXiv:2011.13456, section 5; Lugmayr et al. 2022, arXiv:2201.09865, equation 8).
        repeats: with `known`, how often each step is made; in between, noise is put back, so that both
            parts come to fit each other (Lugmayr et al. 2022, section 4.2). The last step, after which no
            noise can be put back, is made once.
        visited: numbers of times, from 0 to n, at which examples are kept for a look at them [k].

    Returns:
        The examples at the last time [b ...], and at the times in `visited` [k b ...].
    """
    options = options or Options()
    n, repeats = len(times) - 1, repeats if known is not None else 1

    def noise(number: jax.Array) -> jax.Array:
        return normal(fold_in(keys, number), x.shape[1:])

    chosen = jnp.asarray(visited, jnp.int32).reshape(-1, *[1] * x.ndim)

    def step(number: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        x, (t_before, x0_before), (t_earlier, x0_earlier), seen = carry
        i, first = number // repeats, 3 * number
        t, s = times[i], times[i + 1]
        last = (s == 0) & (t > 0)
        before = {'t_before': t_before, 'x0_before': x0_before}
        earlier = {'t_earlier': t_earlier, 'x0_earlier': x0_earlier}
        move = Move(t=t, s=s, **before, **earlier, last=last, noise=noise(first))
        y, x0 = sampler(denoise, process, x, move, options)
        y = jnp.where(last, x0, y)
        if known is not None:
            kept = process.diffuse(known.x0, noise(first + 1), s)
            y = jnp.where(known.mask, y, jnp.where(last, known.x0, kept))
        arrived = chosen == i + 1
        if repeats > 1:
            again = (number % repeats < repeats - 1) & (i < n - 1)
            back = jnp.where(last, x, process.diffuse_on(y, noise(first + 2), s, t))
            y, arrived = jnp.where(again, back, y), arrived & ~again
            # With new noise the step is as if it were the first.
            t_before = jnp.where(again, t, t_before)
        return y, (t, x0), (t_before, x0_before), jnp.where(arrived, y, seen)

    nowhere = times[0], jnp.zeros_like(x)
    start = x, nowhere, nowhere, jnp.broadcast_to(x, (len(visited), *x.shape))
    x, _, _, seen = jax.lax.fori_loop(0, (n - 1) * repeats + 1, step, start)
    return x, seen


def guided(denoise: Denoiser, guidance: float | jax.Array, rescale: float | jax.Array = 0.0) -> Denoiser:
    """Classifier-free guidance (see `vq_jax.ops.guidance`).

    Args:
        denoise: of a batch of two halves [2b ...]: the first has its context, the second has none.
        guidance: 0 forgets the context, 1 is `denoise` of the first half, more exaggerates what the context
            changes.
        rescale: how far the result is brought back to the standard deviation of the first half, from 0 to 1
            (Lin et al. 2024, arXiv:2305.08891, section 3.4), which keeps images from glaring.

    Returns:
        A denoiser of batches [b ...].
    """

    def combined(x: jax.Array, t: jax.Array) -> Denoised:
        conditional, unconditional = halves(denoise(twice(x), twice(t)))
        x0 = guide(conditional.x0, unconditional.x0, guidance)
        if differs(rescale, 0):
            axes = tuple(range(1, x.ndim))
            wanted, found = (jnp.std(v, axis=axes, keepdims=True) for v in (conditional.x0, x0))
            x0 = x0 * (1 + rescale * (wanted / jnp.maximum(found, 1e-6) - 1))
        return conditional.replace(x0=x0)

    return combined


def clipped(denoise: Denoiser) -> Denoiser:
    """Brings what the network expects into [-1, 1], the range of images (Ho et al. 2020's code)."""

    def clip(x: jax.Array, t: jax.Array) -> Denoised:
        denoised = denoise(x, t)
        return denoised.replace(x0=jnp.clip(denoised.x0, -1, 1))

    return clip


def thresholded(denoise: Denoiser, percentile: float | jax.Array = 0.995) -> Denoiser:
    """Dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487, section 2.3).

    Shrinks each example by as much as brings a share of its values into [-1, 1], where that is needed; the
    rest is cut off.
    """

    def shrink(x: jax.Array, t: jax.Array) -> Denoised:
        denoised = denoise(x, t)
        sizes = jnp.abs(denoised.x0).reshape(len(x), -1)
        bound = spread(jnp.maximum(1, jnp.quantile(sizes, percentile, axis=1)), x)
        return denoised.replace(x0=jnp.clip(denoised.x0, -bound, bound) / bound)

    return shrink


def _times(x: jax.Array, move: Move) -> tuple[jax.Array, jax.Array]:
    """Where each example is and where it goes [b]."""
    return jnp.full(len(x), move.t), jnp.full(len(x), move.s)


def _extrapolated(process: Process, x: jax.Array, x0: jax.Array, move: Move) -> jax.Array:
    """Where a step leads if the network's answer goes on as it went from the step before to this one."""
    now, then, before = (process.log_snr(t) / 2 for t in (move.t, move.s, move.t_before))
    (alpha, sigma), (_, sigma_now) = process.scales(move.s), process.scales(move.t)
    first = before == now
    factor = jnp.where(first, 0, (then - now) / jnp.where(first, 1, 2 * (now - before)))
    direction = x0 + factor * (x0 - move.x0_before)
    return sigma / sigma_now * x - alpha * jnp.expm1(now - then) * direction


def _correction(process: Process, x0: jax.Array, move: Move) -> jax.Array:
    """What UniC adds to an example that `_extrapolated` led to (Zhao et al. 2023, equation 8, order 2).

    Both begin with the same terms, so that their difference needs neither the example nor the one before.
    It is 0 where no step led: in the first, and at the data.
    """
    now, before, earlier = (process.log_snr(t) / 2 for t in (move.t, move.t_before, move.t_earlier))
    led = (now != before) & (move.t > 0)
    z = jnp.where(led, before - now, -1.0)
    second, third = _phi(z, 2), _phi(z, 3)
    slope = x0 - move.x0_before
    # Of a first step, which had none before it, the corrector is of order 1.
    one = before == earlier
    ratio = jnp.where(one, -1.0, (before - earlier) / z)
    slope_before = jnp.where(one, 0, (move.x0_earlier - move.x0_before) / ratio)
    weight_before = (second - 2 * third) / (1 - ratio)
    weight = jnp.where(one, jnp.expm1(z) / 2, second - weight_before)
    change = (weight_before - jnp.expm1(z) / 2) * slope_before + weight * slope
    return jnp.where(led, -process.scales(move.t)[0] * change, 0)


def _phi(z: jax.Array, k: int) -> jax.Array:
    """What remains of the series of `exp(z)` after k terms, divided by `z^(k - 1)`; z is 0 or less."""
    near = jnp.maximum(z, -1.0)  # where the terms would cancel
    series = sum(near ** (n - k + 1) / math.factorial(n) for n in range(k, k + 9))
    far = jnp.minimum(z, -1.0)
    rest = jnp.exp(far) - sum(far**n / math.factorial(n) for n in range(k))
    return jnp.where(z > -1, series, rest / far ** (k - 1))


def _flow(denoise: Denoiser, process: Process, x: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The derivative of x_t with respect to `Process.position`, and the x0 it is made of."""
    x0 = denoise(x, t).x0
    return from_x0(process.tangent, process, x0, x, t), x0

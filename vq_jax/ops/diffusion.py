"""Diffusion: how data becomes noise over a time from 0 (data) to 1 (noise), and what a network is asked.

At time t an example is `x_t = alpha x_0 + sigma noise`. A schedule says how the log signal-to-noise ratio
`log(alpha^2 / sigma^2)` falls with t (Kingma et al. 2021, arXiv:2107.00630); a path says which alpha and
sigma have that ratio. A network predicts some mixture `p x_0 + q noise`, from which, with x_t, both follow.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.errors import UserError, on_device

# Where all schedules begin and, negative, end at the latest. At this ratio a byte can be read from its
# noisy value nearly without error: 13.3 is that of Kingma et al. 2021, appendix B.
LOG_SNR_LIMIT = 13.3
# What a step takes away at least, so that variances have logarithms: far below what float32 tells of steps
# that lead somewhere (1e-6), and far above its smallest number.
_LEAST_LOST = 1e-20

MOST_TIMESTEPS = 2**20  # of more, float32 loses how the ratio falls from one to the next

PathName = Literal['variance_preserving', 'straight']
Weighting = Literal['uniform', 'min_snr', 'bound']


def _fit(betas: np.ndarray) -> tuple[float, ...]:
    """The polynomial through `-log(alpha^2) / t` of the betas of n published steps.

    They, or their square roots, rise along a line, so that it is one but for terms below float32.
    """
    n = len(betas)
    decay = -np.cumsum(np.log1p(-betas)) * n / np.arange(1, n + 1)
    return tuple(map(float, np.polyfit(np.arange(1, n + 1) / n, decay, 5, w=1 / decay)))


_LINEAR = _fit(np.linspace(1e-4, 0.02, 1000))
_SCALED_LINEAR = _fit(np.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2)


def linear(t: jax.Array) -> jax.Array:
    """Ho et al. 2020 (arXiv:2006.11239), section 4: betas from 1e-4 to 0.02 in 1,000 steps.

    Exact at their times, i / 1000, and smooth in between.
    """
    return _of_betas(_LINEAR, t)


def scaled_linear(t: jax.Array) -> jax.Array:
    """That of latent diffusion (Rombach et al. 2022, arXiv:2112.10752), as in its code.

    Of 1,000 steps, whose betas have square roots that rise evenly, from 0.0015 to 0.0195. Exact at their
    times, i / 1000, and smooth in between.
    """
    return _of_betas(_SCALED_LINEAR, t)


def _of_betas(fitted: tuple[float, ...], t: jax.Array) -> jax.Array:
    decay = t * jnp.polyval(jnp.asarray(fitted, jnp.float32), t)
    return -jnp.log(jnp.expm1(decay))


def cosine(t: jax.Array) -> jax.Array:
    """Nichol and Dhariwal 2021 (arXiv:2102.09672), equation 17, with their offset of 0.008."""
    offset = 0.008
    since = t / (1 + offset) * math.pi / 2
    start = offset / (1 + offset) * math.pi / 2
    # 1 - cos^2(start + since) / cos^2(start) is sin(since) sin(since + 2 start) / cos^2(start).
    noise = jnp.log(jnp.sin(since)) + jnp.log(jnp.sin(since + 2 * start))
    return 2 * jnp.log(jnp.maximum(jnp.cos(since + start), 1e-6)) - noise


def straight(t: jax.Array) -> jax.Array:
    """That of flow matching, `x_t = (1 - t) x_0 + t noise` (Lipman et al. 2023, arXiv:2210.02747)."""
    return 2 * (jnp.log1p(-jnp.minimum(t, 1 - 1e-6)) - jnp.log(t))


def log_linear(t: jax.Array) -> jax.Array:
    """From 13.3 evenly down to -5, what Kingma et al. 2021 (arXiv:2107.00630), appendix B, start with.

    The squared error of the noise, evenly over time, is then the variational bound but for a factor.
    """
    return LOG_SNR_LIMIT - t * (LOG_SNR_LIMIT + 5)


SCHEDULES: dict[str, Callable[[jax.Array], jax.Array]] = {
    f.__name__: f for f in (linear, scaled_linear, cosine, straight, log_linear)
}
ScheduleName = Literal[*SCHEDULES]


_Number = jax.Array | float
# The factors p and q [...] of the mixture `p x_0 + q noise` that is predicted, by alpha and sigma.
PREDICTIONS: dict[str, Callable[[jax.Array, jax.Array], tuple[_Number, _Number]]] = {
    'noise': lambda alpha, sigma: (0.0, 1.0),
    'x0': lambda alpha, sigma: (1.0, 0.0),
    'v': lambda alpha, sigma: (-sigma, alpha),  # Salimans and Ho 2022 (arXiv:2202.00512), appendix D
    'velocity': lambda alpha, sigma: (-1.0, 1.0),  # of flow matching
}
PredictionName = Literal[*PREDICTIONS]

# What a network is told of times [b], by the number of discrete times: numbers whose sinusoids have
# wavelengths from 2 pi to 20,000 pi.
CLOCKS: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    'thousandths': lambda t, timesteps: 1000 * t,
    'steps': lambda t, timesteps: timesteps * t - 1,
    'from_noise': lambda t, timesteps: 1 - t,
}
ClockName = Literal[*CLOCKS]


@dataclasses.dataclass(frozen=True)
class Process:
    """The forward process.

    Attributes:
        schedule: the course of the log signal-to-noise ratio.
        path: 'variance_preserving' has `alpha^2 + sigma^2 = 1`, 'straight' has `alpha + sigma = 1`.
        shift: noise is this many times as strong beside the signal as the schedule says. Images n
            times as wide as those a schedule was made for need a shift of n, because neighbouring
            pixels tell of each other (Hoogeboom et al. 2023, arXiv:2301.11093, section 3.1); for the
            straight path, it is the shift of Esser et al. 2024 (arXiv:2403.03206), section 5.3.2.
        timesteps: of discrete time, whose times are 1/n, 2/n to 1; 0 for continuous time.
    """

    schedule: ScheduleName = 'cosine'
    path: PathName = 'variance_preserving'
    shift: float = 1.0
    timesteps: int = 0

    def __post_init__(self) -> None:
        if not on_device('shift', self.shift) > 0:
            raise UserError(f'shift is {self.shift}; give a number above 0.')
        if self.timesteps > MOST_TIMESTEPS:
            raise UserError(
                f'timesteps is {self.timesteps}, more than single precision tells apart; give '
                f'{MOST_TIMESTEPS} or fewer, or 0 for continuous time.'
            )
        if self.timesteps < 0 or self.timesteps == 1:
            raise UserError(f'timesteps is {self.timesteps}; give 2 or more, or 0 for continuous time.')

    def log_snr(self, t: jax.Array) -> jax.Array:
        """`log(alpha^2 / sigma^2)` at times [...] from 0 to 1; it falls with time."""
        ratio = SCHEDULES[self.schedule](jnp.maximum(t, 1e-7))  # where it is finite, but beyond the limit
        return jnp.clip(ratio - 2 * math.log(self.shift), -LOG_SNR_LIMIT, LOG_SNR_LIMIT)

    def time(self, log_snr: jax.Array) -> jax.Array:
        """The inverse of `log_snr`, by bisection; the nearest end for ratios that no time has."""

        def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bounds
            middle = (low + high) / 2
            early = self.log_snr(middle) > log_snr
            return jnp.where(early, middle, low), jnp.where(early, high, middle)

        ends = jnp.zeros_like(log_snr), jnp.ones_like(log_snr)
        low, high = jax.lax.fori_loop(0, 40, halve, ends)
        t = (low + high) / 2
        t = jnp.where(log_snr <= self.log_snr(jnp.ones_like(t)), 1.0, t)
        return jnp.where(log_snr >= self.log_snr(jnp.zeros_like(t)), 0.0, t)

    def scales(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Alpha and sigma at times [...]."""
        return self.scales_of(self.log_snr(t))

    def scales_of(self, log_snr: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Alpha and sigma of log signal-to-noise ratios [...]."""
        if self.path == 'straight':
            return jax.nn.sigmoid(log_snr / 2), jax.nn.sigmoid(-log_snr / 2)
        return jnp.sqrt(jax.nn.sigmoid(log_snr)), jnp.sqrt(jax.nn.sigmoid(-log_snr))

    def position(self, t: jax.Array) -> jax.Array:
        """How far along the path times [...] are: an angle up to pi/2, or sigma on the straight path.

        The derivative of x_t with respect to it is `v`, or `velocity` on the straight path.
        """
        return self.position_of(self.log_snr(t))

    def position_of(self, log_snr: jax.Array) -> jax.Array:
        """The `position` of log signal-to-noise ratios [...]."""
        if self.path == 'straight':
            return jax.nn.sigmoid(-log_snr / 2)
        return jnp.arctan(jnp.exp(-log_snr / 2))

    def log_snr_of(self, position: jax.Array) -> jax.Array:
        """The inverse of `position_of`."""
        if self.path == 'straight':
            return 2 * (jnp.log1p(-position) - jnp.log(position))
        return -2 * jnp.log(jnp.tan(position))

    @property
    def tangent(self) -> PredictionName:
        """The name of the derivative of x_t with respect to `position`."""
        return 'velocity' if self.path == 'straight' else 'v'

    def diffuse(self, x0: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
        """A sample of q(x_t | x_0): data and standard normal noise [b ...] at times [b]."""
        alpha, sigma = self.scales(spread(t, x0))
        return alpha * x0 + sigma * noise

    def diffuse_on(self, x: jax.Array, noise: jax.Array, s: jax.Array, t: jax.Array) -> jax.Array:
        """A sample of q(x_t | x_s): examples of times s [b], with noise [b ...], at later times t [b]."""
        (alpha_s, _), (alpha_t, _) = (self.scales(spread(time, x)) for time in (s, t))
        return alpha_t / alpha_s * x + jnp.sqrt(self.added_variance(spread(s, x), spread(t, x))) * noise

    def lost(self, s: jax.Array, t: jax.Array) -> jax.Array:
        """The share of the signal-to-noise ratio at times s [...] that is gone at times t >= s.

        It is `1 - SNR(t) / SNR(s)`, in the terms of Kingma et al. 2021, appendix A, the share that
        `sigma_{t|s}^2` has of `sigma_t^2`. It is never quite 0: of equal times, and of neighbours beyond
        the limit of the ratio, it is so small that a step adds nothing, but its variance has a logarithm.
        """
        return jnp.maximum(-jnp.expm1(self.log_snr(t) - self.log_snr(s)), _LEAST_LOST)

    def added_variance(self, s: jax.Array, t: jax.Array) -> jax.Array:
        """The variance of q(x_t | x_s) for s <= t; in the terms of Ho et al. 2020, beta."""
        _, sigma = self.scales(t)
        return jnp.square(sigma) * self.lost(s, t)

    def decoder_variance(self) -> jax.Array:
        """The variance with which data are decoded from the first of discrete times: of the second step.

        There is no posterior of the first step to take it from; Ho et al. 2020 and Nichol and Dhariwal
        2021 (arXiv:2102.09672) do the same in their code.
        """
        first = jnp.asarray(1 / self.timesteps)
        return jnp.square(self.scales(first)[1]) * self.lost(first, 2 * first)

    def posterior(
        self, x0: jax.Array, x: jax.Array, s: jax.Array, t: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and variance of q(x_s | x_t, x_0) for s <= t (Ho et al. 2020, equations 6 and 7).

        Of data, or what a network takes for it, and x_t [b ...] at times [b]. The variance is of a shape that
        broadcasts to the mean [b ...].
        """
        s, t = spread(s, x), spread(t, x)
        (alpha_s, sigma_s), (alpha_t, _) = self.scales(s), self.scales(t)
        left, lost = jnp.exp(self.log_snr(t) - self.log_snr(s)), self.lost(s, t)
        return alpha_s / alpha_t * left * x + alpha_s * lost * x0, jnp.square(sigma_s) * lost


def target(name: str, process: Process, x0: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """What a network of a kind of prediction should return, for data and noise [b ...] at times [b]."""
    p, q = PREDICTIONS[name](*process.scales(spread(t, x0)))
    return p * x0 + q * noise


def to_x0(name: str, process: Process, prediction: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """The data [b ...] that a prediction [b ...] of a kind means, at x_t [b ...] and times [b]."""
    alpha, sigma = process.scales(spread(t, x))
    p, q = PREDICTIONS[name](alpha, sigma)
    return (q * x - sigma * prediction) / (alpha * q - sigma * p)


def from_x0(name: str, process: Process, x0: jax.Array, x: jax.Array, t: jax.Array) -> jax.Array:
    """The prediction [b ...] of a kind that means the data x0 [b ...], at x_t [b ...] and times [b]."""
    alpha, sigma = process.scales(spread(t, x))
    p, q = PREDICTIONS[name](alpha, sigma)
    return p * x0 + q * (x - alpha * x0) / sigma


def loss_weight(
    weighting: Weighting, name: str, process: Process, t: jax.Array, gamma: float = 5.0
) -> jax.Array:
    """The weight [b] of the squared error of a kind of prediction at times [b].

    'uniform' is 1, the simple loss of Ho et al. 2020 for the noise; 'min_snr' weighs the error of x0 by the
    signal-to-noise ratio, up to gamma (Hang et al. 2023, arXiv:2303.09556); 'bound' makes the expectation
    over even times the diffusion term of the variational bound, in nats (Kingma et al. 2021, equation 17; of
    discrete time equation 13, whose first step counts with the squared error of a normal decoder, see
    `Process.decoder_variance`).
    """
    if weighting == 'uniform':
        return jnp.ones_like(t)
    alpha, sigma = process.scales(t)
    p, q = PREDICTIONS[name](alpha, sigma)
    # An error of the prediction is this many times as large as one of x0.
    scale = jnp.square((alpha * q - sigma * p) / sigma)
    snr = jnp.exp(process.log_snr(t))
    if weighting == 'min_snr':
        return jnp.minimum(snr, gamma) / scale
    n = process.timesteps
    if n:
        fall = jnp.exp(process.log_snr(t - 1 / n)) - snr
        fall = jnp.where(t * n < 1.5, 1 / process.decoder_variance(), fall)
        return 0.5 * n * fall / scale
    slope = jax.vmap(jax.grad(process.log_snr))(t)
    return -0.5 * slope * snr / scale


def interpolated_log_variance(share: jax.Array, process: Process, s: jax.Array, t: jax.Array) -> jax.Array:
    """A learned log variance of x_s given x_t at later times (Nichol and Dhariwal 2021, equation 15).

    The share [b ...] is where it lies from that of the posterior (0) to that of a forward step (1).
    """
    s, t = spread(s, share), spread(t, share)
    most = jnp.log(process.added_variance(s, t))
    least = jnp.log(jnp.square(process.scales(s)[1]) * process.lost(s, t))
    return share * most + (1 - share) * least


def spread(t: jax.Array, like: jax.Array) -> jax.Array:
    """Numbers of examples, [b] or [], in a shape that broadcasts to [b ...]."""
    return t.reshape(t.shape + (1,) * (like.ndim - t.ndim)) if t.ndim else t

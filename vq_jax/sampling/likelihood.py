"""How probable data of any rank are to a diffusion model: the variational bound, and the flow's likelihood.

Like samplers, both take a denoiser and know nothing of the network. The process is that which it was trained
on, and random keys are one for each example [b].
"""

import chex
import jax
import jax.numpy as jnp

from vq_jax.ops import gaussians, likelihoods
from vq_jax.ops.diffusion import Process, from_x0, interpolated_log_variance
from vq_jax.ops.keys import fold_in, normal
from vq_jax.ops.losses import sum_each
from vq_jax.sampling.diffusion import Denoised, Denoiser, VarianceName


@chex.dataclass(frozen=True)
class Bound:
    """The parts of an upper bound of the negative log-likelihood, in nats.

    Attributes:
        prior: what is left of the data when all noise is added [b].
        diffusion: over all noise levels from the least to the most, in equal parts [b n]; their sum
            is the diffusion loss.
        decoder: of the bytes, given the least noisy example [b].
    """

    prior: jax.Array
    diffusion: jax.Array
    decoder: jax.Array


def bound(
    denoise: Denoiser,
    process: Process,
    keys: jax.Array,
    x0: jax.Array,
    n: int,
    variance: VarianceName = 'posterior',
) -> Bound:
    """The variational bound of bytes.

    In discrete time that of Ho et al. 2020 (arXiv:2006.11239), equation 5, where the network decodes the
    first step (see `decoder_log_likelihood`); in continuous time that of Kingma et al. 2021
    (arXiv:2107.00630), equations 11 to 17, where the least noisy example is decoded as it is.

    Each example, bytes brought to [-1, 1] [b ...], is measured at n times: the noise levels are split into as
    many equal parts, and each gives one uniform time, so that the sum is right on average. In discrete time
    with timesteps - 1 or more, each time is measured once. The variance is that of the model's steps of
    discrete time (see `step_divergence`); the decoder, and continuous time, do not have it.
    """
    if process.timesteps:
        n = min(n, process.timesteps - 1)
    ends = process.log_snr(jnp.zeros(())), process.log_snr(jnp.ones(()))

    def part(i: jax.Array) -> jax.Array:
        own = fold_in(keys, i)
        noise, offset = normal(own, x0.shape[1:]), jax.vmap(jax.random.uniform)(fold_in(own, 0))
        share = (i + offset) / n
        if not process.timesteps:
            log_snr = ends[0] + share * (ends[1] - ends[0])
            t = process.time(log_snr)
            error = sum_each(jnp.square(x0 - denoise(process.diffuse(x0, noise, t), t).x0))
            return 0.5 * (ends[0] - ends[1]) / n * jnp.exp(log_snr) * error
        steps = process.timesteps - 1
        # From 2 to timesteps. Of all times, rounding must not take one twice.
        number = jnp.minimum(jnp.floor(share * steps), steps - 1) + 2
        if n == steps:
            number = jnp.full(len(x0), i + 2.0)
        t = number / process.timesteps
        x = process.diffuse(x0, noise, t)
        return steps / n * step_divergence(denoise(x, t), process, x0, x, t, variance)

    diffusion = jax.lax.map(part, jnp.arange(n)).T
    alpha, sigma = process.scales(jnp.ones(()))
    prior = sum_each(gaussians.kl_to_standard(alpha * x0, 2 * jnp.log(sigma)))

    first = jnp.full(len(x0), 1 / process.timesteps if process.timesteps else 0.0)
    x = process.diffuse(x0, normal(fold_in(keys, n), x0.shape[1:]), first)
    if process.timesteps:
        decoder = -decoder_log_likelihood(denoise(x, first), process, x0)
    else:
        alpha, sigma = process.scales(first[0])
        decoder = -likelihoods.discretised_gaussian(x0, x / alpha, jnp.log(sigma / alpha))
    return Bound(prior=prior, diffusion=diffusion, decoder=decoder)


def decoder_log_likelihood(denoised: Denoised, process: Process, x0: jax.Array) -> jax.Array:
    """The log-probability of bytes given x at the first of discrete times, in nats [b].

    Bytes are brought to [-1, 1] [b ...]. Ho et al. 2020 (arXiv:2006.11239), equation 13. A variance that the
    network learned lies between that of `Process.decoder_variance` and that of the first step (Nichol and
    Dhariwal 2021).
    """
    log_variance, share = jnp.log(process.decoder_variance()), denoised.variance_share
    if share is not None:
        _, sigma = process.scales(jnp.asarray(1 / process.timesteps))
        log_variance = share * 2 * jnp.log(sigma) + (1 - share) * log_variance
    return likelihoods.discretised_gaussian(x0, denoised.x0, log_variance / 2)


def step_divergence(
    denoised: Denoised,
    process: Process,
    x0: jax.Array,
    x: jax.Array,
    t: jax.Array,
    variance: VarianceName = 'posterior',
) -> jax.Array:
    """The divergence of a model's step of discrete time from q(x_s | x_t, x_0), in nats [b].

    Of data and x_t [b ...], at times from 2 / timesteps on [b]; a step is 1 / timesteps. The variance of the
    model's step, if the network has not learned it, is a choice of the model (Ho et al. 2020, section 3.2),
    and that of its samplers.
    """
    s = t - 1 / process.timesteps
    mean, least = process.posterior(x0, x, s, t)
    model_mean, _ = process.posterior(denoised.x0, x, s, t)
    share = denoised.variance_share
    if share is None:
        share = jnp.full_like(x, variance == 'forward')
    model_log_variance = interpolated_log_variance(share, process, s, t)
    return sum_each(gaussians.kl(mean, jnp.log(least), model_mean, model_log_variance))


def flow_log_likelihood(
    denoise: Denoiser, process: Process, keys: jax.Array, x0: jax.Array, steps: int, probes: int = 1
) -> jax.Array:
    """The log-density of data under the probability flow (Song et al. 2021, arXiv:2011.13456, section 4.3).

    The flow is followed from data to noise by Heun's method, in even steps of the log signal-to-noise ratio.
    The divergence of its field is estimated without bias (Hutchinson 1989), with signs as probes, which are
    kept on the way; of so many probes the estimates are averaged. The denoiser must be differentiable with
    respect to its input, and data that are bytes [b ...] be spread evenly over their level. In nats [b].
    """
    ends = process.log_snr(jnp.zeros(())), process.log_snr(jnp.ones(()))
    step = (ends[1] - ends[0]) / steps

    sign = jax.vmap(lambda key: jax.random.rademacher(key, x0.shape[1:], jnp.float32))
    signs = [sign(fold_in(keys, i)) for i in range(probes)]

    def field(x: jax.Array, log_snr: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The derivative of x with respect to the log signal-to-noise ratio, and its divergence."""
        t = jnp.full(len(x), process.time(log_snr))
        alpha, sigma = process.scales_of(log_snr)

        def slope(x: jax.Array) -> jax.Array:
            # Of `position` it is -alpha sigma / 2, on both paths.
            return -0.5 * alpha * sigma * from_x0(process.tangent, process, denoise(x, t).x0, x, t)

        value, pullback = jax.vjp(slope, x)
        return value, sum(sum_each(pullback(v)[0] * v) for v in signs) / probes

    def advance(carry: tuple[jax.Array, jax.Array], i: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        x, change = carry
        slope, divergence = field(x, ends[0] + i * step)
        after, divergence_after = field(x + step * slope, ends[0] + (i + 1) * step)
        x = x + step * (slope + after) / 2
        return (x, change + step * (divergence + divergence_after) / 2), None

    alpha, _ = process.scales(jnp.zeros(()))
    start = alpha * x0, x0[0].size * jnp.full(len(x0), jnp.log(alpha))
    (x, change), _ = jax.lax.scan(advance, start, jnp.arange(steps))
    return sum_each(gaussians.log_density(x, 0.0, 0.0)) + change

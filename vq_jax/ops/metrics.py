"""What is reported of a model but not learned from, one number for each example."""

import jax
import jax.numpy as jnp

from vq_jax.ops.frames import each_frame
from vq_jax.ops.images import to_float
from vq_jax.ops.losses import mean_square
from vq_jax.ops.similarity import WINDOW, ssim
from vq_jax.ops.spectral_distances import MEL_DISTANCE, STFT_DISTANCE
from vq_jax.spec import Spec


def snr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Signal-to-noise ratio of sounds x that stand for y, int16 [b ...], in decibels, float32 [b].

    `10 log10(sum(y^2) / sum((y - x)^2))`, over all values of an example: 0 is no better than silence. Both
    sums are at least 1, so that a mean over a data set stays finite.
    """
    power, error = (jnp.maximum(mean_square(y, other), 1 / y[0].size) for other in (jnp.zeros_like(y), x))
    return 10 * jnp.log10(power / error)


def si_sdr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Scale-invariant signal-to-distortion ratio of sounds x that stand for y, int16 [b ...], in decibels.

    `10 log10(|a y|^2 / |x - a y|^2)` with a the factor that makes the distortion least, of values without
    their mean, float32 [b]: Le Roux et al. 2019 (arXiv:1811.02508), equation 5. The distortion of a whole
    example is at least one step of the integers, and 1e-8 is added to the ratio, so that a mean over a data
    set stays finite: silence has -80 dB.
    """
    x, y = (v.reshape(len(v), -1).astype(jnp.float32) for v in (x, y))
    x, y = (v - jnp.mean(v, 1, keepdims=True) for v in (x, y))
    scale = jnp.sum(x * y, 1) / jnp.maximum(jnp.sum(jnp.square(y), 1), 1.0)
    target = scale[:, None] * y
    distortion = jnp.maximum(jnp.sum(jnp.square(x - target), 1), 1.0)
    return 10 * jnp.log10(jnp.sum(jnp.square(target), 1) / distortion + 1e-8)


def sound_metrics(x: jax.Array, y: jax.Array, rate: float | None) -> dict[str, jax.Array]:
    """How well sounds x stand for y, int16 [b t c], of so many samples in a second, each float32 [b].

    Returns:
        'snr' and 'si_sdr' in decibels, 'stft_distance', and if the rate is known 'mel_distance' (see
        `vq_jax.ops.spectral_distances`).
    """
    pair = to_float(x), to_float(y)
    found = {'snr': snr(x, y), 'si_sdr': si_sdr(x, y), 'stft_distance': STFT_DISTANCE(*pair, rate)}
    return found if rate is None else {**found, 'mel_distance': MEL_DISTANCE(*pair, rate)}


def reconstruction_metrics(x: jax.Array, y: jax.Array, spec: Spec) -> dict[str, jax.Array]:
    """How well examples x stand for y, integers as the spec says [b ...]: each float32 [b].

    Returns:
        Of sound, most of which is far from its peak, `sound_metrics`; of video `video_metrics`; else 'psnr'.
    """
    if spec.kind == 'audio':
        return sound_metrics(x, y, spec.rate)
    return video_metrics(x, y) if spec.kind == 'video' else {'psnr': psnr(x, y)}


def video_metrics(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """How well videos x stand for y, uint8 [b t h w c]: means over their frames, each float32 [b].

    Returns:
        'psnr' in decibels, and of frames in which its window has room 'ssim'.
    """
    return {name: jnp.mean(of_frames, 1) for name, of_frames in frame_metrics(x, y).items()}


def frame_metrics(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """How well each frame of videos x stands for that of y, uint8 [b t h w c]: each float32 [b t].

    Returns:
        As of `video_metrics`.
    """
    found = {'psnr': each_frame(psnr, x, y)}
    if min(x.shape[2:4]) >= WINDOW:
        found['ssim'] = each_frame(ssim, to_float(x), to_float(y))
    return found


def squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """The sum over the values of images, uint8 [n h w c], of squared differences in [0, 1], float32 [n].

    Of frames of Moving MNIST, its mean is what is published as MSE (as by Wang et al. 2017, PredRNN).
    """
    return mean_square(x, y) * (x[0].size / 255**2)


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio of pairs of examples, uint8 or int16 [b ...], in decibels, float32 [b].

    `10 log10(L^2 / MSE)` with L the range of the integers, 255 of bytes, as in Wang and Bovik 2009 (Mean
    squared error: love it or leave it?). Equal examples, whose ratio is infinite, are given that of a
    difference of one in one of their values, so that a mean over a data set stays finite.
    """
    error = jnp.maximum(mean_square(x, y), 1 / x[0].size)
    span = float(jnp.iinfo(x.dtype).max) - jnp.iinfo(x.dtype).min
    return 20 * jnp.log10(span) - 10 * jnp.log10(error)

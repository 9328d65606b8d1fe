"""How far spectra of sounds are apart, as published codecs are trained and measured: a number an example.

A `SpectralDistance` is one of the named ones below, or one of your own; sounds are [b t c] in [-1, 1].
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from vq_jax.ops.losses import mean_each
from vq_jax.ops.stft import MelScale, Padding, in_mel_bands, magnitude, stft


@dataclasses.dataclass(frozen=True)
class SpectralDistance:
    """The sum over several windows of the differences of spectra, and of their logarithms.

    Each hop is a quarter of its window. Differences are means over frames, bins or bands, and channels.

    Attributes:
        windows: samples of each.
        bands: mel bands of each; empty for the bins of the transform themselves.
        mel_scale: see `vq_jax.ops.stft.mel_filters`.
        low: where the first band begins, in Hz.
        power: of the magnitude, which is then summed in bands.
        padding: see `vq_jax.ops.stft.stft`, as for `normalised`.
        normalised: spectra are divided by the root of the sum of the squares of the window.
        floor: of what a logarithm is taken.
        floor_by: whether what is lower is raised to it, or it is added to all.
        log_factor: of the logarithms, to base 10.
        log_error: of the logarithms: the absolute or the squared difference.
        linear_weight: of the absolute differences without logarithm; 0 leaves them out.
        weight: of the whole.
    """

    windows: tuple[int, ...]
    bands: tuple[int, ...] = ()
    mel_scale: MelScale = 'slaney'
    low: float = 0.0
    power: int = 1
    padding: Padding = 'centre'
    normalised: bool = False
    floor: float = 1e-5
    floor_by: Literal['clipping', 'adding'] = 'clipping'
    log_factor: float = 1.0
    log_error: Literal['l1', 'mse'] = 'l1'
    linear_weight: float = 0.0
    weight: float = 1.0

    def __call__(self, x: jax.Array, y: jax.Array, rate: float | None) -> jax.Array:
        """The distance of sounds [b t c] of so many samples in a second, float32 [b].

        The rate is read for mel bands alone.
        """
        total = jnp.zeros(len(x))
        for i in range(len(self.windows)):
            a, b = (self._spectra(sound, i, rate) for sound in (x, y))
            error = jnp.abs if self.log_error == 'l1' else jnp.square
            total += mean_each(error(self.log_factor * (self._log(a) - self._log(b))))
            if self.linear_weight:
                total += self.linear_weight * mean_each(jnp.abs(a - b))
        return self.weight * total

    def _spectra(self, x: jax.Array, i: int, rate: float | None) -> jax.Array:
        """Magnitudes, or bands of them [b frames n c], with the window of a number."""
        window = self.windows[i]
        spectrum = stft(x, window, window // 4, self.padding, normalised=self.normalised)
        size = (
            magnitude(spectrum) if self.power == 1 else jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        )
        if not self.bands:
            return size
        return in_mel_bands(size, rate, self.bands[i], self.low, self.mel_scale)

    def _log(self, size: jax.Array) -> jax.Array:
        return jnp.log10(jnp.maximum(size, self.floor) if self.floor_by == 'clipping' else size + self.floor)


# Kumar et al. 2023 (arXiv:2306.06546), section 3.4, as the published code of descript-audio-codec trains.
DAC_MEL = SpectralDistance((32, 64, 128, 256, 512, 1024, 2048), (5, 10, 20, 40, 80, 160, 320))
# Of the published code of audiocraft for EnCodec (Défossez et al. 2022, arXiv:2210.13438, equation 2):
# windows from 64 to 1,024, powers in 64 bands, and both errors of all windows averaged.
ENCODEC_MEL = SpectralDistance(
    windows=(64, 128, 256, 512, 1024),
    bands=(64,) * 5,
    mel_scale='htk',
    low=64.0,
    power=2,
    padding='stride',
    normalised=True,
    floor_by='adding',
    log_error='mse',
    linear_weight=1.0,
    weight=1 / 10,
)
# What sound is measured with by the published code of descript-audio-codec, the defaults of audiotools:
# differences of log10 of squares and of magnitudes.
MEL_DISTANCE = SpectralDistance((2048, 512), (150, 80), log_factor=2.0, linear_weight=1.0)
STFT_DISTANCE = SpectralDistance((2048, 512), log_factor=2.0, linear_weight=1.0)

"""The spectral losses of sound that a config names."""

import dataclasses
from typing import Literal

import jax

from vq_jax.errors import UserError, check_least
from vq_jax.models.observation import expected
from vq_jax.ops.spectral_distances import DAC_MEL, ENCODEC_MEL, STFT_DISTANCE, SpectralDistance
from vq_jax.spec import Spec
from vq_jax.tasks.losses import OutputLoss

_MEL = {'dac': DAC_MEL, 'encodec': ENCODEC_MEL}


@dataclasses.dataclass(frozen=True)
class Spectral:
    """Losses between spectra of sounds and of their reconstructions.

    Attributes:
        mel: over mel bands and windows as the published code of descript-audio-codec or of EnCodec has it
            (see `vq_jax.ops.spectral_distances`).
        mel_weight: its weight; that of descript-audio-codec is 15.
        stft_weight: of the distance of short-time Fourier transforms with windows of 2048 and 512, of
            magnitudes and of their logarithms; 0 leaves it out.
    """

    mel: Literal['none', 'dac', 'encodec'] = 'none'
    mel_weight: float = 15.0
    stft_weight: float = 0.0

    def __post_init__(self) -> None:
        check_least(0, self, 'mel_weight', 'stft_weight')

    def losses(self, spec: Spec) -> tuple[OutputLoss, ...]:
        """Those that have a weight, for examples of a spec.

        Raises:
            UserError: if these are no sounds, or their rate is not known and has to be.
        """
        losses = []
        if self.mel != 'none' and self.mel_weight:
            losses.append(_loss('mel_loss', self.mel_weight, _MEL[self.mel], spec))
        if self.stft_weight:
            losses.append(_loss('stft_loss', self.stft_weight, STFT_DISTANCE, spec))
        if losses and spec.kind != 'audio':
            raise UserError(
                f'config.spectral compares sounds, and these are {spec.plural}; set mel to none and '
                'stft_weight to 0.'
            )
        if self.mel != 'none' and spec.rate is None:
            raise UserError(
                'config.spectral.mel needs to know how many samples a second has, and the data does not say; '
                'set config.data.sample_rate, or mel to none.'
            )
        return tuple(losses)


def _loss(name: str, weight: float, distance: SpectralDistance, spec: Spec) -> OutputLoss:
    def difference(outputs: object, x: jax.Array, _: object) -> jax.Array:
        return distance(expected(outputs), x, spec.rate)

    return OutputLoss(name, weight, difference)

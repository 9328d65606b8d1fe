"""From stored sound to the array that the model is given: mono, of one rate and one length."""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np

from vq_jax.data.config import MOST_SAMPLES, DataConfig
from vq_jax.data.source import Source
from vq_jax.data.transforms.transform import Transform, Undecodable, window
from vq_jax.errors import UserError
from vq_jax.files import read_file, telling
from vq_jax.media import wav
from vq_jax.spec import Spec

_RANGE = np.iinfo(np.int16)

# A sound that a user gives: the path or the content of a WAV file, or an array of the model's rate, int16 [t]
# or [t c].
SoundLike = bytes | str | Path | np.ndarray


class AudioTransform(Transform):
    """Decodes, mixes the channels into one, resamples, and pads or crops to a number of samples.

    Silence is added at the end. A random crop of training is a stretch at a random position, and evaluation
    sees the middle.
    """

    noun: ClassVar[str] = 'recording'
    keys: ClassVar[tuple[str, ...]] = ('audio_key', 'channels', 'num_samples', 'sample_rate', 'random_crop')
    suffixes: ClassVar[tuple[str, ...]] = ('.wav',)
    file_shape: ClassVar[tuple[int | None, ...]] = (None, 1)

    def __init__(self, config: DataConfig, source: Source) -> None:
        if config.channels not in (None, 1):
            raise UserError(
                f'config.data.channels is {config.channels}, and sound is mixed into one: use 1 or None.'
            )
        self._num_samples, self._rate = config.num_samples, config.sample_rate
        self.varied = config.random_crop
        self.uniforms = int(config.random_crop)
        rate = config.sample_rate or source.rate
        if config.num_samples and rate:
            self.spec = Spec('audio', (config.num_samples, 1), float(rate))

    def measure(self, stored: bytes | tuple[np.ndarray, float | None], name: str) -> Spec:
        """See `Transform`; where no length is asked for, it is that of this recording."""
        samples, rate = self._resampled(stored, name)
        return Spec('audio', (self._num_samples or len(samples), 1), rate and float(rate))

    def decode(self, stored: bytes | tuple[np.ndarray, float | None], name: str) -> np.ndarray:
        """See `Transform`; int16 [n 1]."""
        samples, rate = self._resampled(stored, name)
        if rate != self.spec.rate:
            raise UserError(
                f'{name} has {rate:g} samples a second, not {self.spec.rate:g} as the others: set '
                'config.data.sample_rate to bring all recordings to one rate.'
            )
        length = self.spec.shape[0]
        if self._num_samples is None:
            if len(samples) != length:
                raise UserError(
                    f'{name} has {len(samples):,} samples, not {length:,} as the others: set '
                    'config.data.num_samples to bring all recordings to one length.'
                )
            return samples
        samples = np.pad(samples, ((0, max(0, length - len(samples))), (0, 0)))
        return samples if self.varied else window(samples, (length,))

    def augment(self, values: list[np.ndarray], uniforms: np.ndarray) -> np.ndarray:
        """Cuts a stretch out of each, int16 [b n 1]."""
        sizes = self.spec.grid
        return np.stack([window(value, sizes, share) for value, share in zip(values, uniforms, strict=True)])

    @staticmethod
    def prepare(
        file: SoundLike, mask: None, spec: Spec, config: DataConfig
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Transform`; a sound has no mask that could be read."""
        if mask is not None:
            raise UserError(
                'a mask is read for images alone; of sound, give one to inpaint, bool [t], True where it is '
                'sampled anew.'
            )
        samples, rate = read_file_or_array(file)
        samples, length = mono(samples), spec.shape[0]
        if rate and spec.rate:
            try:
                samples = resample(samples, rate, round(spec.rate))
            except Undecodable as error:
                raise UserError(f'the sound cannot be taken ({error}); give a shorter one.') from error
        if config.num_samples is not None:
            samples = window(np.pad(samples, ((0, max(0, length - len(samples))), (0, 0))), (length,))
        if len(samples) != length:
            raise UserError(
                f'the sound has {len(samples):,} samples and the model was trained on {length:,}; give as '
                'many.'
            )
        return samples, None

    def _resampled(
        self, stored: bytes | tuple[np.ndarray, float | None], name: str
    ) -> tuple[np.ndarray, float | None]:
        """Returns one channel, int16 [n 1], of the rate that is asked for, and the rate."""
        samples, rate = read(stored)
        samples = mono(samples)
        if self._rate is None:
            return samples, rate
        if rate is None:
            raise UserError(f'{name} does not say its rate: leave config.data.sample_rate out.')
        return resample(samples, rate, self._rate), self._rate


def read_file_or_array(file: SoundLike) -> tuple[np.ndarray, float | None]:
    """Reads a sound that a user gives.

    Returns:
      int16 [n c], and samples in a second, if it says them.

    Raises:
      UserError: If it cannot be read or decoded.
    """
    given = None if isinstance(file, SoundLike) else f'of type {type(file).__name__}'
    if isinstance(file, np.ndarray) and (file.dtype != np.int16 or file.ndim not in (1, 2)):
        given = f'of shape {file.shape}' if file.dtype == np.int16 else f'{file.dtype}'
    if given:
        raise UserError(
            f'the sound is {given}; give a path, the content of a WAV file, or an array, int16 [t] or [t c].'
        )
    name = file if isinstance(file, str | Path) else 'the sound'
    with telling(f'{name} cannot be read', 'give a WAV file'):
        stored = read_file(Path(file)) if isinstance(file, str | Path) else file
    try:
        return read(stored if isinstance(stored, bytes) else (stored, None))
    except Undecodable as error:
        raise UserError(f'{name} cannot be decoded ({error}); give a WAV file.') from error


def read(stored: bytes | tuple[np.ndarray, float | None]) -> tuple[np.ndarray, float | None]:
    """Decodes the content of a WAV file, or integers [n] or [n c] in the range of 16 bits and their rate.

    Returns:
      int16 [n c], and samples in a second, if they are known.

    Raises:
      Undecodable: If it is neither, or too long.
    """
    if isinstance(stored, bytes):
        try:
            samples, rate = wav.read(stored)
        except ValueError as error:
            raise Undecodable(str(error)) from error
    else:
        samples, rate = stored
        if samples.size and not (_RANGE.min <= samples.min() and samples.max() <= _RANGE.max):
            raise Undecodable('it has samples out of the range of 16 bits')
        samples = samples.astype(np.int16)
        samples = samples[:, None] if samples.ndim == 1 else samples
    if not 0 < len(samples) <= MOST_SAMPLES:
        raise Undecodable(f'it has {len(samples):,} samples, not 1 to {MOST_SAMPLES:,}')
    return samples, rate


def mono(samples: np.ndarray) -> np.ndarray:
    """Returns the mean over the channels of int16 [n c], rounded to int16 [n 1]."""
    if samples.shape[1] == 1:
        return samples
    return np.rint(samples.mean(axis=1, keepdims=True)).astype(np.int16)


def resample(samples: np.ndarray, rate: float, wanted: int) -> np.ndarray:
    """Changes the rate of sound, a whole number: int16 [n c] to int16 [ceil(n wanted / rate) c].

    The filter against aliasing is SciPy's: a windowed sinc (Kaiser, beta 5) of the lower of the two bands.

    Raises:
      Undecodable: If the result would be too long.
    """
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly  # takes a third of a second

    common = math.gcd(wanted, int(rate))
    up, down = wanted // common, int(rate) // common
    if len(samples) * up > MOST_SAMPLES * down:
        raise Undecodable(f'{len(samples):,} samples are too many to be resampled from {rate} to {wanted}')
    changed = resample_poly(samples.astype(np.float64), up, down)
    return np.clip(np.rint(changed), _RANGE.min, _RANGE.max).astype(np.int16)

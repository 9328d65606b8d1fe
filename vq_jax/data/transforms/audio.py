"""From stored sound to the array that the model is given: of one rate and length, mono or stereo."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from vq_jax.data.config import MOST_SAMPLES, DataConfig
from vq_jax.data.source import Source
from vq_jax.data.transforms import loudness
from vq_jax.data.transforms.recordings import SUFFIXES, Recording, Stored, blocks, open_recording
from vq_jax.data.transforms.resampling import Resampling, as_int16, resample
from vq_jax.data.transforms.transform import Around, Transform, Undecodable, window
from vq_jax.errors import UserError
from vq_jax.files import read_file, telling
from vq_jax.spec import Spec

_RANGE = np.iinfo(np.int16)
_CLIPPED = 3  # samples of full scale in a row, which no wave that fits has
# A sound that a user gives: the path or the content of a file, or an array of the model's rate, int16 [t] or
# [t c].
SoundLike = bytes | str | Path | np.ndarray


class Excerpt(NamedTuple):
    """One of the excerpts of `num_samples` that a recording is cut into.

    Attributes:
      stored: The recording.
      recording: Its number in the data set.
      number: That of the excerpt in it.
    """

    stored: Stored
    recording: int
    number: int


class AudioTransform(Transform):
    """Decodes, mixes channels, resamples, changes the loudness, and pads or crops to a number of samples.

    Silence is added at the end. A random crop of training is a stretch at a random position. Evaluation sees
    the middle of a recording, or, where whole recordings are asked for, all excerpts that it is cut
    into, one after the other; a random crop then begins up to half of its length before or after its excerpt.
    """

    noun = 'recording'
    keys: ClassVar[tuple[str, ...]] = ('audio_key', 'channels', 'num_samples', 'whole_recordings')
    keys += ('sample_rate', 'loudness', 'random_crop')
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    file_shape: ClassVar[tuple[int | None, ...]] = (None, 1)
    by_path: ClassVar[bool] = True

    def __init__(self, config: DataConfig, source: Source) -> None:
        if config.channels not in (None, 1, 2):
            raise UserError(
                f'config.data.channels is {config.channels}, and sound is mixed into one or two: use 1, 2 or '
                'None, which is 1.'
            )
        self._channels = config.channels or 1
        self._num_samples, self._rate, self._loudness = (
            config.num_samples,
            config.sample_rate,
            config.loudness,
        )
        self._gains: dict[int, float | Undecodable] = {}
        self.noun = 'excerpt' if config.whole_recordings else 'recording'
        self.varied = config.random_crop
        self.uniforms = int(config.random_crop)
        rate = config.sample_rate or source.rate
        if config.num_samples and rate:
            self.spec = Spec('audio', (config.num_samples, self._channels), float(rate))

    def measure(self, stored: Stored | Excerpt, name: str) -> Spec:
        """See `Transform`; where no length is asked for, it is that of this recording."""
        with open_recording(stored.stored if isinstance(stored, Excerpt) else stored) as recording:
            rate = self._wanted_rate(recording, name)
            length = self._num_samples or Resampling.of(recording.rate, rate).length(recording.length)
        return Spec('audio', (length, self._channels), rate and float(rate))

    def decode(
        self,
        stored: Stored | Excerpt,
        name: str,
        told: list[str] | None = None,
        position: float | None = None,
    ) -> np.ndarray | Around:
        """See `Transform`; int16 [n c], or around it where there are random crops."""
        whole = stored.stored if isinstance(stored, Excerpt) else stored
        told = [] if told is None else told
        with open_recording(whole) as recording:
            rate = self._wanted_rate(recording, name)
            if rate != self.spec.rate:
                raise UserError(
                    f'{name} has {rate:g} samples a second, not {self.spec.rate:g} as the others: set '
                    'config.data.sample_rate to bring all recordings to one rate.'
                )
            resampling = Resampling.of(recording.rate, rate)
            n, length = self.spec.shape[0], resampling.length(recording.length)
            if self._num_samples is None and length != n:
                raise UserError(
                    f'{name} has {length:,} samples, not {n:,} as the others: set config.data.num_samples to '
                    'bring all recordings to one length.'
                )
            if isinstance(stored, Excerpt):
                first = stored.number * n
                start, stop = first, min(first + n, length)
                if self.varied:
                    start, stop = max(0, min(start - n // 2, length - n)), min(length, first + n + n // 2)
            else:
                first = max(0, length - n) // 2
                start, stop = (0, length) if self.varied else (first, min(first + n, length))
            if stop <= start:
                raise Undecodable(f'it has {length:,} samples, fewer than when the data set was opened')
            first_read, last_read = resampling.inputs(start, stop, recording.length)
            _check_length(max(stop - start, last_read - first_read))
            samples = _mixed(recording, first_read, last_read, self._channels, told)
        samples = as_int16(resampling(samples, start, stop), self._gain(stored))
        samples = np.pad(samples, ((0, max(0, n - len(samples))), (0, 0)))
        return Around(samples, first - start) if self.varied else samples

    def augment(self, values: list[Around], uniforms: np.ndarray) -> np.ndarray:
        """Cuts a stretch out of each, int16 [b n c]."""
        sizes = self.spec.grid
        pairs = zip(values, uniforms, strict=True)
        return np.stack([window(value.values, sizes, share) for value, share in pairs])

    def centre(self, value: np.ndarray | Around) -> np.ndarray:
        """See `Transform`."""
        if not isinstance(value, Around):
            return value
        n = self.spec.shape[0]
        samples = value.values[value.first : value.first + n]
        return np.pad(samples, ((0, n - len(samples)), (0, 0)))

    @staticmethod
    def prepare(
        file: SoundLike, mask: None, spec: Spec, config: DataConfig, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Transform`; a sound has no mask that could be read."""
        if mask is not None:
            raise UserError(
                'a mask is read for images alone; of sound, give infill the stretch that is sampled anew, or '
                'inpaint a mask, bool [t].'
            )
        samples, rate = read_file_or_array(file)
        name = file if isinstance(file, str | Path) else 'the sound'
        rate = rate or spec.rate
        try:
            samples = mix(samples, spec.channels)
            gain = _gain_of([samples], rate, config.loudness) if rate and config.loudness is not None else 1.0
            if rate and spec.rate:
                samples = resample(samples, rate, round(spec.rate), gain)
        except Undecodable as error:
            raise UserError(f'{name} cannot be taken ({error}); give a shorter one.') from error
        if whole:
            return samples, None
        length = spec.shape[0]
        if config.num_samples is not None:
            samples = window(np.pad(samples, ((0, max(0, length - len(samples))), (0, 0))), (length,))
        if len(samples) != length:
            raise UserError(
                f'{name} has {len(samples):,} samples and the model was trained on {length:,}; give as many.'
            )
        return samples, None

    def _wanted_rate(self, recording: Recording, name: str) -> float | None:
        """Returns the rate that is asked for, or else that of the recording."""
        for key, value in ('sample_rate', self._rate), ('loudness', self._loudness):
            if recording.rate is None and value is not None:
                raise UserError(f'{name} does not say its rate: leave config.data.{key} out.')
        return self._rate or recording.rate

    def _gain(self, stored: Stored | Excerpt) -> float:
        """Returns the factor that brings a recording to the loudness that is asked for."""
        if self._loudness is None:
            return 1.0
        if not isinstance(stored, Excerpt):
            return self._measured_gain(stored)
        if stored.recording not in self._gains:  # which takes reading all of it
            try:
                self._gains[stored.recording] = self._measured_gain(stored.stored)
            except Undecodable as error:
                self._gains[stored.recording] = error
        gain = self._gains[stored.recording]
        if isinstance(gain, Undecodable):
            raise gain
        return gain

    def _measured_gain(self, stored: Stored) -> float:
        with open_recording(stored) as recording:
            pieces = blocks(recording, 0, recording.length)
            mixed = (mix(piece, self._channels) for piece in pieces)
            return _gain_of(mixed, recording.rate, self._loudness)


def count_excerpts(stored: Stored, config: DataConfig) -> int:
    """Returns how many excerpts of `config.num_samples` a recording has, at the rate of the config.

    Raises:
      Undecodable: If it is none.
    """
    with open_recording(stored) as recording:
        wanted = config.sample_rate if recording.rate and config.sample_rate else recording.rate
        return -(-Resampling.of(recording.rate, wanted).length(recording.length) // config.num_samples)


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


def read(stored: Stored) -> tuple[np.ndarray, float | None]:
    """Decodes all of a recording.

    Returns:
      int16 [n c], and samples in a second, if they are known.

    Raises:
      Undecodable: If it is none, or too long.
    """
    with open_recording(stored) as recording:
        _check_length(recording.length * recording.channels // 2)
        return np.concatenate(list(blocks(recording, 0, recording.length))), recording.rate


def mix(samples: np.ndarray, channels: int) -> np.ndarray:
    """Returns int16 [n channels] of int16 [n c].

    One channel is the mean of all, rounded; two are twice the one.

    Raises:
      Undecodable: If more than two are to be two, for which there is no common rule.
    """
    if samples.shape[1] == channels:
        return samples
    if channels == 1:
        return np.rint(samples.mean(axis=1, keepdims=True)).astype(np.int16)
    if samples.shape[1] == 1:
        return samples.repeat(channels, axis=1)
    raise Undecodable(f'it has {samples.shape[1]} channels, not 1 or 2; convert it to stereo')


def _check_length(length: int) -> None:
    if length > MOST_SAMPLES:
        raise Undecodable(
            f'it has {length:,} samples, not 1 to {MOST_SAMPLES:,}; cut it, or set '
            'config.data.whole_recordings, which reads an excerpt at a time'
        )


def _mixed(recording: Recording, start: int, stop: int, channels: int, told: list[str]) -> np.ndarray:
    """Reads a stretch, int16 [stop-start channels]; `told` gets what is odd about it."""
    pieces, silent, clipped = [], True, False
    for piece in blocks(recording, start, stop - start):
        silent &= not piece.any()
        clipped = clipped or _is_clipped(piece)
        pieces.append(mix(piece, channels))
    told += ['silent'] * silent + ['clipped'] * clipped
    return np.concatenate(pieces)


def _is_clipped(samples: np.ndarray) -> bool:
    """Whether as many samples of a channel as make it likely are at full scale, one after the other."""
    full = (samples >= _RANGE.max) | (samples <= -_RANGE.max)
    if not full.any():
        return False
    within = len(full) - _CLIPPED + 1
    return bool(within > 0 and np.all([full[i : within + i] for i in range(_CLIPPED)], axis=0).any())


def _gain_of(pieces: Iterable[np.ndarray], rate: float, wanted: float) -> float:
    """Returns the factor that brings a recording to a loudness, or less, so that it does not clip.

    Args:
      pieces: Of it, int16 [n c], one or two channels.
      rate: Samples in a second.
      wanted: LUFS.

    Raises:
      Undecodable: If its rate is too low for loudness to be known.
    """
    if rate < loudness.LOWEST_RATE:
        raise Undecodable(
            f'it has {rate:g} samples a second, and loudness is of {loudness.LOWEST_RATE:,} or more'
        )
    meter: loudness.Meter | None = None
    for piece in pieces:
        meter = meter or loudness.Meter(rate, piece.shape[1])
        meter.add(piece / -float(_RANGE.min))
    found = meter.loudness()
    if not math.isfinite(found):  # silence stays
        return 1.0
    return min(10 ** ((wanted - found) / 20), 1 / meter.peak)

"""Recordings as they are stored, of which no more is decoded than is asked for.

WAV files of PCM are read by `vq_jax.media.wav`, all others by the package soundfile (the extra `audio`).
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Protocol

import numpy as np

from vq_jax.data.transforms.transform import Undecodable
from vq_jax.errors import UserError
from vq_jax.files import open_regular
from vq_jax.media import wav

SUFFIXES = ('.flac', '.mp3', '.oga', '.ogg', '.opus', '.wav')
_STARTS = (b'RIFF', b'RF64', b'fLaC', b'OggS', b'ID3')  # of files; MP3 without tags starts with 11 ones
# MP3 says how long it is in a header that not all files have. Without it the length is a guess by the size of
# the file, which may be too large by this, or by a hundredth.
_TWO_FRAMES = 2 * 1152
_BLOCK = 2**20  # values of all channels that are decoded at a time
_RANGE = np.iinfo(np.int16)

# A path, or the content of a file; or integers [n] or [n c] in the range of 16 bits and their rate, if known.
Stored = Path | bytes | tuple[np.ndarray, float | None]


class Recording(Protocol):
    """Stretches of a recording, each read when it is asked for.

    Attributes:
      length: How many samples each channel has, as far as the file says.
      channels: How many there are.
      rate: Samples in a second, if they are known.
    """

    length: int
    channels: int
    rate: float | None

    def read(self, start: int, count: int) -> np.ndarray:
        """Returns int16 [count c], with fewer samples where the recording ends before it says."""


@contextlib.contextmanager
def open_recording(stored: Stored) -> Iterator[Recording]:
    """Opens what is stored, for as long as the context lasts.

    Raises:
      Undecodable: If it is no recording that is read, or one of no samples.
      UserError: If the package that reads it is not installed.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(stored, tuple):
            recording = _Array(*stored)
        else:
            try:
                file = open_regular(stored) if isinstance(stored, Path) else io.BytesIO(stored)
            except (OSError, UserError) as error:
                raise Undecodable(getattr(error, 'strerror', None) or str(error)) from error
            recording = _of_file(stack.enter_context(file))
        if recording.length < 1:
            raise Undecodable('it has no samples')
        yield recording


def blocks(recording: Recording, start: int, count: int) -> Iterator[np.ndarray]:
    """Yields a stretch in pieces, int16 [n c], that take little memory however long it is.

    Raises:
      Undecodable: If the recording is damaged, or cut short.
    """
    size = max(1, _BLOCK // recording.channels)
    for first in range(start, start + count, size):
        wanted = min(size, start + count - first)
        block = recording.read(first, wanted)
        if len(block) < wanted:
            raise Undecodable(
                f'it is cut short: {first + len(block):,} of {recording.length:,} samples are there'
            )
        yield block


class _Array:
    """A `Recording` of samples in memory."""

    def __init__(self, samples: np.ndarray, rate: float | None) -> None:
        if samples.size and not (_RANGE.min <= samples.min() and samples.max() <= _RANGE.max):
            raise Undecodable('it has samples out of the range of 16 bits')
        samples = samples.astype(np.int16, copy=False)
        self._samples = samples[:, None] if samples.ndim == 1 else samples
        self.length, self.channels = self._samples.shape
        self.rate = rate

    def read(self, start: int, count: int) -> np.ndarray:
        """See `Recording`."""
        return self._samples[start : start + count]


class _Coded:
    """A `Recording` that soundfile decodes."""

    def __init__(self, file: BinaryIO, soundfile: ModuleType) -> None:
        self._error = soundfile.LibsndfileError
        try:
            self._sound = soundfile.SoundFile(file)
        except self._error as error:
            raise Undecodable(_reason(error)) from error
        # Otherwise it looks for its position after each read, and in MP3 does not find the same one.
        self._sound.seekable = lambda: False
        self.length, self.channels = self._sound.frames, self._sound.channels
        self.rate = self._sound.samplerate
        if not 1 <= self.rate <= wav.HIGHEST_RATE:
            raise Undecodable(f'its rate is {self.rate}, not 1 to {wav.HIGHEST_RATE:,}')
        self._position = 0

    def read(self, start: int, count: int) -> np.ndarray:
        """See `Recording`."""
        try:
            self._go_to(start)
            samples = self._sound.read(count, 'float32', always_2d=True)
        except self._error as error:
            raise Undecodable(_reason(error)) from error
        self._position = start + len(samples)
        missing = count - len(samples)
        if self._sound.format == 'MP3' and 0 < missing <= max(_TWO_FRAMES, self.length // 100):
            samples = np.pad(samples, ((0, missing), (0, 0)))
        if not np.isfinite(samples).all():
            raise Undecodable('it has samples that are not finite')
        return np.clip(np.rint(samples * -_RANGE.min), _RANGE.min, _RANGE.max).astype(np.int16)

    def _go_to(self, start: int) -> None:
        if self._sound.format != 'MP3':
            if start != self._position:
                self._sound.seek(start)
            return
        if start < self._position:  # of which no sample but the first is found for sure
            raise AssertionError('an MP3 file is read from its beginning to its end, once')
        while self._position < start:
            skipped = len(self._sound.read(min(_BLOCK, start - self._position), 'float32'))
            if not skipped:
                return
            self._position += skipped


def _of_file(file: BinaryIO) -> Recording:
    """Opens a file by what it begins with, whatever its name."""
    try:
        return wav.Reader(file)
    except wav.NotPcm as error:
        not_pcm = error
    except ValueError as error:
        raise Undecodable(str(error)) from error
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    is_wav = start == b'RIFF'
    if not (start.startswith(_STARTS) or (start[:1] == b'\xff' and start[1:2] >= b'\xe0')):
        raise Undecodable(f'{not_pcm}, nor FLAC, Ogg or MP3')
    try:
        import soundfile
    except (ImportError, OSError) as error:  # the latter where its library is missing
        needs = "install the package soundfile by pip install 'vq_jax[audio]'"
        if is_wav:
            raise Undecodable(f'{not_pcm}, or {needs}') from error
        raise UserError(f'To read FLAC, Ogg and MP3, {needs}.') from error
    try:
        return _Coded(file, soundfile)
    except Undecodable as error:
        raise Undecodable(str(not_pcm)) if is_wav else error from error


def _reason(error: Exception) -> str:
    """What libsndfile says, without what Python calls the file."""
    return f'libsndfile: {error.error_string.rstrip(".")}'

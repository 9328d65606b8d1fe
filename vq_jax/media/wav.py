"""WAV files of PCM samples, read and written without another package.

The format is that of Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0 (1991),
with the extensible header of 2001, which files of 24 bits often have.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from vq_jax.errors import UserError
from vq_jax.files import write_atomically

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
HIGHEST_RATE = 384_000  # in use anywhere
_MOST_BYTES = 2**32 - 37  # of samples in one file, whose sizes have 32 bits
_MOST_CHUNKS = 1000  # in use are a few
_LONGEST_FORM = 64  # bytes of what a file says of its samples; of PCM there are 40


class Cue(NamedTuple):
    """A cue point: what begins at a sample of a file.

    Attributes:
        position: of the sample.
        name: a line of text.
    """

    position: int
    name: str


def encode(samples: np.ndarray, rate: float, cues: Sequence[Cue] = ()) -> bytes:
    """Encodes sound as the content of a WAV file.

    Args:
        samples: int16 [n c].
        rate: samples in a second; a whole number is written.
        cues: in the order of their positions; audio editors show them as markers, and players pass over them.

    Raises:
        UserError: if the samples are of another type or shape, or no file can hold them.
    """
    samples, rate = np.asarray(samples), round(rate)
    if samples.dtype != np.int16 or samples.ndim != 2 or not 1 <= samples.shape[1] < 2**15:
        raise UserError(f'samples are {samples.dtype} {samples.shape}; give int16 [n c].')
    if not 1 <= rate <= HIGHEST_RATE or samples.nbytes > _MOST_BYTES:
        raise UserError(
            f'{len(samples):,} samples at a rate of {rate:,} fit into no WAV file; give at most 4 GiB, and a '
            f'rate from 1 to {HIGHEST_RATE:,}.'
        )
    frame = 2 * samples.shape[1]
    form = struct.pack('<HHIIHH', _PCM, samples.shape[1], rate, rate * frame, frame, 16)
    data = samples.astype('<i2').tobytes()
    chunks, named = _chunk(b'fmt ', form) + _chunk(b'data', data), _cue_chunks(cues) if cues else b''
    if 4 + len(chunks) + len(named) < 2**32:  # else the sound goes without names
        chunks += named
    return b'RIFF' + struct.pack('<I', 4 + len(chunks)) + b'WAVE' + chunks


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack('<I', len(content)) + content + bytes(len(content) % 2)


def _cue_chunks(cues: Sequence[Cue]) -> bytes:
    """The chunk of the points, whose numbers are those of their order, and the list of their names."""
    points = b''.join(
        struct.pack('<II4sIII', i, cue.position, b'data', 0, 0, cue.position) for i, cue in enumerate(cues)
    )
    names = b''.join(
        _chunk(b'labl', struct.pack('<I', i) + cue.name.encode() + b'\0') for i, cue in enumerate(cues)
    )
    return _chunk(b'cue ', struct.pack('<I', len(cues)) + points) + _chunk(b'LIST', b'adtl' + names)


def write(path: str | Path, samples: np.ndarray, rate: float) -> None:
    """Writes what `encode` makes, whole or not at all, into a file whose folder is made if need be.

    Raises:
        UserError: as `encode`.
        WriteError: if it cannot be written.
    """
    write_atomically(Path(path), encode(samples, rate))


class NotPcm(ValueError):
    """A file that another reader may know: no WAV file, or one whose samples are not integers."""


def read(content: bytes) -> tuple[np.ndarray, int]:
    """Decodes a WAV file of 8, 16, 24 or 32 bits a sample.

    Args:
        content: of the file.

    Returns:
        int16 [n c], rounded where the file has more bits, and samples in a second.

    Raises:
        ValueError: if it is no such file (see `Reader`).
    """
    reader = Reader(io.BytesIO(content))
    return reader.read(0, reader.length), reader.rate


def read_cues(content: bytes) -> tuple[Cue, ...]:
    """The named cue points of a WAV file in the order of their positions, as `encode` writes them.

    Raises:
        ValueError: if their chunks are damaged.
    """
    positions: dict[int, int] = {}
    names: dict[int, str] = {}
    try:
        for name, chunk in _chunks(content, 12):
            if name == b'cue ':
                (count,) = struct.unpack_from('<I', chunk)
                points = struct.iter_unpack('<II4sIII', chunk[4 : 4 + 24 * count])
                positions |= {number: at for number, _, _, _, _, at in points}
            elif name == b'LIST' and chunk[:4] == b'adtl':
                for kind, text in _chunks(chunk, 4):
                    if kind == b'labl':
                        (number,) = struct.unpack_from('<I', text)
                        names[number] = text[4:].split(b'\0')[0].decode(errors='replace')
    except struct.error as error:
        raise ValueError(f'its cue points are damaged ({error})') from error
    return tuple(sorted(Cue(at, names[number]) for number, at in positions.items() if number in names))


def _chunks(content: bytes, position: int) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the chunks from a position on, but for one that is cut short."""
    for _ in range(_MOST_CHUNKS):
        if position + 8 > len(content):
            return
        name, size = struct.unpack_from('<4sI', content, position)
        if position + 8 + size > len(content):
            return
        yield name, content[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


class Reader:
    """Reads stretches of a WAV file of 8, 16, 24 or 32 bits a sample, and nothing else of it.

    Attributes:
        length: how many samples each channel has.
        channels: how many there are.
        rate: samples in a second.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Reads what stands before the samples.

        Args:
            file: open, and seekable; it stays the caller's to close.

        Raises:
            NotPcm: if it is no WAV file, or one of floats or compressed.
            ValueError: if it is damaged or cut short.
        """
        form, self._first, size = _before_samples(file)
        if len(form) < 16:
            raise ValueError('it does not say what its samples are')
        kind, self.channels, self.rate, _, frame, bits = struct.unpack_from('<HHIIHH', form)
        if kind == _EXTENSIBLE and len(form) >= 26:
            (kind,) = struct.unpack_from('<H', form, 24)
        if kind == _FLOAT:
            raise NotPcm('its samples are floating-point; convert it to 16-bit PCM')
        if kind != _PCM:
            raise NotPcm(f'its samples are compressed (format {kind}); convert it to 16-bit PCM')
        self._width = bits // 8
        if bits not in (8, 16, 24, 32) or not self.channels or frame != self._width * self.channels:
            raise ValueError(f'{self.channels} channels of {bits} bits in {frame} bytes are not read')
        if not 1 <= self.rate <= HIGHEST_RATE:
            raise ValueError(f'its rate is {self.rate}, not 1 to {HIGHEST_RATE:,}')
        if size % frame:
            raise ValueError('it ends in the middle of a sample')
        self.length = size // frame
        self._file = file

    def read(self, start: int, count: int) -> np.ndarray:
        """Reads so many samples of each channel, from one on, that are all there: int16 [count c]."""
        frame = self._width * self.channels
        self._file.seek(self._first + start * frame)
        raw = np.frombuffer(self._file.read(count * frame), np.uint8)
        return _as_int16(raw.reshape(-1, self._width)).reshape(-1, self.channels)


def _before_samples(file: BinaryIO) -> tuple[bytes, int, int]:
    """Returns what a file says of its samples, where they begin, and how many bytes they are."""
    size_of_file = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b'RIFF' or head[8:12] != b'WAVE':
        raise NotPcm('it is not a WAV file')
    form, position = b'', 12
    for _ in range(_MOST_CHUNKS):
        if position + 8 > size_of_file:
            break
        file.seek(position)
        name, size = struct.unpack('<4sI', file.read(8))
        there = size_of_file - position - 8
        if there < size:
            raise ValueError(f'it is cut short: {there:,} of {size:,} bytes of {name!r} are there')
        if name == b'data':
            return form, position + 8, size
        if name == b'fmt ':
            form = file.read(min(size, _LONGEST_FORM))
        position += 8 + size + size % 2
    raise ValueError('it ends before its samples')


def _as_int16(raw: np.ndarray) -> np.ndarray:
    """Turns little-endian samples, uint8 [n width], into int16 [n]; of 8 bits, 128 is silence."""
    if raw.shape[1] == 1:
        return (raw[:, 0].astype(np.int16) - 128) << 8
    upper = np.ascontiguousarray(raw[:, -2:]).view('<i2')[:, 0].astype(np.int16)
    if raw.shape[1] == 2:
        return upper
    half = raw[:, -3] >> 7  # the highest bit of what is left out
    return upper + np.where(upper < np.iinfo(np.int16).max, half, 0).astype(np.int16)

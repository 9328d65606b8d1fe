"""WAV files of PCM samples, read and written without another package.

The format is that of Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0 (1991),
with the extensible header of 2001, which files of 24 bits often have.
"""

import struct
from pathlib import Path

import numpy as np

from vq_jax.errors import UserError
from vq_jax.files import write_atomically

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
HIGHEST_RATE = 384_000  # in use anywhere
_MOST_BYTES = 2**32 - 37  # of samples in one file, whose sizes have 32 bits
_MOST_CHUNKS = 1000  # in use are a few


def encode(samples: np.ndarray, rate: float) -> bytes:
    """Encodes sound as the content of a WAV file.

    Args:
        samples: int16 [n c].
        rate: samples in a second; a whole number is written.

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
    head = b'RIFF' + struct.pack('<I', 36 + len(data)) + b'WAVE'
    return head + b'fmt ' + struct.pack('<I', 16) + form + b'data' + struct.pack('<I', len(data)) + data


def write(path: str | Path, samples: np.ndarray, rate: float) -> None:
    """Writes what `encode` makes, whole or not at all, into a file whose folder is made if need be.

    Raises:
        UserError: as `encode`.
        WriteError: if it cannot be written.
    """
    write_atomically(Path(path), encode(samples, rate))


def read(content: bytes) -> tuple[np.ndarray, int]:
    """Decodes a WAV file of 8, 16, 24 or 32 bits a sample.

    Args:
        content: of the file.

    Returns:
        int16 [n c], rounded where the file has more bits, and samples in a second.

    Raises:
        ValueError: if it is no such file: of floats, compressed, damaged or cut short.
    """
    chunks = _chunks(content)
    form, data = chunks.get(b'fmt ', b''), chunks[b'data']
    if len(form) < 16:
        raise ValueError('it does not say what its samples are')
    kind, channels, rate, _, frame, bits = struct.unpack_from('<HHIIHH', form)
    if kind == _EXTENSIBLE and len(form) >= 26:
        (kind,) = struct.unpack_from('<H', form, 24)
    if kind == _FLOAT:
        raise ValueError('its samples are floating-point; convert it to 16-bit PCM')
    if kind != _PCM:
        raise ValueError(f'its samples are compressed (format {kind}); convert it to 16-bit PCM')
    width = bits // 8
    if bits not in (8, 16, 24, 32) or not channels or frame != width * channels:
        raise ValueError(f'{channels} channels of {bits} bits in {frame} bytes are not read')
    if not 1 <= rate <= HIGHEST_RATE:
        raise ValueError(f'its rate is {rate}, not 1 to {HIGHEST_RATE:,}')
    if len(data) % frame:
        raise ValueError('it ends in the middle of a sample')
    return _as_int16(np.frombuffer(data, np.uint8).reshape(-1, width)).reshape(-1, channels), rate


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """Returns the parts of a file by their names, up to the samples, which are `data`."""
    if content[:4] != b'RIFF' or content[8:12] != b'WAVE':
        raise ValueError('it is not a WAV file')
    chunks, position = {}, 12
    for _ in range(_MOST_CHUNKS):
        if position + 8 > len(content):
            break
        name, size = struct.unpack_from('<4sI', content, position)
        chunks[name] = chunk = content[position + 8 : position + 8 + size]
        if len(chunk) < size:
            raise ValueError(f'it is cut short: {len(chunk):,} of {size:,} bytes of {name!r} are there')
        if name == b'data':
            return chunks
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

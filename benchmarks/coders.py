"""Coders of sound that are commands: Opus (`opusenc` and `opusdec`) and Codec 2 (`c2enc` and `c2dec`)."""

import dataclasses
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from rows import LeftOutError

from vq_jax.media import wav

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # of its bands
_CODEC2_RATE = 8000
# Samples by which Codec 2 is late: with these cut off, STOI is highest, in steps of 10 ms.
_CODEC2_DELAY, _CODEC2_DELAYS = 160, {'700C': 240}


@dataclasses.dataclass(frozen=True)
class Coded:
    """What a coder made of all pieces.

    Attributes:
        coder: its name and setting.
        sounds: int16 [n t 1].
        size: bytes of the codes of all pieces.
        file_size: bytes of the files that they lay in; None where there were none.
        seconds: that encoding and decoding took.
    """

    coder: str
    sounds: np.ndarray
    size: int
    file_size: int | None
    seconds: float


def opus(pieces: np.ndarray, rate: float, kbps: str) -> Coded:
    """What Opus makes of pieces int16 [n t 1], at its defaults: frames of 20 ms and a varying rate."""
    _need('opusenc', 'opusdec', by='opus-tools')
    if rate not in _OPUS_RATES:
        raise LeftOutError(f'Opus is left out: it has no rate of {rate:g}, but {_OPUS_RATES}.')
    sounds, size, file_size, passed = [], 0, 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        source, packed, out = (Path(folder, name) for name in ('in.wav', 'packed.opus', 'out.wav'))
        for piece in pieces:
            wav.write(source, piece, rate)
            passed += _call('opusenc', '--quiet', '--bitrate', kbps, source, packed)
            passed += _call('opusdec', '--quiet', '--no-dither', '--rate', round(rate), packed, out)
            file_size += packed.stat().st_size
            size += sum(map(len, ogg_packets(packed.read_bytes())[2:]))  # after those of head and comments
            sounds.append(_of_length(wav.read(out.read_bytes())[0], len(piece)))
    return Coded(f'opus {kbps}', np.stack(sounds), size, file_size, passed)


def codec2(pieces: np.ndarray, rate: float, mode: str) -> Coded:
    """What Codec 2 makes of pieces int16 [n t 1]; its delay is cut off."""
    _need('c2enc', 'c2dec', by='codec2')
    if rate != _CODEC2_RATE:
        raise LeftOutError(f'Codec 2 is left out: it has a rate of {_CODEC2_RATE:,} alone.')
    delay = _CODEC2_DELAYS.get(mode, _CODEC2_DELAY)
    sounds, size, passed = [], 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        source, packed, out = (Path(folder, name) for name in ('in.raw', 'packed.bit', 'out.raw'))
        for piece in pieces:
            # Silence behind it, so that the end, which is late, comes out too.
            source.write_bytes(np.pad(piece[:, 0], (0, 2 * delay)).astype('<i2').tobytes())
            passed += _call('c2enc', mode, source, packed)
            passed += _call('c2dec', mode, packed, out)
            size += packed.stat().st_size * len(piece) // (len(piece) + 2 * delay)
            samples = np.fromfile(out, '<i2').astype(np.int16)[delay:, None]
            sounds.append(_of_length(samples, len(piece)))
    return Coded(f'codec2 {mode}', np.stack(sounds), size, None, passed)


def ogg_packets(content: bytes) -> list[bytes]:
    """The packets of an Ogg file of one stream (RFC 3533)."""
    packets, parts, position = [], [], 0
    while position < len(content):
        if content[position : position + 4] != b'OggS':
            raise ValueError(f'no page of an Ogg file begins at byte {position:,}')
        count = content[position + 26]
        sizes = content[position + 27 : position + 27 + count]
        position += 27 + count
        for size in sizes:
            parts.append(content[position : position + size])
            position += size
            if size < 255:  # the last part of a packet
                packets.append(b''.join(parts))
                parts = []
    return packets


def _need(*commands, by):
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise LeftOutError(f'{missing[0]} is not installed, and so left out (Debian: apt-get install {by}).')


def _call(*command):
    """Runs a command; seconds of the processor that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise LeftOutError(f'{command[0]} is left out: {done.stderr.strip() or done.returncode}')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _of_length(samples, length):
    """Sound [t c] cut, or continued with silence, to a length."""
    return np.pad(samples[:length], ((0, max(0, length - len(samples))), (0, 0)))

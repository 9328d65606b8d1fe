"""WAV files against Python's own `wave`, and by the letter of the format."""

import io
import struct
import wave

import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.media import wav


def written(frames, width, channels=1, rate=8000):
    """A file as the standard library writes it."""
    file = io.BytesIO()
    with wave.open(file, 'wb') as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(frames)
    return file.getvalue()


@pytest.mark.parametrize('channels', [1, 2])
def test_what_is_written_is_what_the_standard_library_writes(channels):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (101, channels), np.int16)
    content = wav.encode(samples, 44_100)
    assert content == written(samples.tobytes(), 2, channels, 44_100)
    back, rate = wav.read(content)
    np.testing.assert_array_equal(back, samples)
    assert rate == 44_100 and back.dtype == np.int16


def test_other_widths():
    """8 bits are unsigned with silence at 128; of more than 16, the nearest of 16 is taken."""
    eight, _ = wav.read(written(bytes([0, 127, 128, 255]), 1))
    assert eight[:, 0].tolist() == [-32768, -256, 0, 127 * 256]
    values = [0, 127, 128, -128, -129, 2**23 - 1, -(2**23), 256 * 1000]
    frames = b''.join(value.to_bytes(3, 'little', signed=True) for value in values)
    samples, _ = wav.read(written(frames, 3))
    assert samples[:, 0].tolist() == [0, 0, 1, 0, -1, 32767, -32768, 1000]
    frames = b''.join((value << 8).to_bytes(4, 'little', signed=True) for value in values)
    np.testing.assert_array_equal(wav.read(written(frames, 4))[0], samples)


def test_cue_points_are_named_by_the_letter_of_the_format():
    samples = np.arange(7, dtype=np.int16)[:, None]
    cues = (wav.Cue(0, 'original 1'), wav.Cue(4, 'reconstruction é'))
    content = wav.encode(samples, 8000, cues)
    points = struct.pack('<I', 2) + b''.join(
        struct.pack('<II', i, at) + b'data' + struct.pack('<III', 0, 0, at) for i, at in ((0, 0), (1, 4))
    )
    labels = b'labl' + struct.pack('<II', 4 + 11, 0) + b'original 1\0\0'  # padded to an even length
    labels += b'labl' + struct.pack('<II', 4 + 18, 1) + 'reconstruction é\0'.encode()
    listed = b'cue ' + struct.pack('<I', len(points)) + points
    listed += b'LIST' + struct.pack('<I', 4 + len(labels)) + b'adtl' + labels
    assert (
        content == b'RIFF' + struct.pack('<I', 36 + 14 + len(listed)) + wav.encode(samples, 8000)[8:] + listed
    )
    assert wav.read_cues(content) == cues and wav.read_cues(wav.encode(samples, 8000)) == ()
    np.testing.assert_array_equal(wav.read(content)[0], samples)
    with wave.open(io.BytesIO(content)) as file:
        assert file.readframes(100) == samples.tobytes()
    assert wav.read_cues(content[:-1]) == ()  # cut within the names
    many = content.replace(b'cue ' + struct.pack('<I', len(points)), b'cue ' + struct.pack('<I', 3))
    with pytest.raises(ValueError, match='its cue points are damaged'):
        wav.read_cues(many)


def riff(form, data, size=None, before=b''):
    """A file of the chunks `fmt ` and `data`; `size` is what the latter says of itself."""
    chunks = b'fmt ' + struct.pack('<I', len(form)) + form + before
    chunks += b'data' + struct.pack('<I', len(data) if size is None else size) + data
    return b'RIFF' + struct.pack('<I', 4 + len(chunks)) + b'WAVE' + chunks


PCM = struct.pack('<HHIIHH', 1, 1, 8000, 16000, 2, 16)


def test_other_chunks_and_the_extensible_header():
    odd = b'LIST' + struct.pack('<I', 3) + b'abc\0'  # padded to an even length
    assert wav.read(riff(PCM, b'\1\0\2\0', before=odd))[0].tolist() == [[1], [2]]
    form = struct.pack('<HHIIHHHHIH', 0xFFFE, 1, 8000, 16000, 2, 16, 22, 16, 4, 1) + bytes(14)
    assert wav.read(riff(form, b'\1\0\2\0'))[0].tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'not a WAV file'),
        (b'RIFF\0\0\0\0WAVE', 'ends before its samples'),
        (riff(PCM, b'', before=b'junk\0\0\0\0' * 2000), 'ends before its samples'),
        (riff(PCM, bytes(10), size=100), r'cut short: 10 of 100 bytes'),
        (riff(PCM, bytes(10), size=2**32 - 1), 'cut short'),
        (riff(PCM, bytes(9)), 'in the middle of a sample'),
        (riff(b'', bytes(8)), 'does not say what its samples are'),
        (riff(struct.pack('<HHIIHH', 3, 1, 8000, 32000, 4, 32), bytes(8)), 'floating-point'),
        (riff(struct.pack('<HHIIHH', 7, 1, 8000, 8000, 1, 8), bytes(8)), r'compressed \(format 7\)'),
        (riff(struct.pack('<HHIIHH', 1, 0, 8000, 0, 0, 16), bytes(8)), '0 channels of 16 bits'),
        (riff(struct.pack('<HHIIHH', 1, 1, 8000, 16000, 2, 12), bytes(8)), '1 channels of 12 bits'),
        (riff(struct.pack('<HHIIHH', 1, 1, 0, 0, 2, 16), bytes(8)), 'its rate is 0'),
    ],
)
def test_damaged_and_other_files(content, words):
    with pytest.raises(ValueError, match=words):
        wav.read(content)


def test_a_file_is_written_whole_or_refused(tmp_path):
    samples = np.arange(6, dtype=np.int16).reshape(3, 2)
    wav.write(tmp_path / 'folder' / 'a.wav', samples, 8000.0)
    assert [path.name for path in (tmp_path / 'folder').iterdir()] == ['a.wav']
    np.testing.assert_array_equal(wav.read((tmp_path / 'folder' / 'a.wav').read_bytes())[0], samples)
    for wrong, rate in ((samples.astype(np.float32), 8000), (samples[0], 8000), (samples, 0)):
        with pytest.raises(UserError):
            wav.write(tmp_path / 'b.wav', wrong, rate)
    assert not (tmp_path / 'b.wav').exists()

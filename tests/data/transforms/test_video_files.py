"""Videos as they are stored, read by PyAV and Pillow from their beginning to their end, or frame by frame."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.clips import animated, coded, decoded, frames
from vq_jax.data.transforms import Undecodable, video_files
from vq_jax.data.transforms.video_files import open_video, shown_at
from vq_jax.errors import UserError

REGULAR = {'sc_threshold': '1000000000'}  # no key frames but one in eight
FORMS = {
    'mp4': {},
    'mp4 without frames from both sides': {'codec': 'mpeg4', 'bf': '0', **REGULAR},
    'mov of key frames': {'codec': 'mjpeg', 'form': 'mov', 'pixels': 'yuvj420p'},
    'mkv whose groups are open': {'form': 'matroska', 'x264-params': 'open-gop=1'},
    'webm': {'codec': 'libvpx-vp9', 'form': 'webm', 'deadline': 'realtime', 'cpu-used': '8'},
    'webm of VP8, which has frames that are not shown': {
        'codec': 'libvpx',
        'form': 'webm',
        'auto-alt-ref': '1',
    },
    'avi': {'codec': 'mpeg4', 'form': 'avi', 'bf': '2', **REGULAR},
}


def read(stored, numbers):
    with open_video(stored, ('.png',)) as reader:
        return [np.asarray(image) for image in reader.read(numbers)]


@pytest.mark.parametrize('form', FORMS)
def test_any_frames_are_those_of_the_whole(form):
    content = coded(frames(30), **FORMS[form])
    whole = decoded(content)
    rng = np.random.default_rng(0)
    chosen = [[0], [29], [7, 8, 9], [15, 15, 16], [0, 20], *(np.sort(rng.choice(30, 4)) for _ in range(8))]
    for numbers in chosen:
        for image, number in zip(read(content, numbers), numbers, strict=True):
            np.testing.assert_array_equal(image, whole[number], err_msg=f'{number} of {numbers}')
    with open_video(content, ()) as reader:
        assert reader.length == 30
        np.testing.assert_allclose(np.diff(reader.times()), 1 / 24, atol=1e-3)


def test_no_more_is_decoded_than_from_the_key_frame_before(monkeypatch):
    content, seen = coded(frames(64), bf='0'), []
    following = video_files._Coded._next
    monkeypatch.setattr(video_files._Coded, '_next', lambda *args: seen.append(1) or following(*args))
    for numbers, most in (
        ([40, 41, 42], 3),
        ([47], 8),
        ([3, 60], 4 + 5),
        ([0, 8, 16, 24], 4),
        ([6, 10], 5 + 6),
    ):
        seen.clear()
        read(content, numbers)
        assert len(seen) <= most, numbers


@pytest.mark.parametrize('form', ['gif', 'png'])
def test_animated_images(form):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 6), np.uint8)
    content = animated(images, form, [100, 50, 200, 100, 70])
    with open_video(content, ()) as reader:
        np.testing.assert_allclose(reader.times(), [0, 0.1, 0.15, 0.35, 0.45, 0.52])
        for image, number in zip(reader.read([1, 3, 4]), [1, 3, 4], strict=True):
            np.testing.assert_array_equal(image.convert('L'), images[number])


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(tmp_path):
    for name in ('f10.png', 'f9.PNG', 'f100.png', 'f2.png'):
        Image.new('L', (2, 2), int(name[1:].split('.')[0])).save(tmp_path / name)
    for name in ('.f1.png', 'notes.txt', 'f1.gif'):
        (tmp_path / name).write_text('no frame')
    with open_video(tmp_path, ('.png', '.gif')) as reader:
        contents = list(reader.read(range(reader.length)))
    assert contents == [
        (tmp_path / name).read_bytes() for name in ('f2.png', 'f9.PNG', 'f10.png', 'f100.png')
    ]


def test_a_rate_is_reached_by_leaving_out_and_repeating():
    seconds = np.arange(13) / 24  # twelve frames, half a second
    np.testing.assert_array_equal(shown_at(seconds, 24), range(12))
    np.testing.assert_array_equal(shown_at(seconds, 12), range(0, 12, 2))
    np.testing.assert_array_equal(shown_at(seconds, 48), np.repeat(range(12), 2))
    np.testing.assert_array_equal(shown_at(seconds, 10), [0, 2, 4, 7, 9])  # 2.4 frames from one to the next
    np.testing.assert_array_equal(shown_at(seconds.round(3) + 5, 12), range(0, 12, 2))  # as in WebM
    np.testing.assert_array_equal(shown_at(np.array([0, 0.1, 0.9, 1]), 10), [0] + [1] * 8 + [2])
    np.testing.assert_array_equal(shown_at(seconds, 0.1), [0])
    with pytest.raises(Undecodable, match='it lasts 10,000,000 seconds, which are too many'):
        shown_at(np.array([0, 1, 1e7]), 24)


def test_a_video_is_turned_as_it_says():
    """By the matrix in the header of the track (ISO/IEC 14496-12, 8.3.2), a quarter to the right."""
    content = bytearray(coded(frames(4)))
    at = content.index(b'tkhd') + 44
    assert struct.unpack('>9i', content[at : at + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    content[at : at + 36] = struct.pack('>9i', 0, 65536, 0, -65536, 0, 0, 0, 0, 2**30)
    (turned,), upright = read(bytes(content), [2]), decoded(bytes(coded(frames(4))))[2]
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))


def sound():
    import av

    file = io.BytesIO()
    with av.open(file, 'w', format='mp4') as container:
        stream = container.add_stream('aac', 8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize(
    ('stored', 'reason'),
    [
        (lambda: b'', 'it is none of MP4, QuickTime, Matroska, WebM, AVI, GIF and APNG'),
        (lambda: b'#EXTM3U\nhttp://example.org/a.ts', 'it is none of MP4'),
        (lambda: coded(frames(4))[:400], 'InvalidDataError: .+'),
        (
            lambda: coded(frames(4), form='webm', codec='libvpx-vp9')[:200],
            'Error: .+|it has no frames',
        ),
        (list, 'it has no frames'),
        (sound, 'it has no images, only sound'),
        (
            lambda: coded(frames(4)).replace(b'avc1', b'zzzz'),
            'encoded in a way that this FFmpeg does not decode',
        ),
        (lambda: Path('/nowhere/x.mp4'), 'No such file or directory'),
    ],
)
def test_what_is_no_video_is_undecodable(stored, reason):
    pytest.importorskip('av', reason="pip install 'vq_jax[video]'")
    with pytest.raises(Undecodable, match=reason):
        read(stored(), [0])


def test_damage_is_found():
    """In what is decoded, not in what is not; a frame of which FFmpeg has made up a part is damaged."""
    content = bytearray(coded(frames(24), 'libx264', bf='0'))
    whole = decoded(bytes(content))
    first = content.index(b'mdat')
    for at in range(first + 400, first + 700, 37):
        content[at] ^= 0xFF
    with pytest.raises(Undecodable):
        read(bytes(content), range(16))
    np.testing.assert_array_equal(read(bytes(content), [23])[0], whole[23])


def test_sizes_that_cannot_be_true_are_damage():
    """Of a table in an MP4 file (ISO/IEC 14496-12, 8.7.3.2), for which FFmpeg finds no memory."""
    content = bytearray(coded(frames(4)))
    at = content.index(b'stsz') + 12
    assert struct.unpack('>I', content[at : at + 4]) == (4,)
    content[at : at + 4] = b'\x0f\xff\xff\xff'
    with pytest.raises(Undecodable):
        read(bytes(content), [3])


def test_reading_needs_a_package(monkeypatch):
    content = coded(frames(4))
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(UserError, match=r"install the package av by pip install 'vq_jax\[video\]'"):
        read(content, [0])
    assert len(read(animated(np.eye(4, dtype=np.uint8)[:2, None]), [0, 1])) == 2


def test_the_image_for_readers_that_do_not_animate_is_no_frame(tmp_path):
    """Which an APNG may begin with."""
    frames = [Image.new('RGB', (4, 4), (level, 0, 0)) for level in (50, 100, 150)]
    path = tmp_path / 'x.apng'
    still = Image.new('RGB', (4, 4), 'white')
    still.save(path, 'png', save_all=True, append_images=frames, default_image=True, duration=100)
    with open_video(path, ()) as reader:
        assert reader.length == 3
        np.testing.assert_allclose(reader.times(), [0, 0.1, 0.2, 0.3])
        read = [np.asarray(frame.convert('RGB'))[0, 0, 0] for frame in reader.read([0, 1, 2])]
    assert read == [50, 100, 150]

"""GIF and MP4, read again by Pillow and by PyAV."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from vq_jax.errors import UserError
from vq_jax.media import Animation, sheets
from vq_jax.media.animations import gif, mp4


def read_gif(content):
    image = Image.open(io.BytesIO(content))
    frames, durations = [], []
    for t in range(image.n_frames):
        image.seek(t)
        frames.append(np.asarray(image.convert('RGB')))
        durations.append(image.info['duration'])
    return np.stack(frames), durations, image.info.get('loop')


def test_grey_is_exact_and_colours_are_near():
    grey = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 1), np.uint8)
    frames, durations, loop = read_gif(gif(grey, 8))
    np.testing.assert_array_equal(frames, np.broadcast_to(grey, (4, 9, 7, 3)))
    assert durations == [120, 130, 130, 120] and loop == 0  # eighths of a second, but for a hundredth
    slope = np.linspace(0, 255, 32).astype(np.uint8)
    colours = np.stack(np.meshgrid(slope, slope[:1], slope, indexing='ij'), axis=-1)[:, 0][None]
    found, _, _ = read_gif(gif(colours))
    assert np.abs(found.astype(int) - colours).mean() < 6


def test_a_frame_is_shown_as_long_as_its_rate_says():
    frames = np.arange(30, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    for rate, seconds in ((30, 1), (7, 30 / 7), (None, 30 / 8), (200, 30 / 50)):
        assert sum(read_gif(gif(frames, rate))[1]) == pytest.approx(1000 * seconds, abs=5)


def test_columns_of_an_animation_are_named():
    x = np.random.default_rng(0).integers(0, 256, (3, 2, 64, 64, 1), np.uint8)
    moving = Animation(tuple(sheets.rows({'samples': frame}) for frame in x)).of_columns(('a', 'b'))
    ((name, content),) = moving.files('m').items()
    expected = [sheets.rows({'samples': frame}, ('a', 'b')).captioned() for frame in x]
    assert name == 'm.gif'
    np.testing.assert_array_equal(read_gif(content)[0], expected)


def test_mp4_is_what_players_read():
    av = pytest.importorskip('av', reason="pip install 'vq_jax[video]'")
    slope = np.linspace(40, 200, 15).astype(np.uint8)  # an odd number of pixels, which H.264 cannot have
    frames = (
        (slope[None, None, :, None] + np.arange(6)[:, None, None, None] * 5).astype(np.uint8).repeat(9, 1)
    )
    content = mp4(frames, 12.5)
    with av.open(io.BytesIO(content)) as container:
        (stream,) = container.streams.video
        assert stream.average_rate == 12.5 and stream.codec_context.name == 'h264'
        found = np.stack([frame.to_ndarray(format='rgb24') for frame in container.decode(stream)])
    assert found.shape == (6, 10, 16, 3)
    assert np.abs(found[:, :9, :15].astype(int) - frames).max() <= 4
    assert mp4(frames, 12.5) == content


def test_mp4_needs_a_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(
        UserError, match=r"install the package av by pip install 'vq_jax\[video\]', or write a GIF"
    ):
        mp4(np.zeros((2, 8, 8, 3), np.uint8))

"""The files that commands write of the images they make."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vq_jax import sample_flags
from vq_jax.errors import UserError
from vq_jax.media.captions import HEIGHT, width_of
from vq_jax.media.sheets import grid
from vq_jax.spec import Spec


@pytest.mark.parametrize('captions', [None, ['a', 'b', 'c', 'd']])
def test_a_sheet_has_a_title(tmp_path, captions):
    images = np.full((4, 8, 8, 1), 200, np.uint8)
    title = 'four samples of a run with a long name, step 1,000'
    sample_flags.write(tmp_path / 'x.png', images, Spec('image', (8, 8, 1)), title, captions)
    sheet = np.asarray(Image.open(tmp_path / 'x.png'))
    height, width, _ = grid(images).shape
    assert sheet.shape == (2 + HEIGHT + height - 2 + 2 * HEIGHT * bool(captions), width_of(title), 3)
    assert (sheet[2 : 2 + HEIGHT, width:] < 128).any()  # to its end
    np.testing.assert_array_equal(sheet[2 + HEIGHT : 64 + HEIGHT, 2:66], 200)


def test_a_sheet_of_too_many_images_is_refused_before_they_are_made():
    sheet, arrays = Path('x.png'), Path('x.npz')
    sample_flags.check_fits(sheet, 4096, Spec('image', (256, 256, 3)))
    sample_flags.check_fits(arrays, 10**7, Spec('image', (256, 256, 3)))
    for n, shape, most in ((4097, (256, 256, 3), '4,096'), (10**6, (8, 8, 1), '65,536')):
        with pytest.raises(
            UserError, match=f'^{n} images do not fit on a sheet; ask for {most} or fewer, or'
        ):
            sample_flags.check_fits(sheet, n, Spec('image', shape))


def test_of_samples_too_large_for_any_file_none_are_asked_for(tmp_path):
    with pytest.raises(UserError, match=r'do not fit in a file; give --output a name that ends in \.npz'):
        sample_flags.check_fits(tmp_path / 'x.wav', 1, Spec('audio', (2**31 - 1, 1), rate=8000))


VIDEO = Spec('video', (5, 8, 8, 1), 10)


@pytest.fixture
def videos():
    return np.random.default_rng(0).integers(0, 256, (3, 5, 8, 8, 1), np.uint8)


@pytest.mark.parametrize('captions', [None, ['a', 'b', 'c']])
def test_videos_move_side_by_side(tmp_path, videos, captions):
    sample_flags.write(tmp_path / 'x.gif', videos, VIDEO, 'noise', captions)
    with Image.open(tmp_path / 'x.gif') as image:
        assert image.n_frames == 5 and image.info['duration'] == 100
        for t in range(5):
            image.seek(t)
            shown = np.asarray(image.convert('RGB'))[2 + HEIGHT : 64 + 2 + HEIGHT, 2:66]
            np.testing.assert_array_equal(shown[::8, ::8, :1], videos[0, t])
            below = np.asarray(image.convert('RGB'))[66 + HEIGHT : 66 + 2 * HEIGHT, 2:66]
            assert (below < 128).any() or not captions


def test_each_video_has_a_file_of_its_own(tmp_path, videos):
    sample_flags.write(tmp_path / 'x', videos, VIDEO, 'noise')
    assert sorted(path.name for path in (tmp_path / 'x').iterdir()) == ['0.gif', '1.gif', '2.gif']
    with Image.open(tmp_path / 'x' / '1.gif') as image:
        image.seek(3)
        np.testing.assert_array_equal(image.convert('L'), videos[1, 3, ..., 0])
    sample_flags.write(tmp_path / 'x.npz', videos, VIDEO, 'noise')
    np.testing.assert_array_equal(np.load(tmp_path / 'x.npz')['videos'], videos)


def test_videos_of_a_film(tmp_path, videos):
    av = pytest.importorskip('av', reason="pip install 'vq_jax[video]'")
    sample_flags.check_fits(tmp_path / 'x.mp4', 3, VIDEO)
    sample_flags.write(tmp_path / 'x.mp4', videos, VIDEO, 'noise')
    with av.open(str(tmp_path / 'x.mp4')) as film:
        frames = [frame.to_ndarray(format='gray') for frame in film.decode(video=0)]
    assert len(frames) == 5
    middles = frames[2][2 + HEIGHT + 4 : 66 + HEIGHT : 8, 6:66:8].astype(int)
    assert np.abs(middles - videos[0, 2, ..., 0]).mean() < 10


def test_what_an_animation_cannot_hold_is_refused_before_it_is_made(monkeypatch):
    with pytest.raises(UserError, match=r'10000 videos do not fit in a file; ask for 1,310 or fewer'):
        sample_flags.check_fits(Path('x.gif'), 10_000, Spec('video', (50, 64, 64, 3)))
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(UserError, match=r"pip install 'vq_jax\[video\]', or write a GIF"):
        sample_flags.check_fits(Path('x.mp4'), 1, VIDEO)

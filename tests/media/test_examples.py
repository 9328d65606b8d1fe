"""Examples of any kind as sheets and sounds."""

import io

import numpy as np
import pytest
from PIL import Image

from vq_jax.media import Animation, Sheet, Sound, code_images, image_size, sheets, show, wav
from vq_jax.media.examples import as_images
from vq_jax.media.spectrograms import spectrogram, waveform
from vq_jax.spec import Spec


def test_images_are_shown_as_they_are():
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3), np.uint8)
    batches = {'originals': x[0], 'reconstructions': x[1]}
    shown = show('reconstructions', batches, Spec('image', (64, 64, 3)), ('a', 'b', 'c'))
    assert list(shown) == ['reconstructions']
    np.testing.assert_array_equal(shown['reconstructions'].image, sheets.rows(batches).image)
    assert shown['reconstructions'].columns == ('a', 'b', 'c')


def test_sound_is_shown_and_heard():
    x = np.random.default_rng(0).integers(-(2**15), 2**15, (2, 3, 500, 1), np.int16)
    spec = Spec('audio', (500, 1), rate=8000)
    codes = code_images(np.arange(30).reshape(3, 10), 30, spec)
    assert image_size(spec) == as_images(x[0], spec).shape[1:3] == (176, 192)
    batches = {'originals': x[0], 'reconstructions': x[1]}
    shown = show('reconstructions', {**batches, 'codes': codes}, spec)
    sheet, sound = shown['reconstructions'], shown['reconstructions_sound']
    assert isinstance(sheet, Sheet) and sheet.rows == ('originals', 'reconstructions', 'codes')
    np.testing.assert_array_equal(sheet.image[2:50, 2:194], waveform(x[0, 0]))
    np.testing.assert_array_equal(sheet.image[50:178, 2:194], spectrogram(x[0, 0], 8000))
    # Each original is followed by its reconstruction.
    assert isinstance(sound, Sound) and sound.rate == 8000
    np.testing.assert_array_equal(sound.recordings, [x[0, 0], x[1, 0], x[0, 1], x[1, 1], x[0, 2], x[1, 2]])
    samples, rate = wav.read(sound.files('a')['a.wav'])
    assert rate == 8000 and samples.shape == (6 * (500 + 2000), 1)  # a quarter of a second between them
    np.testing.assert_array_equal(samples[2500:3000], x[1, 0])
    assert not samples[500:2500].any()
    cues = wav.read_cues(sound.files('a')['a.wav'])
    assert cues[:3] == ((0, 'originals 1'), (2500, 'reconstructions 1'), (5000, 'originals 2'))
    alone = Sound(x[0, :1], 8000).files('a')['a.wav']
    np.testing.assert_array_equal(wav.read(alone)[0], x[0, 0])  # nothing follows for which to pause
    assert list(show('codes', {'codes': codes}, spec)) == ['codes']
    silent = Spec('audio', (500, 1))
    assert list(show('reconstructions', batches, silent)) == ['reconstructions']


def test_video_is_shown_as_frames_side_by_side():
    x = np.random.default_rng(0).integers(0, 256, (2, 15, 4, 6, 1), np.uint8)
    spec = Spec('video', (15, 4, 6, 1), rate=8)
    assert image_size(spec) == (4, 8 * 6)
    np.testing.assert_array_equal(as_images(x, spec)[:, :, 6:12], x[:, 2])  # of 15 frames each second
    codes = np.random.default_rng(1).integers(0, 7, (2, 15, 2, 3))
    maps = code_images(codes, 7, spec)
    small = sheets.code_maps(codes.reshape(2, 30, 3), 7, (30, 3)).reshape(2, 15, 2, 3, 3)
    np.testing.assert_array_equal(maps[:, :, -6:], small[:, 14].repeat(2, 1).repeat(2, 2))
    shown = show('reconstructions', {'originals': x, 'codes': maps}, spec, ('a', 'b'))
    sheet, moving = shown['reconstructions'], shown['reconstructions_video']
    assert sheet.rows == tuple(
        f'{what}, video {video}' for video in ('1 (a)', '2 (b)') for what in ('originals', 'codes')
    )
    assert sheet.columns == tuple(f'frame {t}' for t in range(1, 16, 2))
    of_codes = maps.reshape(2, 4, 8, 6, 3).swapaxes(1, 2)
    strips = x[0, ::2], of_codes[0], x[1, ::2], of_codes[1]
    expected = sheets.rows(dict(zip(sheet.rows, strips, strict=True)))
    np.testing.assert_array_equal(sheet.image, expected.image)
    # A frame has the videos side by side.
    assert isinstance(moving, Animation) and moving.rate == 8 and len(moving.sheets) == 15
    np.testing.assert_array_equal(moving.sheets[9].image, sheets.rows({'originals': x[:, 9]}).image)
    assert moving.sheets[9].columns == ('a', 'b')
    assert list(show('codes', {'codes': maps}, spec)) == ['codes']
    short = Spec('video', (2, 4, 6, 1))
    assert as_images(x[:, :2], short).shape[1:3] == image_size(short) == (4, 12)


def test_files_of_a_sheet():
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    ((name, content),) = Sheet(image).files('a').items()
    assert name == 'a.png'
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), image)
    sheet = sheets.rows({'originals': image[None]})
    np.testing.assert_array_equal(Image.open(io.BytesIO(sheet.files('b')['b.png'])), sheet.captioned())


@pytest.mark.parametrize(
    'frames, positions, columns',
    [
        (7, 4, [0, 1, 1, 2, 2, 3, 3]),
        (17, 5, [0, 1, 2, 2, 3, 3, 4, 4]),  # of frames 0, 2, 5, 7, 9, 11, 14 and 16
        (8, 2, [0] * 4 + [1] * 4),
        (3, 3, [0, 1, 2]),
        (1, 1, [0]),
    ],
)
def test_codes_stand_below_the_frames_that_they_are_of(frames, positions, columns):
    codes = np.arange(positions).reshape(1, positions, 1, 1)
    maps = code_images(codes, positions, Spec('video', (frames, 2, 4, 1)))
    colours = sheets.code_maps(codes.reshape(1, 1, -1), positions, (1, positions))[0, 0]
    np.testing.assert_array_equal(maps[0, 0, ::4], colours[columns])


def test_codes_of_one_axis_are_stripes():
    codes = np.array([[3, 1, 2], [0, 0, 1]])
    drawn = code_images(codes, 4, Spec('audio', (12, 1)))
    assert drawn.shape == (2, 176, 192, 3)
    np.testing.assert_array_equal(drawn, np.broadcast_to(drawn[:, :1], drawn.shape))
    np.testing.assert_array_equal(drawn[:, 0, ::64], sheets.code_maps(codes[:, None], 4, (1, 3))[:, 0])
    grid = codes.reshape(2, 1, 3)
    np.testing.assert_array_equal(
        code_images(grid, 4, Spec('image', (2, 6, 1))), sheets.code_maps(grid, 4, (2, 6))
    )


def test_other_kinds_are_refused():
    with pytest.raises(ValueError, match='nothing shows the kind text'):
        as_images(np.zeros((1, 4), np.int32), Spec('text', (4,)))

"""Videos that a user gives, brought to what a model takes."""

import numpy as np
import pytest
from PIL import Image

from tests.clips import animated, coded, decoded, frames
from vq_jax.data import DataConfig
from vq_jax.data.transforms import VideoTransform
from vq_jax.data.transforms.video import check_video
from vq_jax.errors import UserError
from vq_jax.spec import Spec

SPEC = Spec('video', (4, 8, 8, 1))
IMAGES = np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)


def prepared(file, spec=SPEC, whole=False, **options):
    made, mask = VideoTransform.prepare(file, None, spec, DataConfig(**options), whole)
    assert mask is None and made.dtype == np.uint8
    return made


def test_the_clip_is_the_middle(tmp_path):
    """Of a file, its content, a folder of frames and an array alike."""
    content = animated(IMAGES, 'png')
    (tmp_path / 'x.apng').write_bytes(content)
    (tmp_path / 'x').mkdir()
    for t, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / 'x' / f'{t}.png')
    files = tmp_path / 'x.apng', str(tmp_path / 'x.apng'), content, tmp_path / 'x', IMAGES[..., None]
    for file in files:
        np.testing.assert_array_equal(prepared(file)[..., 0], IMAGES[2:6])
        np.testing.assert_array_equal(prepared(file, whole=True)[..., 0], IMAGES)
    for file in files[:4]:
        np.testing.assert_array_equal(prepared(file, frame_stride=2)[..., 0], IMAGES[1:8:2])
    for file in files[:3]:  # which say that there are ten frames a second
        np.testing.assert_array_equal(prepared(file, frame_rate=5)[..., 0], IMAGES[:8:2])
    # An array is of the model's rate and stride already.
    made = prepared(IMAGES[..., None], frame_rate=5, frame_stride=2)
    np.testing.assert_array_equal(made[..., 0], IMAGES[2:6])


def test_size_and_channels_are_those_of_the_model():
    content = coded(frames(8))
    made = prepared(content, Spec('video', (3, 16, 16, 1)), image_size=16, frames=3)
    large = [
        Image.fromarray(image).convert('L').resize((24, 16), Image.Resampling.LANCZOS)
        for image in decoded(content)[2:5]
    ]
    np.testing.assert_array_equal(made[..., 0], [np.asarray(image)[:, 4:20] for image in large])


def test_a_video_is_opened_before_it_is_taken(tmp_path):
    (tmp_path / 'x.gif').write_bytes(animated(IMAGES))
    check_video(tmp_path / 'x.gif')
    with pytest.raises(UserError, match=r'cannot be taken \(it has no frames\); give another video'):
        check_video(tmp_path)  # in which a GIF is no frame


@pytest.mark.parametrize(
    ('file', 'options', 'words'),
    [
        (7, {}, 'the video is of type int; give a path'),
        (b'no video', {}, r'the video cannot be taken \(it is none of MP4.*\); give another video'),
        ('/nowhere/x.mp4', {}, r'/nowhere/x\.mp4 cannot be taken \(No such file or directory\)'),
        (IMAGES[:3, ..., None], {}, 'it has 3 frames, and a clip of 4 takes 4'),
        (np.zeros((5, 6, 8, 1), np.uint8), {}, 'the video is 8x6 pixels and the model was trained on 8x8'),
        (np.zeros((5, 8, 8, 1)), {}, 'the video is float64'),
        (np.zeros((8, 8), np.uint8), {}, 'give a path'),
    ],
)
def test_what_cannot_be_taken(file, options, words):
    with pytest.raises(UserError, match=words):
        prepared(file, **options)


def test_a_mask_is_an_image_for_all_frames_or_a_video_of_as_many(tmp_path):
    video, still = IMAGES[..., None], np.zeros((8, 8), bool)
    still[2:4] = True
    moving = np.random.default_rng(1).random((9, 8, 8)) < 0.3
    (tmp_path / 'frames').mkdir()
    for t, image in enumerate(moving):
        Image.fromarray(image).save(tmp_path / 'frames' / f'{t}.png')
    Image.fromarray(still).save(tmp_path / 'mask.bmp')
    Image.fromarray(still).save(tmp_path / 'mask.png')
    grey = np.uint8(255 * moving)
    stills = still, Image.fromarray(still), tmp_path / 'mask.bmp', str(tmp_path / 'mask.png')
    videos = moving, grey, tmp_path / 'frames', animated(grey), animated(grey, 'png')
    for masks, expected in ((stills, np.stack([still] * 9)), (videos, moving)):
        for mask in masks:
            frames, found = VideoTransform.prepare(video, mask, SPEC, DataConfig(), True)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(frames, video)
            clip, found = VideoTransform.prepare(video, mask, SPEC, DataConfig())
            np.testing.assert_array_equal(found, expected[2:6])
            np.testing.assert_array_equal(clip, video[2:6])


def test_a_mask_is_brought_to_the_size_of_the_model_with_its_video():
    wide = np.zeros((12, 16), bool)
    wide[:, 8:] = True
    video = np.zeros((5, 12, 16, 1), np.uint8)
    _, mask = VideoTransform.prepare(video, wide, SPEC, DataConfig(image_size=8))
    assert mask.shape == (4, 8, 8) and not mask[..., :4].any() and mask[..., 4:].all()


@pytest.mark.parametrize(
    ('mask', 'words'),
    [
        (np.ones((3, 8, 8), bool), 'the video has 9 frames and its mask 3; give a mask of as many, or an'),
        (np.ones((6, 8), bool), 'the video is 8x8 pixels and its mask 8x6; make them alike'),
        (np.zeros((8, 8), bool), 'nothing of the mask is white where the model sees it'),
        (b'no image', r'the mask cannot be decoded \(not an image in one of'),
        ('/nowhere/x.png', r'/nowhere/x\.png cannot be read \(No such file or directory\); give an image or'),
        (animated(IMAGES[:2])[:60], r'the mask cannot be taken \(.*\); give another mask'),
        (np.ones((8, 8)), 'the mask is float64 of shape'),
        (7, 'the mask is of type int; give a path'),
    ],
)
def test_masks_that_are_none(mask, words):
    with pytest.raises(UserError, match=words):
        VideoTransform.prepare(IMAGES[..., None], mask, SPEC, DataConfig())

"""What is shown of codes."""

import numpy as np

from vq_jax.media.captions import HEIGHT
from vq_jax.ops.usage import CodeCounts
from vq_jax.spec import Spec
from vq_jax.tasks.code_reports import codebook_media, reconstruction_media


def test_a_codebook_shows_the_mean_of_what_codes_decode_to():
    """The most used in the set first; those that are not among the predictions are left out."""
    # Two images of 3x1 cells of 64x64 pixels.
    levels = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
    rebuilt = np.broadcast_to(levels[..., None], (2, 3, 3)).astype(np.uint8)  # [image cell channel]
    rebuilt = rebuilt[:, :, None].repeat(64, 1).repeat(64, 2)  # [2 192 64 3]
    codes = np.array([[5, 7, 5], [7, 7, 2]], np.int32)[..., None, None]
    fine = np.zeros((2, 5, 1, 2), np.int32)  # five cells do not divide 192 pixels
    predictions = {'reconstructions': rebuilt, 'codes_scale_0': codes, 'codes_scale_1': fine}
    counts = {
        'codes_scale_0': (CodeCounts.of(np.array([5, 7, 7, 9, 9, 9, 9, 5, 7, 2])),),
        'codes_scale_1': (CodeCounts.of(fine[..., 0]), CodeCounts.of(fine[..., 1])),
    }
    spec = Spec('image', (192, 64, 3))
    shown = codebook_media(predictions, counts, ((16,), (4, 4)), spec)
    assert list(shown) == ['codebook_scale_0']
    sheet = shown['codebook_scale_0']
    assert sheet.rows == ('what 3 of 16 codes decode to, in the mean; the most used first',)
    assert sheet.image.shape == (2 + 2 * (66 + HEIGHT), 2 + 2 * 66, 3)
    tall = 66 + HEIGHT
    cells = [
        sheet.image[2 + tall * i : 66 + tall * i, 2 + 66 * j : 66 + 66 * j] for i in (0, 1) for j in (0, 1)
    ]
    for cell, level in zip(cells, (np.mean([20, 40, 50]), np.mean([10, 30]), 60, 255), strict=True):
        np.testing.assert_array_equal(cell, np.full((64, 64, 3), round(level)))
    captions = [sheet.image[66 : 66 + HEIGHT, left : left + 64] for left in (2, 68)]
    assert all((caption < 128).any() for caption in captions) and not np.array_equal(*captions)
    assert codebook_media(predictions, counts, ((16,), (4, 4)), Spec('audio', (192, 3))) == {}


def test_patches_of_any_rank_are_those_of_their_codes():
    """Of video too, whose frames stand side by side."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(2 * 3 * 2).reshape(1, 2, 3, 2, 1).astype(np.int32)
    rebuilt = np.uint8(codes).repeat(2, 1).repeat(32, 2).repeat(32, 3)
    counts = {'codes': (CodeCounts.of(codes),)}
    predictions = {'reconstructions': rebuilt, 'codes': codes}
    sheet = codebook_media(predictions, counts, ((12,),), Spec('video', rebuilt.shape[1:]))['codebook']
    tall = 34 + HEIGHT
    for code in range(12):  # equally used: by their numbers, four a row
        top, left = 2 + tall * (code // 4), 2 + 66 * (code % 4)
        assert (sheet.image[top : top + 32, left : left + 64] == code).all()


def test_code_maps_are_named_by_scale_and_depth():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    codes = {
        'codes_scale_0': np.zeros((2, 2, 2, 1), np.int32),
        'codes_scale_1': np.zeros((2, 4, 4, 2), np.int32),
    }
    means = {
        name: tuple(CodeCounts.of(depth) for depth in np.moveaxis(c, -1, 0)) for name, c in codes.items()
    }
    predictions = {'images': images, 'reconstructions': images, **codes}
    sheet = reconstruction_media(predictions, means, ((5,), (1000, 7)), Spec('image', images.shape[1:]))
    assert sheet['reconstructions'].rows == (
        'originals',
        'reconstructions',
        'codes scale 0: 2x2 of 5, each in a colour',
        'codes scale 1 depth 0: 4x4 of 1,000, each in a colour',
        'codes scale 1 depth 1: 4x4 of 7, each in a colour',
    )

"""Sheets of images, their captions, code maps and histograms."""

import numpy as np
import pytest

from vq_jax.media import captions, sheets
from vq_jax.media.captions import HEIGHT


def test_rows_hold_the_images():
    grey = np.arange(2 * 64 * 64, dtype=np.uint8).reshape(2, 64, 64, 1)
    colour = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    sheet = sheets.rows({'grey': grey, 'colour': colour}).image
    assert sheet.shape == (2 + 2 * 66, 2 + 2 * 66, 3) and sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[2:66, 2:66], grey[0].repeat(3, -1))
    np.testing.assert_array_equal(sheet[68:132, 68:132], colour[1])


@pytest.mark.parametrize('columns', [(), ('a cat', 'a dog', 'a word that no column has room for')])
def test_captions_stand_over_rows_and_columns(columns):
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    sheet = sheets.rows({'originals': images, 'images turned round': images[::-1]}, columns)
    drawn = sheet.captioned()
    lines, rest = drawn[2 : 2 + HEIGHT * bool(columns)], drawn[2 + HEIGHT * bool(columns) :]
    assert drawn.shape[1:] == sheet.image.shape[1:] and drawn.dtype == np.uint8
    captions, rows = np.split(rest.reshape(2, HEIGHT + 66, *rest.shape[1:]), [HEIGHT], axis=1)
    np.testing.assert_array_equal(rows.reshape(2 * 66, *rest.shape[1:]), sheet.image[2:])
    # Each says something of its own; what has no room is cut off.
    assert not np.array_equal(*captions) and (captions < 128).any((1, 2, 3)).all()
    heads = [lines[:, 2 + 66 * i : 68 + 66 * i] for i in range(len(columns))]
    assert all((head < 128).any() for head in heads)
    alone = sheets.rows({'originals': images[:1]}, ('a cat',) if columns else ()).captioned()
    np.testing.assert_array_equal(alone[: 2 + HEIGHT], drawn[: 2 + HEIGHT, : alone.shape[1]])


def test_words_of_captions_stand_apart():
    """A gap between words is wider than one between letters, also where digits leave little of it."""

    def widest_gap(text):
        ink = np.flatnonzero((captions.line(text, 200) < 128).any((0, 2)))
        return np.diff(ink).max()

    for text in ('4x4 of 64', 'step 1,000', 'a b'):
        assert widest_gap(text) >= 2 * widest_gap(text.replace(' ', '')) > 0, text
        assert captions.width_of(text) > captions.width_of(text.replace(' ', '')) + 3


def test_a_sheet_is_as_wide_as_its_captions():
    sheet = sheets.rows({'w' * 50: np.zeros((1, 64, 64, 1), np.uint8)})
    drawn = sheet.captioned()
    assert drawn.shape[1] > 300 and (drawn[:HEIGHT, 290:] < 128).any()
    np.testing.assert_array_equal(drawn[2 + HEIGHT :, :68], sheet.image[2:])
    assert (drawn[2 + HEIGHT :, 68:] == 255).all()


def test_code_maps_tell_codes_apart():
    codes = np.arange(64).reshape(1, 8, 8)
    drawn = sheets.code_maps(codes, 64, (16, 16))
    assert drawn.shape == (1, 16, 16, 3)
    assert len({tuple(p) for p in drawn[0, ::2, ::2].reshape(-1, 3).tolist()}) == 64


@pytest.mark.parametrize('k', [3, 512, 5000])
def test_histogram_is_tallest_at_the_left(k):
    shares = np.random.default_rng(0).dirichlet(np.full(k, 0.3))
    ink = (sheets.histogram(shares, k).image == sheets._INK).all(-1).sum(0)
    assert ink[0] == ink.max() > 0 and (np.diff(ink) <= 1).all()


@pytest.mark.parametrize('size, columns', [((64, 64), 10), ((79, 64), 10), ((64, 512), 4)])
def test_a_hundred_images_stand_in_ten_columns_and_strips_in_fewer(size, columns):
    """With captions under them too, so that samples of ten classes in turn have a column for each class."""
    assert sheets.grid(np.zeros((100, *size, 1), np.uint8)).shape[1] == columns * (size[1] + 2) + 2

"""Patches against slices, and values for each axis."""

import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.ops.grids import any_within, from_patches, mean_within, over_grid, per_axis, to_patches


@pytest.mark.parametrize('grid, size', [((12,), 4), ((4, 6), 2), ((3, 4, 6), (1, 2, 3))])
def test_patches_hold_what_slices_hold_and_come_back(grid, size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *grid, 5))
    sizes = np.broadcast_to(size, len(grid))
    patches = to_patches(x, size)
    for cell in np.ndindex(*(np.array(grid) // sizes)):
        slices = tuple(slice(i * s, (i + 1) * s) for i, s in zip(cell, sizes, strict=True))
        expected = x[(slice(None), *slices)].reshape(2, -1)
        np.testing.assert_array_equal(patches[(slice(None), *cell)], expected)
    np.testing.assert_array_equal(from_patches(patches, size), x)


@pytest.mark.parametrize('grid, coarser', [((12,), (3,)), ((4, 6), (4, 3)), ((3, 4, 6), (1, 2, 6))])
def test_where_a_coarser_grid_has_something_of_a_mask(grid, coarser):
    mask = np.random.default_rng(0).random((2, *grid)) < 0.1
    expected = np.zeros((2, *coarser), bool)
    for example, *place in np.argwhere(mask):
        expected[(example, *(i * m // n for i, m, n in zip(place, coarser, grid, strict=True)))] = True
    np.testing.assert_array_equal(any_within(mask, coarser), expected)


@pytest.mark.parametrize('frames, positions', [(9, 3), (5, 2), (4, 4), (1, 1)])
def test_positions_of_a_causal_model_within_a_mask(frames, positions):
    """The first is of the first frame alone, and the others are of as many frames each."""
    for frame in range(frames):
        mask = np.zeros((1, frames, 2), bool)
        mask[0, frame, 1] = True
        found = any_within(mask, (positions, 1), first_apart=True)
        each = (frames - 1) // max(1, positions - 1)
        expected = [frame == 0, *((i * each < frame <= (i + 1) * each) for i in range(positions - 1))]
        np.testing.assert_array_equal(found[0, :, 0], expected)


def test_the_share_of_a_cell_that_is_in_a_mask():
    mask = np.random.default_rng(0).random((2, 5, 4, 6)) < 0.5
    found = mean_within(mask, (3, 2, 3), first_apart=True)
    apart = mask[:, :1].reshape(2, 1, 2, 2, 3, 2).mean((3, 5))
    others = mask[:, 1:].reshape(2, 2, 2, 2, 2, 3, 2).mean((2, 4, 6))
    np.testing.assert_allclose(found, np.concatenate([apart, others], 1), rtol=1e-6)
    np.testing.assert_array_equal(found > 0, any_within(mask, (3, 2, 3), first_apart=True))


def test_per_axis():
    assert (
        per_axis(4, 2, 'strides') == per_axis((4,), 2, 'strides') == per_axis([4, 4], 2, 'strides') == (4, 4)
    )
    assert per_axis((1, 2, 2), 3, 'strides') == (1, 2, 2)
    with pytest.raises(UserError, match=r'strides is \(1, 2\); give one number for all 3 axes of the grid'):
        per_axis((1, 2), 3, 'strides')


def test_over_grid():
    x, vectors = np.zeros((2, 3, 4, 5, 6)), np.arange(12.0).reshape(2, 6)
    assert over_grid(vectors, x).shape == (2, 1, 1, 1, 6)
    np.testing.assert_array_equal((x + over_grid(vectors, x))[:, 1, 2, 3], vectors)
    assert over_grid(vectors[:, 0], x).shape == (2, 1, 1, 1)

"""Interpolation beside PyTorch, and over grids of other ranks."""

import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops.interpolation import area, bicubic

# `torch.nn.functional.interpolate` (PyTorch 2.13.0, CPU) of the numbers below, on a grid of 5x3, by 'bicubic'
# to 8x7 and by 'area' to 3x2.
BICUBIC = [
    [1.92275, 1.73517, 1.29889, 1.07918, 1.39752, 1.90284, 2.13125],
    [1.53442, 1.30613, 0.81499, 0.46953, 0.59894, 0.93884, 1.07770],
    [1.01999, 0.78155, 0.28948, -0.11238, -0.11279, 0.09769, 0.16963],
    [0.85376, 0.78623, 0.61738, 0.56143, 0.75246, 1.01587, 1.13930],
    [0.62137, 0.36272, -0.27960, -0.50254, 0.20073, 1.17928, 1.63674],
    [0.55636, -0.12457, -1.70424, -2.50966, -1.38008, 0.42649, 1.24160],
    [1.68840, 1.03230, -0.44047, -1.31320, -0.54432, 0.85575, 1.46886],
    [2.68803, 2.17237, 1.05841, 0.28701, 0.60890, 1.40820, 1.73781],
]
AREA = [
    [0.89741, 0.72178],
    [-0.03136, 0.04837],
    [0.01890, -0.02750],
]


def numbers():
    return np.random.RandomState(0).standard_normal((1, 5, 3, 2)).astype(np.float32)[..., :1]


def test_both_are_those_of_pytorch():
    np.testing.assert_allclose(bicubic(numbers(), (8, 7))[0, ..., 0], BICUBIC, atol=2e-5)
    np.testing.assert_allclose(area(numbers(), (3, 2))[0, ..., 0], AREA, atol=2e-5)


@pytest.mark.parametrize('interpolate, sizes', [(bicubic, (7, 4, 6)), (area, (2, 1, 3))])
def test_axes_are_interpolated_one_by_one_and_the_same_size_changes_nothing(interpolate, sizes):
    x = np.random.RandomState(0).standard_normal((2, 5, 2, 4, 3)).astype(np.float32)
    one_by_one = x
    for axis, size in enumerate(sizes, 1):
        last = np.moveaxis(one_by_one, axis, -1)
        flat = interpolate(last.reshape(-1, last.shape[-1], 1), (size,))
        one_by_one = np.moveaxis(np.asarray(flat).reshape(*last.shape[:-1], size), -1, axis)
    np.testing.assert_allclose(interpolate(x, sizes), one_by_one, atol=1e-5)
    np.testing.assert_array_equal(interpolate(x, x.shape[1:-1]), x)
    assert interpolate(jnp.ones((1, 5, 2), jnp.bfloat16), (3,)).dtype == jnp.float32


def test_areas_that_divide_the_grid_have_its_means():
    x = np.random.RandomState(0).standard_normal((2, 6, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(area(x, (3, 2)), x.reshape(2, 3, 2, 2, 2, 3).mean((2, 4)), atol=1e-6)

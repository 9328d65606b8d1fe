"""Bytes and floats, losses, and metrics."""

import jax.numpy as jnp
import numpy as np

from vq_jax.ops import images, losses, metrics


def test_every_byte_comes_back():
    x = jnp.arange(256, dtype=jnp.uint8)
    floats = images.to_float(x)
    assert (floats.min(), floats.max()) == (-1, 1)
    np.testing.assert_array_equal(images.to_uint8(floats), x)
    np.testing.assert_array_equal(images.to_uint8(jnp.asarray([-7.0, 7.0])), [0, 255])


def test_every_sample_comes_back():
    x = jnp.arange(-(2**15), 2**15).astype(jnp.int16)
    floats = images.to_float(x)
    assert (floats.min(), floats[2**15], floats.max()) == (-1, 0, 1 - 2**-15)
    np.testing.assert_array_equal(images.to_integers(floats, jnp.int16), x)
    np.testing.assert_array_equal(
        images.to_integers(jnp.asarray([-7.0, 7.0]), jnp.int16), [-(2**15), 2**15 - 1]
    )
    assert images.to_integers(floats, jnp.uint8).dtype == jnp.uint8


def test_a_hole_has_the_mean_colour_of_the_rest():
    rng, grid = np.random.default_rng(0), (4, 5)
    x, mask = rng.integers(0, 256, (3, *grid, 3), np.uint8), rng.random((3, *grid)) < 0.4
    mask[2] = True
    filled = np.asarray(images.fill(x, mask))
    np.testing.assert_array_equal(filled[~mask], x[~mask])
    for number in (0, 1):
        mean = np.round(x[number][~mask[number]].mean(0))
        np.testing.assert_array_equal(
            filled[number][mask[number]], np.broadcast_to(mean, (mask[number].sum(), 3))
        )
    assert (filled[2] == 128).all()


def test_a_hole_in_a_video_has_what_is_in_the_nearest_frame():
    rng = np.random.default_rng(0)
    x, mask = rng.integers(0, 256, (2, 6, 3, 4, 3), np.uint8), rng.random((2, 6, 3, 4)) < 0.6
    mask[:, :, 0, 0] = True  # in all frames, where it has the mean
    expected = x.copy()
    for b, t, h, w in np.argwhere(mask):
        known = np.flatnonzero(~mask[b, :, h, w])
        if len(known):
            nearest = known[np.argmin(np.abs(known - t))]  # of two the earlier
            expected[b, t, h, w] = x[b, nearest, h, w]
        else:
            expected[b, t, h, w] = np.round(x[b][~mask[b]].mean(0))
    np.testing.assert_array_equal(images.fill(x, mask), expected)
    assert (np.asarray(images.fill(x, np.ones_like(mask))) == 128).all()


def test_a_hole_in_sound_has_the_mean_of_the_rest():
    x = np.array([[[100], [-300], [7]], [[1], [2], [3]]], np.int16)
    mask = np.array([[False, False, True], [True, True, True]])
    filled = np.asarray(images.fill(x, mask))
    assert filled.dtype == np.int16
    np.testing.assert_array_equal(filled[..., 0], [[100, -300, -100], [0, 0, 0]])


def test_losses_are_per_example():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 4, 5, 2))
    np.testing.assert_allclose(losses.mean_square(x, y), np.square(x - y).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(losses.mean_absolute(x, y), np.abs(x - y).mean((1, 2, 3)), rtol=1e-5)


def test_snr():
    rng = np.random.default_rng(0)
    x, y = rng.integers(-(2**15), 2**15, (2, 3, 50, 1), np.int16)
    power, noise = (np.square(np.float64(z)).sum((1, 2)) for z in (y, np.float64(y) - x))
    np.testing.assert_allclose(metrics.snr(x, y), 10 * np.log10(power / noise), rtol=1e-4)
    silence = np.zeros_like(y)
    np.testing.assert_allclose(metrics.snr(silence, y), 0, atol=1e-5)
    assert metrics.snr(silence, silence)[0] == 0 and np.isfinite(metrics.snr(y, y)).all()


def test_psnr():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    mse = np.square(np.float64(x) - y).mean((1, 2, 3))
    np.testing.assert_allclose(metrics.psnr(x, y), 10 * np.log10(255**2 / mse), rtol=1e-5)
    assert np.isfinite(metrics.psnr(x, x)).all()
    x, y = rng.integers(-(2**15), 2**15, (2, 3, 50, 1), np.int16)
    mse = np.square(np.float64(x) - y).mean((1, 2))
    np.testing.assert_allclose(metrics.psnr(x, y), 10 * np.log10(65535**2 / mse), rtol=1e-5)
    x, y = rng.integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    assert metrics.psnr(x, x)[0] >= metrics.psnr(x, np.where(np.arange(3) == 0, x ^ 1, x))[0]

"""Against scikit-image and the figures of another implementation."""

import jax
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from vq_jax.ops import similarity
from vq_jax.ops.images import to_uint8
from vq_jax.ops.metrics import psnr, video_metrics
from vq_jax.tasks.perceptual import Perceptual

ms_ssim, ssim = jax.jit(similarity.ms_ssim), jax.jit(similarity.ssim)


@pytest.fixture(scope='module')
def images():
    """Smooth images in [-1, 1] and noisy copies."""
    rng = np.random.RandomState(8)
    a = np.cumsum(np.cumsum(rng.standard_normal((2, 192, 208, 3)), 1), 2)
    a = (a / np.abs(a).max()).astype('float32')
    return a, np.clip(a + 0.2 * rng.standard_normal(a.shape), -1, 1).astype('float32')


def test_ssim_equals_scikit_image(images):
    options = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False}
    expected = [
        structural_similarity(x / 2 + 0.5, y / 2 + 0.5, data_range=1.0, channel_axis=-1, **options)
        for x, y in zip(*images, strict=True)
    ]
    np.testing.assert_allclose(ssim(*images), expected, rtol=1e-4)


def test_nearly_constant_images(images):
    """Bright and dark ones, whose variance is a millionth of their mean square; scikit-image has float64."""
    rng = np.random.default_rng(0)
    for level in (-0.98, 0.98):
        x, y = (np.float32(level + 0.004 * rng.standard_normal((1, 32, 32, 1))) for _ in range(2))
        options = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'full': True}
        a, b = (np.float64(v[0, :, :, 0]) / 2 + 0.5 for v in (x, y))
        _, everywhere = structural_similarity(a, b, data_range=1.0, **options)
        np.testing.assert_allclose(ssim(x, y), everywhere[5:-5, 5:-5].mean(), atol=1e-6)


def test_both_equal_another_implementation(images):
    """Figures of `pytorch_msssim` 1.0.0 (ssim and ms_ssim of the same arrays, data_range=1)."""
    np.testing.assert_allclose(ssim(*images), [0.13584716618061066, 0.13963527977466583], rtol=1e-4)
    # Nearly exactly: that the five weights do not sum to one makes a difference of 4e-5.
    np.testing.assert_allclose(ms_ssim(*images), [0.6648463606834412, 0.6776477694511414], rtol=1e-5)


def test_small_images_have_fewer_scales(images):
    a, b = (x[:, :32, :32] for x in images)
    assert 0 < ms_ssim(a, b).min() < 1
    np.testing.assert_allclose(ms_ssim(a[:, :11, :11], b[:, :11, :11]), ssim(a[:, :11, :11], b[:, :11, :11]))


def test_a_negative_term_counts_as_zero():
    checks = np.indices((48, 48)).sum(0) % 2 * 0.2 - 0.1
    a = np.broadcast_to(checks[None, :, :, None], (1, 48, 48, 3)).astype('float32')
    assert ssim(a, -a) < -0.5
    assert ms_ssim(a, -a) == 0


def test_equal_and_opposite_images_have_finite_gradients(images):
    a = images[0][:, :24, :24]
    np.testing.assert_allclose(ms_ssim(a, a), 1.0, rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda x, b: ms_ssim(x, b).sum()))
    for b in (a, -a):
        assert np.isfinite(gradient(a, b)).all()


def test_videos_are_compared_frame_by_frame(images):
    x, y = (v[:, :64, :64].reshape(1, 2, 64, 64, 3) for v in images)
    bytes_of = to_uint8(x), to_uint8(y)
    found = jax.jit(video_metrics)(*bytes_of)
    options = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'data_range': 255}
    frames = zip(*(np.asarray(v[0]) for v in bytes_of), strict=True)
    expected = [structural_similarity(*pair, channel_axis=-1, **options) for pair in frames]
    np.testing.assert_allclose(found['ssim'], [np.mean(expected)], rtol=1e-4)
    np.testing.assert_allclose(found['psnr'], [np.mean(psnr(*(v[0] for v in bytes_of)))], rtol=1e-5)
    low = jax.eval_shape(video_metrics, *(v[:, :, :8] for v in bytes_of))
    assert set(low) == {'psnr'}  # for the window of the other there is no room
    distance = jax.jit(lambda x, y: Perceptual('ms_ssim').distance(None, x, y, 'float32'))(x, y)
    np.testing.assert_allclose(distance, [np.mean(1 - ms_ssim(x[0], y[0]))], rtol=1e-5)

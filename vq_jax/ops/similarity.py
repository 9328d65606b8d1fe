"""Structural similarity of images in [-1, 1] [b h w c], at least 11 pixels high and wide: float32 [b]."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Wang et al. 2003, "Multiscale structural similarity for image quality assessment", section 3.2.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11  # pixels
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for pixels in [0, 1]


def ssim(x: jax.Array, y: jax.Array) -> jax.Array:
    """Structural similarity of images.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
    equation 13, with its Gaussian window of 11 pixels, where the whole window lies in the image; the
    mean over positions and channels, at most 1 (equal images).
    """
    luminance, contrast = _terms(x, y)
    return jnp.mean(luminance * contrast, axis=(1, 2, 3))


def ms_ssim(x: jax.Array, y: jax.Array) -> jax.Array:
    """Structural similarity over several scales.

    Wang et al. 2003, equation 7, with its weights as published (they sum to 1.0001): contrast and structure
    at each scale, luminance at the coarsest; each scale halves the images. Images too small for five
    scales, which need 176 pixels, are given as many as the window fits into (four from 88 pixels on, three
    from 44), whose weights are divided by their sum. Negative terms, which have no real power, count as zero.
    From 0 to 1 (equal images).
    """
    scales = min(len(SCALE_WEIGHTS), int(np.log2(min(x.shape[1:3]) / WINDOW)) + 1)
    weights = np.array(SCALE_WEIGHTS[:scales])
    if scales < len(SCALE_WEIGHTS):
        weights = weights / weights.sum()
    result = 1.0
    for scale, weight in enumerate(weights):
        luminance, contrast = _terms(x, y)
        last = scale == scales - 1
        term = jnp.mean(luminance * contrast if last else contrast, axis=(1, 2))
        # A power's gradient is infinite at zero.
        result *= jnp.where(term > 0, jnp.maximum(term, 1e-6) ** weight, 0)
        if not last:
            x, y = _halved(x), _halved(y)
    return jnp.mean(result, axis=-1)


def _terms(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Luminance, and contrast times structure, at each position [b h' w' c]."""
    # In [0, 1], as published; luminance depends on where zero is.
    x, y = ((v.astype(jnp.float32) + 1) / 2 for v in (x, y))
    # Variances do not, and so are taken around the middle of both images, where rounding is least.
    middle = lax.stop_gradient(jnp.mean(x + y, axis=(1, 2), keepdims=True) / 2)
    x, y = x - middle, y - middle
    moments = _blurred(jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1))
    mx, my, xx, yy, xy = jnp.split(moments, 5, axis=-1)
    lx, ly = mx + middle, my + middle
    luminance = (2 * lx * ly + _C1) / (lx * lx + ly * ly + _C1)
    contrast = (2 * (xy - mx * my) + _C2) / (xx - mx * mx + yy - my * my + _C2)
    return luminance, contrast


def _blurred(x: jax.Array) -> jax.Array:
    """Weights by the Gaussian window along height, then width, where the window lies in the image."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window = (window / window.sum()).astype(np.float32)
    # Sums of shifted slices: a convolution with one channel a group is slow on CPUs.
    for axis in (1, 2):
        n = x.shape[axis] - WINDOW + 1
        shifted = (lax.slice_in_dim(x, i, i + n, axis=axis) * w for i, w in enumerate(window))
        x = functools.reduce(jnp.add, shifted)
    return x


def _halved(x: jax.Array) -> jax.Array:
    """Means of squares of 2x2 pixels, without an odd last row or column."""
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))

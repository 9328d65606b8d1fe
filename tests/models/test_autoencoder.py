"""The VQ-VAE's encoder and decoder."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.autoencoders import vqvae
from tests.initialised import initialised
from vq_jax.quantizers.vq import VectorQuantizer


def make(**options):
    quantizer = VectorQuantizer(num_codes=16, dim=5)
    sizes = {'channels': 8, 'residual_channels': 3, 'residual_blocks': 2, 'stages': 2}
    model = vqvae(quantizer, **sizes | options)
    images = jax.random.uniform(jax.random.key(0), (2, 16, 24, 3), minval=-1)
    return model, initialised(model.init, jax.random.key(1), images), images


def test_parameters_by_hand():
    def conv(k, c, d):
        return k * k * c * d + d

    block = conv(3, 8, 3) + conv(1, 3, 8)
    encoder = conv(4, 3, 8) + conv(4, 8, 8) + conv(3, 8, 8) + 2 * block + conv(1, 8, 5)
    decoder = conv(3, 5, 8) + 2 * block + conv(4, 8, 8) + conv(4, 8, 3)
    _, variables, _ = make()
    assert sum(x.size for x in jax.tree.leaves(variables['params'])) == encoder + decoder


def test_codes_stand_for_the_image():
    model, variables, images = make()
    outputs, quantized = model.apply(variables, images)
    (codes,) = model.apply(variables, images, method='encode')
    assert codes.shape == (2, 4, 6, 1) and outputs.shape == images.shape
    np.testing.assert_array_equal(codes, *quantized.codes)
    decoded = model.apply(variables, (codes,), method='decode')
    np.testing.assert_allclose(decoded, outputs, rtol=1e-4, atol=1e-5)


def test_bfloat16_computes_in_it_and_learns_in_float32():
    model, variables, images = make(dtype='bfloat16')
    outputs, quantized = model.apply(variables, images)
    assert outputs.dtype == quantized.loss.dtype == jnp.float32
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
    exact, _ = make()[0].apply(variables, images)
    assert not np.array_equal(outputs, exact)


def test_a_pixel_reaches_only_its_neighbourhood():
    """The code of a far corner does not depend on a pixel of the other."""
    model, variables, _ = make(residual_blocks=0)
    images = jnp.zeros((1, 64, 64, 3))
    z = model.apply(variables, images, method='project')
    changed = model.apply(variables, images.at[0, 0, 0].set(1.0), method='project')
    different = np.abs(np.asarray(z - changed)).max(-1)[0] > 0
    assert different[0, 0] and not different[4:, 4:].any()

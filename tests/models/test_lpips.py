"""LPIPS against its authors' code on the same random weights and images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.published import lpips_weights
from vq_jax.errors import UserError
from vq_jax.models.lpips import LPIPS, params_from_published

# Distances, and lengths of their gradients with respect to the first images, of lpips.LPIPS(net='vgg')
# (package lpips 0.1.4, PyTorch 2.13.0, CPU) with the weights of `lpips_weights` and the images below.
DISTANCES = [0.68073577, 0.010109332, 0.0]
GRADIENTS = [0.017497765, 0.0063256761, 0.0]


@pytest.fixture(scope='module')
def published():
    return lpips_weights()


@pytest.fixture(scope='module')
def images():
    rng = np.random.RandomState(7)
    x, y = (rng.uniform(-1, 1, (3, 48, 32, 3)).astype('float32') for _ in range(2))
    y[1], y[2] = x[1] + 0.1 * y[1], x[2]
    return x, y


def test_equals_its_authors_code(published, images):
    params = params_from_published(published)
    x, y = images

    def total(x, params):  # an argument: constants as large as these take long to compile
        distances = LPIPS().apply({'params': params}, x, y)
        return distances.sum(), distances

    gradients, distances = jax.jit(jax.grad(total, has_aux=True))(x, params)
    np.testing.assert_allclose(distances, DISTANCES, rtol=1e-4, atol=1e-9)
    lengths = np.sqrt(np.square(gradients).sum((1, 2, 3)))
    np.testing.assert_allclose(lengths, GRADIENTS, rtol=1e-3, atol=1e-6)
    # Grey images are taken as three equal channels.
    grey = [v[:1, :16, :16, :1] for v in (x, y)]
    distance = jax.jit(LPIPS().apply)
    colour = distance({'params': params}, *(jnp.repeat(v, 3, -1) for v in grey))
    np.testing.assert_allclose(distance({'params': params}, *grey), colour, rtol=1e-5)


def test_a_whole_lpips_network_is_read_too(published):
    stages = [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    indices = sorted({int(k.split('.')[1]) for k in published if k.startswith('features')})
    slices = dict(zip(indices, stages, strict=True))
    renamed = {}
    for name, value in published.items():
        first, number, *rest = name.split('.')
        if first == 'features':
            name = '.'.join(['net', f'slice{slices[int(number)] + 1}', number, *rest])
        renamed[name] = value
    a, b = params_from_published(published), params_from_published(renamed)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_weights_that_are_missing_or_of_another_network(published):
    heads = {k: v for k, v in published.items() if k.startswith('lin')}
    with pytest.raises(UserError, match='VGG-16'):
        params_from_published(heads)
    with pytest.raises(UserError, match='LPIPS heads'):
        params_from_published({k: v for k, v in published.items() if k not in heads})
    with pytest.raises(UserError, match='shape'):
        params_from_published({**published, 'features.0.weight': np.zeros((64, 1, 3, 3))})

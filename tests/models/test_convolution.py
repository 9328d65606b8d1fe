"""The modules against Flax's own, with the same parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.models.convolution import Conv, ConvTranspose, fold_weight_norm


@pytest.mark.parametrize('kernel, stride, padding', [(4, 2, 'SAME'), (3, 1, 'SAME'), (3, 2, 'VALID')])
@pytest.mark.parametrize('ours, flax', [(Conv, nn.Conv), (ConvTranspose, nn.ConvTranspose)])
def test_equal_flax_with_the_same_parameters(ours, flax, kernel, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    size, strides = (kernel, kernel), (stride, stride)
    module = ours(5, size, strides=stride, padding=padding)
    reference = flax(5, size, strides=strides, padding=padding)
    variables = module.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, reference.init(jax.random.key(1), x))
    np.testing.assert_allclose(
        module.apply(variables, x), reference.apply(variables, x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize('module', [Conv, ConvTranspose])
def test_bfloat16_computes_in_it_and_learns_in_float32(module):
    x = jnp.ones((1, 4, 4, 2))
    layer = module(3, dtype='bfloat16')
    variables = layer.init(jax.random.key(0), x)
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))
    assert layer.apply(variables, x).dtype == jnp.bfloat16


def test_without_bias():
    layer = Conv(3, use_bias=False)
    assert set(layer.init(jax.random.key(0), jnp.ones((1, 4, 4, 2)))['params']) == {'kernel'}


@pytest.mark.parametrize('module', [Conv(0), ConvTranspose(-1), Conv(4, (0, 3))])
def test_sizes_below_one_are_a_mistake(module):
    with pytest.raises(UserError, match='give 1 or more'):
        module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 2)))


@pytest.mark.parametrize('module, axis', [(Conv, 1), (ConvTranspose, 0)])
def test_weight_norm(module, axis):
    """A length and a direction, whose gradient is orthogonal to it; at first the layer is as without."""
    x = jax.random.normal(jax.random.key(0), (2, 9, 3))
    layer, plain = module(5, 4, weight_norm=True), module(5, 4)
    params = layer.init(jax.random.key(1), x)['params']
    kernel, scale = np.asarray(params['kernel']), params['scale']
    length = np.sqrt(np.square(kernel).sum((0, 2 - axis), keepdims=True))
    np.testing.assert_allclose(scale, length, rtol=1e-6)
    assert jax.tree.map(jnp.shape, plain.init(jax.random.key(1), x)['params']) == {
        'kernel': kernel.shape,
        'bias': (5,),
    }
    changed = {**params, 'scale': 2 * scale}
    doubled = {'kernel': 2 * kernel, 'bias': params['bias']}
    expected = plain.apply({'params': doubled}, x)
    for params in (changed, fold_weight_norm(changed)):
        np.testing.assert_allclose(layer.apply({'params': params}, x), expected, rtol=1e-5, atol=1e-5)
    gradient = jax.grad(lambda p: jnp.sum(jnp.sin(layer.apply({'params': p}, x))))(changed)
    of_plain = jax.grad(lambda p: jnp.sum(jnp.sin(plain.apply({'params': p}, x))))(doubled)['kernel']
    along = (of_plain * kernel / length).sum((0, 2 - axis))
    np.testing.assert_allclose(gradient['scale'].ravel(), along, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        gradient['kernel'], 2 * (of_plain - along.reshape(length.shape) * kernel / length), atol=1e-4
    )

"""Normalisation of values far from zero, in float32, in all models that normalise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vq_jax.models.discriminators import Discriminator, PatchDiscriminator
from vq_jax.models.dit import DiT, DiTSizes
from vq_jax.models.generator import Generator
from vq_jax.models.normalisation import GroupNorm, batch_norm, layer_norm
from vq_jax.models.transformer import Transformer, TransformerSizes

X = np.float32(1000 + 0.1 * np.random.default_rng(0).normal(size=(64, 16)))


@pytest.mark.parametrize('axis', [0, 1])
def test_values_far_from_zero(axis):
    module = [batch_norm(True, None, 'float32'), layer_norm('float32')][axis]
    variables = module.init(jax.random.key(0), X)
    variables['params']['scale'] = jnp.ones(16)
    found, _ = module.apply(variables, X, mutable=['batch_stats'])
    x = np.float64(X)
    wanted = (x - x.mean(axis, keepdims=True)) / x.std(axis, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=2e-2)


@pytest.mark.parametrize('dtype, mean', [('float32', 10_000), ('bfloat16', 100)])
@pytest.mark.parametrize('deviation', [1, 0])
def test_groups_far_from_zero(dtype, mean, deviation):
    """Numbers of bfloat16 are rounded before, and are normalised as those that they are then."""
    x = mean + deviation * np.random.default_rng(0).normal(size=(2, 32, 32, 16))
    x = jnp.asarray(x, dtype)
    module = GroupNorm()
    found = jax.jit(module.apply)(module.init(jax.random.key(0), x), x)
    assert found.dtype == x.dtype
    groups = np.float64(x).reshape(2, 32 * 32, 4, 4)
    mean, variance = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    wanted = ((groups - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    np.testing.assert_allclose(np.float64(found), wanted, atol={'float32': 1e-2, 'bfloat16': 4e-2}[dtype])


def _models():
    images, labels = jnp.zeros((2, 16, 16, 3)), jnp.zeros(2, jnp.int32)
    yield Discriminator(channels=4), (images, labels, True)
    yield PatchDiscriminator(channels=4, stages=1), (images, labels, True)
    yield Generator((16, 16, 3)), (jnp.zeros((2, 64)), labels, True)
    yield DiT(DiTSizes(depth=1, width=8, heads=1), 3), (images, jnp.zeros(2))
    transformer = Transformer(TransformerSizes(depth=1, width=8, heads=1), 5, 5, (2, 2))
    yield transformer, (jnp.zeros((1, 4), jnp.int32),)


def test_no_model_has_flax_s_fast_variance():
    seen = []

    def look(call, args, kwargs, context):
        if hasattr(context.module, 'use_fast_variance'):
            seen.append((type(context.module).__name__, context.module.use_fast_variance))
        return call(*args, **kwargs)

    for model, arguments in _models():
        before = len(seen)
        with nn.intercept_methods(look):
            jax.eval_shape(lambda model=model, arguments=arguments: model.init(jax.random.key(0), *arguments))
        assert len(seen) > before, model
    assert {fast for _, fast in seen} == {False}
    assert {name for name, _ in seen} == {'BatchNorm', 'LayerNorm'}

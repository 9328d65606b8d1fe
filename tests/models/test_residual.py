"""VQGAN's blocks against Flax and plain arithmetic, and its published sizes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.autoencoders import vqgan
from tests.initialised import initialised
from tests.jaxprs import convolved_in, recomputed_blocks
from vq_jax.errors import UserError
from vq_jax.models.normalisation import GroupNorm
from vq_jax.models.residual import ResidualEncoder, ResidualSizes, Upsample
from vq_jax.quantizers.gaussian import GaussianBottleneck
from vq_jax.quantizers.vq import VectorQuantizer

RNG = np.random.default_rng(0)
SMALL = ResidualSizes(
    channels=8, multipliers=(1, 2), residual_blocks=1, attention_resolutions=(1,), features=6
)


def parameters(model):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return sum(x.size for x in jax.tree.leaves(variables['params']))


def test_the_published_numbers_of_parameters():
    """f16-1024 of Esser et al. 2021 and kl-f8 of Rombach et al. 2022, without their discriminators."""
    quantizer = VectorQuantizer(1024, 256, 256, learning='gradient')
    assert parameters(vqgan(quantizer, ResidualSizes())) == 72_141_699
    f8 = ResidualSizes(multipliers=(1, 2, 4, 4), attention_resolutions=(), features=4)
    assert parameters(vqgan(GaussianBottleneck(4, 4), f8)) == 83_653_863


def test_group_norm_equals_flax():
    x = RNG.normal(size=(2, 5, 6, 24)).astype(np.float32) * 3 + 1
    params = {'scale': RNG.normal(size=24), 'bias': RNG.normal(size=24)}
    ours, flax = GroupNorm(32), nn.GroupNorm(6, epsilon=1e-6)

    def outcome(module):
        def loss(params, x):
            return jnp.sum(jnp.sin(module.apply({'params': params}, x)))

        return module.apply({'params': params}, x), jax.grad(loss, (0, 1))(params, x)

    for a, b in zip(jax.tree.leaves(outcome(ours)), jax.tree.leaves(outcome(flax)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_group_norm_of_values_far_from_zero():
    """Their deviation is a ten-thousandth of their mean: values and gradients in float64 are the measure."""
    x = np.float32(1000 + 0.1 * RNG.normal(size=(2, 6, 5, 8)) + 500 * (np.arange(8) >= 4))
    weights = RNG.normal(size=x.shape)
    groups = np.float64(x).reshape(2, 30, 2, 4)
    centred = groups - groups.mean((1, 3), keepdims=True)
    deviation = np.sqrt(np.square(centred).mean((1, 3), keepdims=True) + 1e-6)
    normal, w = centred / deviation, weights.reshape(groups.shape)
    slope = w - w.mean((1, 3), keepdims=True) - normal * (w * normal).mean((1, 3), keepdims=True)

    variables = {'params': {'scale': jnp.ones(8), 'bias': jnp.zeros(8)}}
    apply = jax.jit(lambda x: GroupNorm().apply(variables, x))
    np.testing.assert_allclose(apply(x), normal.reshape(x.shape), atol=2e-3)
    found = jax.jit(jax.grad(lambda x: jnp.sum(weights * apply(x))))(x)
    np.testing.assert_allclose(found, (slope / deviation).reshape(x.shape), atol=2e-2)


def test_group_norm_of_constant_images_is_finite():
    x = jnp.full((1, 4, 4, 8), 1000.1)
    variables = GroupNorm().init(jax.random.key(0), x)
    assert np.isfinite(GroupNorm().apply(variables, x)).all()


def test_upsample_equals_repeating_and_convolving():
    x = RNG.normal(size=(2, 5, 4, 3)).astype(np.float32)
    variables = Upsample().init(jax.random.key(0), x)
    variables = jax.tree.map(lambda p: RNG.normal(size=p.shape).astype(np.float32), variables)
    plain = nn.Conv(3, (3, 3)).apply(variables, x.repeat(2, 1).repeat(2, 2))
    np.testing.assert_allclose(Upsample().apply(variables, x), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_remat_changes_nothing_but_memory():
    x = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    grads, recomputed = [], []
    for remat in (False, True):
        model = ResidualEncoder(dataclasses.replace(SMALL, remat=remat), 6)
        params = model.init(jax.random.key(0), x)
        grads.append(jax.tree.leaves(jax.grad(lambda p, m=model: jnp.sum(m.apply(p, x) ** 2))(params)))
        recomputed.append(recomputed_blocks(model.apply, params, x))
    assert recomputed == [0, 6]  # a block of each level, attention at the last, and three in the middle
    for a, b in zip(*grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_near_float32():
    x = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    quantizer = VectorQuantizer(16, 6, 4, codebook_init='random')
    sizes = dataclasses.replace(SMALL, residual_blocks=0)
    model = vqgan(quantizer, sizes)
    variables = initialised(model.init, jax.random.key(0), x)
    half = vqgan(quantizer, dataclasses.replace(sizes, dtype='bfloat16'))
    encode, decode = (
        [jax.jit(functools.partial(m.apply, method=method)) for m in (model, half)]
        for method in ('encode', 'decode')
    )
    a, b = (f(variables, x) for f in encode)
    expected, outputs = (f(variables, a) for f in decode)
    assert outputs.dtype == jnp.float32 and a[0].shape == b[0].shape == (2, 4, 4, 1)
    assert convolved_in(model.apply, variables, x) == {'float32'}
    assert convolved_in(half.apply, variables, x) == {'bfloat16'}
    np.testing.assert_allclose(outputs, expected, atol=0.1)


def test_a_level_that_is_not_there():
    with pytest.raises(UserError, match='from 0 to 1'):
        ResidualSizes(multipliers=(1, 2), attention_resolutions=(2,))


def test_the_form_of_maskgit():
    """Its published number of parameters is of its own code (see `tests.weights.test_maskgit`)."""
    sizes = ResidualSizes(attention_resolutions=(), form='maskgit')
    assert parameters(vqgan(VectorQuantizer(1024, 256, learning='gradient'), sizes)) == 54_515_587
    with pytest.raises(UserError, match="form is 'maskgit', which is of images"):
        ResidualSizes(form='maskgit', temporal='causal')

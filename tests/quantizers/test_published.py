"""Quantizers beside their authors' code: values, codes, losses and gradients.

`published.json` has what that code gave in float64 (PyTorch 2.13.0, CPU) for the vectors, codebooks and
weights of `normal`, of the sum of the loss and the product of weights and values:

- ibq: `IndexPropagationQuantize` of TencentARC/SEED-Voken, `beta=0.25, entropy_temperature=0.5`; loss + 0.7 *
  (entropy - 1.3 * entropy of the mean).
- gumbel_hard, gumbel_soft: `GumbelQuantize` in the same file, which is that of taming-transformers,
  `kl_weight=0.3, temp_init=0.6`, where `exponential_` gave exp(-noise).
- lfq: `LFQ` of the same project, `temperature=0.7, batch_maximization_weight=1.3`; 0.25 * commitment + 0.7 *
  entropy loss.
- bsq: `BinarySphericalQuantizer` of zhaoyue-zephyrus/bsq-vit, of vectors at unit length, `beta=0.25,
  gamma=1.3, zeta=0.7, group_size=3, l2_norm=True`. The first bit of a group counts most, and the commitment
  loss is a sum.

- var, var_cosine: `VectorQuantizer2` of FoundationVision/VAR (commit 78b9539), which computes in float32,
  `beta=0.25, v_patch_nums=(1, 2, 3, 4, 6), quant_resi=0.5, share_quant_resi=4`, without and with
  `using_znorm`; 'first_3' is the sum of the first three scales that `embed_to_fhat` gives, and 'convolutions'
  says which one each of the ten scales of the published model has.

What ibq and lfq add in a logarithm was 0.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops.soft_codes import gumbel_softmax
from vq_jax.quantizers import (
    BinarySphericalQuantizer,
    IndexBackpropagationQuantizer,
    LookupFreeQuantizer,
    MultiScaleQuantizer,
    VectorQuantizer,
)

PUBLISHED = json.loads(Path(__file__).with_name('published.json').read_text())
ENTROPIES = {'entropy': 0.7, 'diversity': 1.3}


def normal(seed, *shape):
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), jnp.float32)


def compare(quantizer, params, d, published):
    """The gradient with respect to the parameters, once all else was found to be the same."""
    z, weight = normal(0, 2, 3, 2, d), normal(2, 2, 3, 2, d)

    def total(params, z):
        quantized = quantizer.apply({'params': params}, z, train=True)
        return jnp.mean(quantized.loss) + jnp.vdot(weight, quantized.values), quantized

    (d_params, d_z), quantized = jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, z)
    np.testing.assert_allclose(quantized.values, published['values'], atol=1e-5)
    assert jnp.mean(quantized.loss) == pytest.approx(published['loss'], rel=1e-5)
    assert quantized.metrics['code_entropy'] == pytest.approx(published['own'], rel=1e-5)
    assert quantized.metrics['entropy_of_mean'] == pytest.approx(published['mean'], rel=1e-5)
    np.testing.assert_allclose(d_z, published['d_z'], atol=1e-5)
    return d_params, quantized.codes


def identity(d):
    """Parameters of maps that change nothing."""
    layer = {'kernel': jnp.eye(d), 'bias': jnp.zeros(d)}
    return {'project_in': layer, 'project_out': layer}


def test_ibq():
    quantizer = IndexBackpropagationQuantizer(6, 4, temperature=0.5, **ENTROPIES)
    params, codes = compare(quantizer, {'codebook': normal(1, 6, 4)}, 4, PUBLISHED['ibq'])
    np.testing.assert_array_equal(codes[..., 0], PUBLISHED['ibq']['codes'])
    np.testing.assert_allclose(params['codebook'], PUBLISHED['ibq']['d_codebook'], atol=1e-5)


def test_lfq():
    # Their scores are 2 z.c, ours -||z - c||^2, which is the same of all codes but for a constant.
    quantizer = LookupFreeQuantizer(4, 4, temperature=0.7, **ENTROPIES)
    _, codes = compare(quantizer, identity(4), 4, PUBLISHED['lfq'])
    np.testing.assert_array_equal(codes[..., 0], PUBLISHED['lfq']['codes'])


def test_bsq():
    quantizer = BinarySphericalQuantizer(6, 6, commitment=6 * 0.25, group_bits=3, **ENTROPIES)
    _, codes = compare(quantizer, identity(6), 6, PUBLISHED['bsq'])
    turned = sum((np.asarray(codes) >> i & 1) << 2 - i for i in range(3))
    np.testing.assert_array_equal(turned, PUBLISHED['bsq']['codes'])


@pytest.mark.parametrize('hard', [True, False])
def test_gumbel(hard):
    published = PUBLISHED['gumbel_hard' if hard else 'gumbel_soft']
    logits, codebook, weight = normal(0, 2, 3, 2, 5), normal(1, 5, 4), normal(2, 2, 3, 2, 4)
    noise = jnp.asarray(np.random.RandomState(3).gumbel(size=(2, 3, 2, 5)), jnp.float32)

    def total(logits, codebook):
        shares = gumbel_softmax(logits, noise, 0.6, hard)
        p = jax.nn.softmax(logits)
        divergence = 0.3 * jnp.mean(jnp.sum(p * jnp.log(5 * p), axis=-1))
        return divergence + jnp.vdot(weight, shares @ codebook), (shares @ codebook, divergence)

    (d_logits, d_codebook), (values, divergence) = jax.grad(total, (0, 1), has_aux=True)(logits, codebook)
    np.testing.assert_allclose(values, published['values'], atol=1e-5)
    assert divergence == pytest.approx(published['loss'], rel=1e-5)
    np.testing.assert_array_equal(jnp.argmax(logits + noise, -1), published['codes'])
    np.testing.assert_allclose(d_logits, published['d_z'], atol=1e-5)
    np.testing.assert_allclose(d_codebook, published['d_codebook'], atol=1e-5)


@pytest.mark.parametrize('cosine', [False, True])
def test_var(cosine):
    published = PUBLISHED['var_cosine' if cosine else 'var']
    one = VectorQuantizer(8, 4, learning='gradient', cosine=cosine, unit_length=not cosine)
    quantizer = MultiScaleQuantizer(one, (6, 6), (1, 2, 3, 4, 6))
    z, weight = normal(0, 2, 6, 6, 4), normal(2, 2, 6, 6, 4)
    kernels = [(0.2 * normal(3 + i, 3, 3, 4, 4), 0.2 * normal(7 + i, 4)) for i in range(4)]
    params = {f'phi_{i}': {'kernel': kernel, 'bias': bias} for i, (kernel, bias) in enumerate(kernels)}
    params['quantizer'] = {'codebook': normal(1, 8, 4)}
    statistics = {'quantizer': {'shares': jnp.full(8, 1 / 8)}}  # which change nothing here

    def total(params, z):
        quantized = quantizer.apply({'params': params, 'codebook': statistics}, z)
        return jnp.mean(quantized.loss) + jnp.vdot(weight, quantized.values), quantized

    (d_params, d_z), quantized = jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, z)
    for codes, expected in zip(quantized.codes, published['codes'], strict=True):
        np.testing.assert_array_equal(codes[..., 0], expected)
    np.testing.assert_allclose(quantized.values, published['values'], atol=1e-5)
    assert jnp.mean(quantized.loss) == pytest.approx(published['loss'], rel=1e-5)
    np.testing.assert_allclose(d_z, published['d_z'], atol=1e-5)
    np.testing.assert_allclose(d_params['quantizer']['codebook'], published['d_codebook'], atol=1e-5)
    if not cosine:
        for name in ('kernel', 'bias'):
            found = [d_params[f'phi_{i}'][name] for i in range(4)]
            np.testing.assert_allclose(found, published[f'd_{name}'], atol=1e-5)
        variables = {'params': params, 'codebook': statistics}
        first = quantizer.apply(variables, quantized.codes[:3], method='lookup')
        np.testing.assert_allclose(first, published['first_3'], atol=1e-5)


def test_which_convolution_each_scale_of_var_has():
    quantizer = MultiScaleQuantizer(VectorQuantizer(8, 2), (16, 16))
    assert [quantizer._phi_of(scale) for scale in range(10)] == PUBLISHED['var']['convolutions']

"""Quantizers without a codebook against NumPy, and their properties."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.ops.parts import Part
from vq_jax.ops.usage import usage
from vq_jax.quantizers.fsq import FiniteScalarQuantizer
from vq_jax.quantizers.lfq import LookupFreeQuantizer

FSQ, LFQ = (
    FiniteScalarQuantizer((3, 4, 2), 6, normalise=False),
    LookupFreeQuantizer(5, dim=6, temperature=1.0),
)
BOTH = pytest.mark.parametrize('quantizer', [FSQ, LFQ], ids=['fsq', 'lfq'])


def vectors(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def start(quantizer):
    """Parameters for it."""
    shapes = jax.eval_shape(quantizer.init, jax.random.key(0), vectors((1, 6)))
    return jax.tree.map(lambda x: vectors(x.shape) / x.shape[0] ** 0.5, shapes)


def maps(variables):
    """Kernels and biases of the maps to the numbers and from them, in float64."""
    layers = [variables['params'][name] for name in ('project_in', 'project_out')]
    return [np.float64(layer[name]) for layer in layers for name in ('kernel', 'bias')]


@BOTH
def test_any_leading_shape(quantizer):
    shape = (2, 3, 2, 2)
    z = vectors((*shape, 6))
    variables = start(quantizer)
    call = jax.jit(functools.partial(quantizer.apply, train=True))
    quantized = call(variables, z)
    assert quantized.codes.shape == (*shape, 1) and quantized.codes.dtype == jnp.int32
    assert quantized.loss.shape == shape[:1] and quantized.values.shape == z.shape
    flat = call(variables, z.reshape(2, -1, 6))
    np.testing.assert_array_equal(flat.codes.reshape(-1), quantized.codes.reshape(-1))
    np.testing.assert_allclose(flat.loss, quantized.loss, rtol=1e-5)
    looked_up = quantizer.apply(variables, quantized.codes, method='lookup')
    np.testing.assert_allclose(looked_up, quantized.values, rtol=1e-5, atol=1e-6)
    projected = quantizer.apply(variables, z, method='project')
    again = quantizer.apply(variables, projected, method='nearest')
    np.testing.assert_array_equal(again, quantized.codes)


@BOTH
def test_every_code_is_chosen_and_counted(quantizer):
    z, params = 3 * vectors((8, 400, 6)), start(quantizer)['params']
    width = params['project_in']['bias'].size
    variables = {'params': {**params, 'project_in': {'kernel': jnp.eye(6, width), 'bias': jnp.zeros(width)}}}
    quantized = quantizer.apply(variables, z)
    assert quantizer.num_codes == {FSQ: 3 * 4 * 2, LFQ: 2**5}[quantizer]
    counts = np.bincount(np.asarray(quantized.codes).reshape(-1), minlength=quantizer.num_codes)
    assert len(counts) == quantizer.num_codes and (counts > 0).all()
    p = counts / counts.sum()
    use = usage(quantized.codes, quantizer.num_codes)
    assert use['perplexity'] == pytest.approx(np.exp(-np.sum(p * np.log(p))), rel=1e-4)
    assert use['code_entropy_bits'] == pytest.approx(-np.sum(p * np.log2(p)), rel=1e-4)
    assert use['codebook_usage'] == 1
    every = jnp.arange(quantizer.num_codes)[:, None]
    looked_up = np.float64(quantizer.apply(variables, every, method='lookup'))
    assert len(np.unique(looked_up.round(5), axis=0)) == quantizer.num_codes


def test_values_and_gradient_of_fsq():
    """The gradient passes the rounding, not the bounding; there is no loss."""
    z, weight = vectors((2, 7, 6)), vectors((2, 7, 6), 1)
    variables = start(FSQ)
    to, to_bias, back, back_bias = maps(variables)
    count = np.asarray([3.0, 4.0, 2.0])
    half_l, offset, half_width = (count - 1) * 0.999 / 2, np.asarray([0, 0.5, 0.5]), np.asarray([1, 2, 1])
    tanh = np.tanh(z @ to + to_bias + np.tan(offset / half_l))
    expected = np.round(tanh * half_l - offset) / half_width @ back + back_bias
    quantized = FSQ.apply(variables, z)
    np.testing.assert_allclose(quantized.values, expected, atol=1e-5)
    np.testing.assert_array_equal(quantized.loss, 0)

    gradient = jax.jit(jax.grad(lambda z: jnp.vdot(weight, FSQ.apply(variables, z).values)))(z)
    slope = (1 - tanh**2) * half_l / half_width
    np.testing.assert_allclose(gradient, (weight @ back.T * slope) @ to.T, rtol=1e-4, atol=1e-5)


def test_fsq_brings_vectors_to_one_size():
    """Any size of what comes in gives the same code; those of a root mean square of 1 stay as they are."""
    z, variables = vectors((2, 7, 6)), start(FSQ)
    normalising = FSQ.copy(normalise=True)
    codes = normalising.apply(variables, z).codes
    for size in (1e-3, 1e3):
        np.testing.assert_array_equal(normalising.apply(variables, size * z).codes, codes)
    z /= jnp.sqrt(jnp.mean(z**2, -1, keepdims=True))
    np.testing.assert_array_equal(FSQ.apply(variables, z).codes, codes)
    assert not np.array_equal(FSQ.apply(variables, 10 * z).codes, codes)


def test_values_and_straight_through_gradient_of_lfq():
    z, weight = vectors((2, 7, 6)), vectors((2, 7, 6), 1)
    variables = start(LFQ)
    to, to_bias, back, back_bias = maps(variables)
    x = z @ to + to_bias
    quantized = LFQ.apply(variables, z)
    np.testing.assert_array_equal(quantized.codes[..., 0], ((x > 0) * 2 ** np.arange(5)).sum(-1))
    np.testing.assert_allclose(quantized.values, np.sign(x) @ back + back_bias, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda z: jnp.vdot(weight, LFQ.apply(variables, z).values)))(z)
    np.testing.assert_allclose(gradient, weight @ back.T @ to.T, rtol=1e-4, atol=1e-5)


def lfq_loss(x, signs, *, commitment, entropy, diversity, temperature):
    """By the probabilities of all codes, in float64; the signs stay as they are [b]."""
    codes = np.asarray(list(itertools.product((-1, 1), repeat=x.shape[-1])))
    scores = -np.square(x[..., None, :] - codes).sum(-1) / temperature
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)

    def nats(p):
        return -np.sum(p * np.log(p), -1)

    own = nats(p).mean(1) - diversity * nats(p.mean((0, 1)))
    return commitment * np.square(x - signs).mean((1, 2)) + entropy * own


def test_loss_of_lfq_and_its_gradient():
    """Against the papers' sums over all codes, and their differences."""
    weights = {'commitment': 0.3, 'entropy': 0.7, 'diversity': 1.6, 'temperature': 2.0}
    quantizer, z = LookupFreeQuantizer(4, dim=6, **weights), np.float64(vectors((3, 5, 6)))
    variables = start(quantizer)
    to, to_bias, _, _ = maps(variables)

    def direct(z):
        return lfq_loss(z @ to + to_bias, signs, **weights)

    signs = np.sign(z @ to + to_bias)
    found, pull = jax.vjp(jax.jit(lambda z: quantizer.apply(variables, z, train=True).loss), jnp.float32(z))
    np.testing.assert_allclose(found, direct(z), rtol=1e-5)
    (gradient,) = pull(jnp.ones(3))
    for index in [(0, 0, 0), (1, 3, 2), (2, 4, 5)]:
        step = np.zeros(z.shape)
        step[index] = 1e-5
        difference = (direct(z + step) - direct(z - step)).sum() / 2e-5
        assert gradient[index] == pytest.approx(difference, rel=1e-4, abs=1e-6)
    # In evaluation the loss of an example does not depend on the others.
    z = jnp.float32(z)
    alone = quantizer.apply(variables, z[1:2])
    np.testing.assert_allclose(alone.loss[0], quantizer.apply(variables, z).loss[1], rtol=1e-6)
    assert 'entropy_of_mean' not in alone.metrics


@BOTH
def test_a_batch_split_over_an_axis_counts_as_one(quantizer):
    """The device axis, stood for by `vmap`: the mean of the parts' gradients is that of the whole."""
    z, variables = vectors((8, 9, 6)), start(quantizer)

    def gradient(z, axis_name=None):
        def loss(variables):
            part = Part.of_device(len(z), axis_name)
            quantized = quantizer.apply(variables, z, train=True, part=part)
            return jnp.mean(quantized.loss) + jnp.mean(jnp.square(quantized.values)), quantized

        return jax.grad(loss, has_aux=True)(variables)

    whole, quantized = jax.jit(gradient)(z)
    split = jax.jit(jax.vmap(lambda z: gradient(z, 'devices'), axis_name='devices'))
    parts, quantized_parts = split(z.reshape(4, 2, 9, 6))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x.mean(0), y, rtol=1e-4, atol=1e-6), parts, whole)
    np.testing.assert_allclose(quantized_parts.loss.reshape(-1), quantized.loss, rtol=1e-4)
    for name, value in quantized.metrics.items():
        np.testing.assert_allclose(np.mean(quantized_parts.metrics[name], 0), value, rtol=1e-4)


@BOTH
def test_bfloat16_vectors(quantizer):
    z = jax.ShapeDtypeStruct((2, 5, 6), jnp.bfloat16)
    quantized = jax.eval_shape(functools.partial(quantizer.apply, train=True), start(quantizer), z)
    assert quantized.loss.dtype == quantized.values.dtype == jnp.float32


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: FiniteScalarQuantizer(()), r'^levels is \(\); give one number or more from 2 to 1,000'),
        (lambda: FiniteScalarQuantizer((8, 1)), r'^levels is \(8, 1\); give'),
        (lambda: FiniteScalarQuantizer((1001,)), 'from 2 to 1,000'),
        (
            lambda: FiniteScalarQuantizer((1000, 1000, 1000, 3), 6),
            '3,000,000,000 codes; give levels whose product is at most 2,147',
        ),
        (lambda: LookupFreeQuantizer(0), '^bits is 0; give a number from 1 to 30'),
        (lambda: LookupFreeQuantizer(19), '^bits is 19, .* give 18 bits or fewer, or diversity=0'),
        (lambda: LookupFreeQuantizer(temperature=0.0), '^temperature is 0.0; give a number above 0'),
        (lambda: LookupFreeQuantizer(commitment=-1.0), '^commitment is -1.0; give 0 or more'),
        (lambda: LookupFreeQuantizer(entropy=-1.0), '^entropy is -1.0'),
        (lambda: LookupFreeQuantizer(diversity=-1.0), '^diversity is -1.0'),
        (lambda: LookupFreeQuantizer(dim=0), '^dim is 0'),
        (lambda: LookupFreeQuantizer(dim=3), 'have 6 numbers and the quantizer was made for 3; set its dim'),
    ],
)
def test_mistakes(make, words):
    with pytest.raises(UserError, match=words):
        jax.eval_shape(make().init, jax.random.key(0), vectors((2, 5, 6)))

"""BSQ, and groups of bits of LFQ, against NumPy; `test_published.py` has both beside their authors' code."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.ops.parts import Part
from vq_jax.quantizers import BinarySphericalQuantizer, LookupFreeQuantizer


def vectors(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def start(quantizer):
    shapes = jax.eval_shape(quantizer.init, jax.random.key(0), vectors((1, quantizer.dim)))
    return jax.tree.map(lambda x: vectors(x.shape) / x.shape[0] ** 0.5, shapes)


@pytest.mark.parametrize('cls, bits', [(BinarySphericalQuantizer, 36), (LookupFreeQuantizer, 48)])
def test_more_bits_than_a_code_can_count_are_codes_in_groups(cls, bits):
    quantizer = cls(bits, dim=6, group_bits=12)
    z, variables = vectors((2, 3, 2, 2, 6)), start(quantizer)
    quantized = jax.jit(lambda z: quantizer.apply(variables, z, train=True))(z)
    assert quantizer.vocabulary == (4096,) * (bits // 12)
    assert quantized.codes.shape == (2, 3, 2, 2, bits // 12) and quantized.codes.dtype == jnp.int32
    x = np.asarray(quantizer.apply(variables, z, method='project'))
    bit = (np.asarray(quantized.codes)[..., None] >> np.arange(12) & 1).reshape(x.shape)
    np.testing.assert_array_equal(bit, x > 0)
    looked_up = quantizer.apply(variables, quantized.codes, method='lookup')
    np.testing.assert_allclose(looked_up, quantized.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(quantizer.apply(variables, x, method='nearest'), quantized.codes)
    halves = jax.eval_shape(quantizer.apply, variables, jax.ShapeDtypeStruct(z.shape, jnp.bfloat16))
    assert halves.values.dtype == halves.loss.dtype == jnp.float32


def test_corners_of_the_sphere():
    """Any size of what comes in gives the same code and loss; what goes out has unit length."""
    quantizer = BinarySphericalQuantizer(8, dim=8, group_bits=4)
    layer = {'kernel': jnp.eye(8), 'bias': jnp.zeros(8)}
    variables = {'params': {'project_in': layer, 'project_out': layer}}
    z = vectors((2, 5, 8))
    found = quantizer.apply(variables, z, train=True)
    np.testing.assert_allclose(jnp.linalg.norm(found.values, axis=-1), 1, rtol=1e-6)
    large = quantizer.apply(variables, 1000 * z, train=True)
    np.testing.assert_allclose(large.loss, found.loss, rtol=1e-5)
    np.testing.assert_allclose(large.values, found.values, atol=1e-6)


@pytest.mark.parametrize('entropy_bits', [1, 3, 6])
def test_entropies_of_groups_are_those_over_their_codes(entropy_bits):
    """Against softmaxes over all codes of each group, in float64; what a code counts plays no part."""
    quantizer = BinarySphericalQuantizer(6, 6, group_bits=2, entropy_bits=entropy_bits, temperature=0.7)
    z, variables = vectors((2, 9, 6)), start(quantizer)
    metrics = quantizer.apply(variables, z, train=True).metrics
    x = np.float64(quantizer.apply(variables, z, method='project')).reshape(18, -1, entropy_bits)
    corners = np.asarray(list(itertools.product((-1, 1), repeat=entropy_bits))) / 6**0.5
    scores = -np.square(x[:, :, None] - corners).sum(-1) / 0.7
    p = np.exp(scores)
    p /= p.sum(-1, keepdims=True)
    of_positions, of_mean = ((-q * np.log(q)).sum(-1) for q in (p, p.mean(0)))
    assert metrics['code_entropy'] == pytest.approx(of_positions.sum(1).mean(), rel=1e-5)
    assert metrics['entropy_of_mean'] == pytest.approx(of_mean.sum(), rel=1e-5)


def test_a_batch_split_over_an_axis_counts_as_one():
    """The device axis, stood for by `vmap`: the mean of the parts' gradients is that of the whole."""
    quantizer = BinarySphericalQuantizer(6, 6, group_bits=3)
    z, variables = vectors((4, 5, 6)), start(quantizer)

    def gradient(z, axis_name=None):
        def loss(variables):
            part = Part.of_device(len(z), axis_name)
            quantized = quantizer.apply(variables, z, train=True, part=part)
            return jnp.mean(quantized.loss) + jnp.mean(jnp.square(quantized.values))

        return jax.value_and_grad(loss)(variables)

    whole = gradient(z)
    parts = jax.vmap(lambda z: gradient(z, 'devices'), axis_name='devices')(z.reshape(2, 2, 5, 6))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x.mean(0), y, rtol=1e-4, atol=1e-6), parts, whole)


@pytest.mark.parametrize(
    'options, words',
    [
        ({'bits': 18, 'group_bits': 4}, '^group_bits is 4; give a number from 1 to 30 that divides the 18'),
        ({'bits': 62, 'group_bits': 31}, '^group_bits is 31; give'),
        ({'bits': 36, 'group_bits': None}, '^bits is 36; give a number from 1 to 30, or more in groups'),
        ({'bits': 40, 'group_bits': 20}, '^group_bits is 20, and the entropy .* entropy_bits of at most 18'),
        ({'bits': 40, 'group_bits': 10, 'entropy_bits': 20}, '^entropy_bits is 20, and the entropy'),
    ],
)
def test_mistakes(options, words):
    with pytest.raises(UserError, match=words):
        BinarySphericalQuantizer(**options)

"""The estimators of quantizers against a reference implementation, and where they have no direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.ops import quantization
from vq_jax.quantizers import VectorQuantizer

# Of vector-quantize-pytorch 1.32.0 (PyTorch 2.13.0, CPU): the gradient of `rotate_to`, weighted, ...
ROTATED = [
    [-2.813337, -1.9064, 0.172687, -5.039058],
    [-0.496816, 0.037582, -0.672937, 0.151631],
    [-0.541439, -0.222842, -0.102262, 0.360115],
]
# ... and of VectorQuantize with learnable_codebook, rotation_trick, commitment_weight=1 and
# orthogonal_reg_weight=0.5: codes, the gradients of vectors and of the codebook, and `orthogonal_loss_fn` of
# other codes. Its one term of squared error moves both sides; the value of ours counts both terms.
CODES = [[5, 5, 5, 5, 5], [5, 4, 5, 2, 5]]
OF_VECTORS = [
    [
        [-0.079108, -0.213592, 0.59328],
        [-0.148097, 0.018501, 0.435504],
        [0.244777, 0.168572, -0.874365],
        [0.467059, -0.969552, 0.082331],
        [-0.580593, 0.00417, -0.264398],
    ],
    [
        [-0.186055, 0.210899, -0.877589],
        [0.619629, 0.18063, -1.998967],
        [-0.005249, -0.038467, 0.48054],
        [-0.260012, 0.54522, 0.137895],
        [-1.56773, 0.857888, 0.027227],
    ],
]
OF_CODEBOOK = [
    [-0.005743, -0.009095, -0.005426],
    [-0.003752, 0.014876, -0.002949],
    [0.151594, 0.012484, 0.003305],
    [-0.007389, -0.008117, 0.013402],
    [0.044371, -0.043596, -0.026475],
    [0.20719, -0.268902, -0.41145],
]
ORTHOGONALITY = 0.2452094


def arrays(seed, *shapes):
    draw = np.random.default_rng(seed)
    return [draw.normal(size=shape).astype('f4') for shape in shapes]


def pulled(z, e, weight):
    return jax.grad(lambda z: jnp.vdot(weight, quantization.rotation(z, e)))(z)


@pytest.mark.parametrize('name', quantization.ESTIMATORS)
def test_the_value_is_the_code_and_codes_are_not_moved(name):
    z, e, weight = arrays(0, (3, 4), (3, 4), (3, 4))
    estimator = quantization.ESTIMATORS[name]
    np.testing.assert_allclose(estimator(z, e), e, rtol=1e-6, atol=1e-6)
    moved = jax.grad(lambda e: jnp.vdot(weight, estimator(z, e)))(jnp.asarray(e))
    np.testing.assert_array_equal(moved, 0)


def test_gradients_and_losses_are_the_references():
    z, e, weight, codes = map(jnp.asarray, arrays(0, (3, 4), (3, 4), (3, 4), (7, 4)))
    np.testing.assert_allclose(pulled(z, e, weight), ROTATED, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(quantization.orthogonality_loss(codes), ORTHOGONALITY, rtol=1e-5)

    z, codebook, weight = map(jnp.asarray, arrays(1, (2, 5, 3), (6, 3), (2, 5, 3)))
    quantizer = VectorQuantizer(
        6,
        dim=3,
        learning='gradient',
        commitment=1.0,
        estimator='rotation',
        orthogonality=0.5,
        revive_below=0.0,
    )
    variables = initialised(quantizer.init, jax.random.key(0), z)

    def loss(codebook, z):
        out = quantizer.apply({**variables, 'params': {'codebook': codebook}}, z)
        return jnp.vdot(weight, out.values) + jnp.mean(out.loss), out.codes

    (of_codebook, of_vectors), codes = jax.grad(loss, (0, 1), has_aux=True)(codebook, z)
    np.testing.assert_array_equal(codes[..., 0], CODES)
    np.testing.assert_allclose(of_vectors, OF_VECTORS, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(of_codebook, OF_CODEBOOK, atol=1e-5, rtol=1e-5)


def test_a_rotation_turns_gradients_with_the_vector():
    """Angles between gradients and vectors stay, and lengths are divided as vectors are multiplied."""
    z, e, weight = arrays(1, (5, 8), (5, 8), (5, 8))
    gradients = pulled(z, e, weight)
    lengths = [np.linalg.norm(x, axis=-1) for x in (z, e, weight, gradients)]
    np.testing.assert_allclose(lengths[3], lengths[2] * lengths[1] / lengths[0], rtol=1e-5)
    angles = [
        np.sum(a * b, -1) / x / y
        for a, b, x, y in ((z, gradients, lengths[0], lengths[3]), (e, weight, lengths[1], lengths[2]))
    ]
    np.testing.assert_allclose(*angles, atol=1e-5)


@pytest.mark.parametrize('gap', [0.0, 1e-8, 1e-6, 1e-4, 1e-2])
def test_opposite_directions_are_finite(gap):
    z, aside, weight = (jnp.asarray(x) for x in arrays(2, (6,), (6,), (6,)))
    e = -3 * z + gap * aside
    gradient = pulled(z, e, weight)
    assert np.linalg.norm(gradient) <= 3 * 3.1 * np.linalg.norm(weight)
    np.testing.assert_array_equal(quantization.rotation(z, e), e)
    if not gap:  # the reflection that turns z around
        direction = z / jnp.linalg.norm(z)
        expected = 3 * (weight - 2 * jnp.vdot(direction, weight) * direction)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_a_vector_without_direction_has_the_gradient_of_straight_through():
    some, nothing = np.ones((1, 4), 'f4'), np.zeros((1, 4), 'f4')
    weight = jnp.asarray(arrays(3, (1, 4))[0])
    for z, e in ((nothing, some), (some, nothing), (nothing, nothing), (1e-30 * some, some)):
        np.testing.assert_array_equal(quantization.rotation(jnp.asarray(z), jnp.asarray(e)), e)
        np.testing.assert_array_equal(pulled(jnp.asarray(z), jnp.asarray(e), weight), weight)


def test_many_codes_and_few_are_as_orthogonal_as_the_table_of_cosines_says():
    for shape in ((7, 4), (3, 9)):
        (codes,) = arrays(4, shape)
        unit = codes / np.linalg.norm(codes, axis=-1, keepdims=True)
        expected = np.square(unit @ unit.T - np.eye(len(codes))).mean()
        np.testing.assert_allclose(quantization.orthogonality_loss(codes), expected, rtol=1e-5)
    np.testing.assert_allclose(quantization.orthogonality_loss(5 * jnp.eye(6)), 0, atol=1e-7)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"^estimator is 'identity'; give 'straight_through' or 'rotation'"):
        VectorQuantizer(estimator='identity')
    with pytest.raises(UserError, match=r'^orthogonality is 0.1, and a codebook of moving averages'):
        VectorQuantizer(orthogonality=0.1)

"""Quantization number by number: the papers in NumPy, and brute force over all codes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops import scalar_quantization as scalar
from vq_jax.ops.quantization import entropy

LEVELS = [(3, 4), (2, 2, 2), (8, 5, 5, 5), (7, 2, 6)]


def papers_fsq(z, levels, epsilon=1e-3):
    """Mentzer et al. 2023, appendix A.1, in float64: what numbers become, and their codes."""
    z, count = np.float64(z), np.float64(levels)
    half_l = (count - 1) * (1 - epsilon) / 2
    offset = np.where(count % 2 == 1, 0.0, 0.5)
    bounded = np.tanh(z + np.tan(offset / half_l)) * half_l - offset
    half_width = count // 2
    quantized = np.round(bounded) / half_width
    basis = np.concatenate([[1], np.cumprod(count[:-1])])
    return bounded / half_width, quantized, ((quantized * half_width + half_width) * basis).sum(-1)


@pytest.mark.parametrize('levels', LEVELS)
def test_rounding_is_the_papers(levels):
    z = np.random.default_rng(0).normal(size=(500, len(levels))).astype('f4') * 2
    bounded, quantized, codes = papers_fsq(z, levels)
    x = scalar.bound(jnp.asarray(z), levels)
    digits = scalar.nearest_digits(x, levels)
    np.testing.assert_allclose(x, bounded, atol=1e-6)
    np.testing.assert_allclose(scalar.level_values(digits, levels), quantized, atol=1e-6)
    np.testing.assert_array_equal(scalar.to_codes(digits, levels), codes)


def test_an_example_by_hand():
    """Three levels: 0.999 tanh(0.5) = 0.46, which is nearest to 0, the digit 1. Four levels: the shift is
    tan(0.5 / 1.4985) = 0.347, and 1.4985 tanh(1.347) - 0.5 = 0.81, nearest to 1, a half of 2, the digit 3.
    """
    x = scalar.bound(jnp.asarray([0.5, 1.0]), (3, 4))
    np.testing.assert_allclose(x, [0.4617, 0.8084 / 2], atol=1e-4)
    digits = scalar.nearest_digits(x, (3, 4))
    np.testing.assert_array_equal(digits, [1, 3])
    np.testing.assert_array_equal(scalar.level_values(digits, (3, 4)), [0, 0.5])
    assert scalar.to_codes(digits, (3, 4)) == 1 + 3 * 3
    # Yu et al. 2023: the index of the signs (+, -, +) is 2^0 + 2^2.
    assert scalar.to_codes(jnp.asarray([1, 0, 1]), (2, 2, 2)) == 5


@pytest.mark.parametrize('levels', [*LEVELS, (2,) * 10, (1000,)])
def test_codes_and_digits_are_one_to_one(levels):
    k = int(np.prod(levels))
    codes = jnp.arange(k)
    digits = scalar.to_digits(codes, levels)
    assert digits.dtype == jnp.int32
    expected = [digits[::-1] for digits in itertools.product(*map(range, levels[::-1]))]
    np.testing.assert_array_equal(digits, expected)
    np.testing.assert_array_equal(scalar.to_codes(digits, levels), codes)
    values = np.asarray(scalar.level_values(digits, levels))
    assert values.min() == -1 and values.max() <= 1 and len(np.unique(values, axis=0)) == k
    np.testing.assert_array_equal(scalar.nearest_digits(jnp.asarray(values), levels), digits)


def test_every_level_can_be_reached_and_none_beyond():
    z = jnp.linspace(-30, 30, 200_001)[:, None]
    for count in (*range(2, 18), scalar.MOST_LEVELS):
        digits = np.unique(scalar.nearest_digits(scalar.bound(z, (count,)), (count,)))
        np.testing.assert_array_equal(digits[[0, -1]], [0, count - 1])
        if count < 18:
            assert len(digits) == count
        far = scalar.nearest_digits(jnp.asarray([[-9.0], [9.0]]), (count,))
        np.testing.assert_array_equal(far, [[0], [count - 1]])
    too_many = scalar.MOST_LEVELS + 4
    assert np.max(scalar.nearest_digits(scalar.bound(z, (too_many,)), (too_many,))) < too_many - 1


def all_code_probabilities(z, temperature):
    """The softmax of minus the squared distance to every code of signs, by temperature, in float64 [n k]."""
    bits = z.shape[-1]
    signs = np.asarray([pattern[::-1] for pattern in itertools.product((-1, 1), repeat=bits)])
    scores = -np.square(np.float64(z)[:, None] - signs).sum(-1) / temperature
    scores -= scores.max(1, keepdims=True)
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


def nats(p):
    return -np.sum(p * np.log(np.where(p > 0, p, 1)), -1)


@pytest.mark.parametrize('bits, temperature', [(1, 1.0), (2, 0.3), (5, 1.0), (6, 4.0), (6, 0.01)])
def test_entropies_are_those_over_all_codes(bits, temperature):
    z = np.random.default_rng(bits).normal(size=(40, bits)).astype('f4')
    p = all_code_probabilities(z, temperature)
    logits = jnp.asarray(z) * (4 / temperature)
    np.testing.assert_allclose(scalar.bit_entropy(logits).sum(-1), nats(p), rtol=1e-4, atol=1e-6)
    mean = scalar.mean_code_probabilities(logits)
    np.testing.assert_allclose(mean, p.mean(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(entropy(mean), nats(p.mean(0)), rtol=1e-4)


def test_certain_bits_have_no_entropy_and_a_gradient():
    logits = jnp.asarray([[-4000.0, 0.0, 4000.0]])
    np.testing.assert_allclose(scalar.bit_entropy(logits), [[0, np.log(2), 0]], rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(lambda x: scalar.bit_entropy(x).sum())(logits), 0)
    found = jax.grad(lambda x: entropy(scalar.mean_code_probabilities(x)))(logits)
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_the_table_of_positions_and_codes_is_never_made():
    """With its gradient; the table alone would be 4 GiB."""
    logits = jax.ShapeDtypeStruct((4096, 18), jnp.float32)
    gradient = jax.jit(jax.grad(lambda x: entropy(scalar.mean_code_probabilities(x))))
    assert gradient.lower(logits).compile().memory_analysis().temp_size_in_bytes < 2e8

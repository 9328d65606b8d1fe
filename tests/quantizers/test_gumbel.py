"""Properties of the Gumbel-softmax quantizer; `test_published.py` has it beside published code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.ops.parts import Part
from vq_jax.quantizers.gumbel import GumbelQuantizer

SMALL = GumbelQuantizer(6, 4, temperature=2.0, last_temperature=0.5, anneal_steps=10)


def vectors(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def train(z, variables, quantizer=SMALL, step=0, part=None):
    key = {'codebook': jax.random.key(1)}
    return quantizer.apply(variables, z, train=True, step=jnp.int32(step), part=part, rngs=key)


@pytest.fixture(scope='module')
def variables():
    return SMALL.init(jax.random.key(0), vectors((1, 4)))


def test_codes_are_sampled_in_training_and_the_likeliest_otherwise(variables):
    z = jnp.broadcast_to(vectors((4,)), (2, 1500, 4))
    logits = SMALL.apply(variables, z[0, 0], method='project')
    chosen = SMALL.apply(variables, z)
    np.testing.assert_array_equal(chosen.codes, jnp.argmax(logits))
    np.testing.assert_array_equal(chosen.values, SMALL.apply(variables, chosen.codes, method='lookup'))
    sampled = train(z, variables)
    shares = np.bincount(np.asarray(sampled.codes).reshape(-1), minlength=6) / 3000
    np.testing.assert_allclose(shares, jax.nn.softmax(logits), atol=0.04)
    looked_up = SMALL.apply(variables, sampled.codes, method='lookup')
    np.testing.assert_array_equal(sampled.values, looked_up)
    p = np.float64(jax.nn.softmax(logits))
    np.testing.assert_allclose(chosen.loss, 5e-4 * np.sum(p * np.log(6 * p)), rtol=1e-4)
    soft = train(z, variables, SMALL.copy(straight_through=False))
    np.testing.assert_array_equal(soft.codes, sampled.codes)
    assert jnp.abs(soft.values - sampled.values).max() > 0.1


def test_the_temperature_falls_by_steps(variables):
    found = [train(vectors((1, 4)), variables, step=n).metrics['temperature'] for n in (0, 5, 10, 99)]
    np.testing.assert_allclose(found, [2, 1.25, 0.5, 0.5], rtol=1e-6)


def test_an_example_has_the_same_noise_in_any_part(variables):
    z = vectors((4, 5, 4))
    whole = train(z, variables)
    for index in ([0, 1], [3, 1]):
        index = jnp.asarray(index)
        part = train(z[index], variables, part=Part(index=index, size=4))
        np.testing.assert_array_equal(part.codes, whole.codes[index])
        np.testing.assert_allclose(part.values, whole.values[index], rtol=1e-5)


def test_the_table_of_positions_and_codes_is_never_held():
    """In training and in evaluation; the table alone would be 4 GiB."""
    quantizer = GumbelQuantizer(2**14, 8)
    z = jax.ShapeDtypeStruct((256, 256, 8), jnp.float32)
    variables = jax.eval_shape(quantizer.init, jax.random.key(0), z)

    def loss(variables, z):
        quantized = train(z, variables, quantizer)
        return jnp.mean(quantized.loss) + jnp.sum(quantized.values)

    for function in (jax.grad(loss, (0, 1)), quantizer.apply):
        compiled = jax.jit(function).lower(variables, z).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 2**30


def test_bfloat16_vectors(variables):
    z = jax.ShapeDtypeStruct((2, 5, 4), jnp.bfloat16)
    quantized = jax.eval_shape(lambda z: train(z, variables), z)
    assert quantized.loss.dtype == quantized.values.dtype == jnp.float32


@pytest.mark.parametrize(
    'options, words',
    [
        ({'last_temperature': 0.0}, '^last_temperature is 0.0; give a number above 0'),
        ({'anneal_steps': 0}, '^anneal_steps is 0'),
        ({'kl': -1.0}, '^kl is -1.0'),
    ],
)
def test_mistakes(options, words):
    with pytest.raises(UserError, match=words):
        GumbelQuantizer(**options)

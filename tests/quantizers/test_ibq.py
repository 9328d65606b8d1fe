"""Properties of IBQ; `test_published.py` has it beside its authors' code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.ops.parts import Part
from vq_jax.ops.quantization import entropy
from vq_jax.ops.soft_codes import soft_codes
from vq_jax.quantizers.ibq import IndexBackpropagationQuantizer

SMALL = IndexBackpropagationQuantizer(6, 4, entropy=0.7, diversity=1.3, temperature=0.5)


def normal(seed, *shape):
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), jnp.float32)


def test_blocks_are_the_whole_with_their_gradients():
    """Also where the last block is not full."""
    z, codebook = normal(0, 11, 3), normal(1, 7, 3)

    def some(z, codebook, most):
        soft = soft_codes(z, codebook, 0.3, max_scores=most)
        return jnp.sum(jnp.sin(soft.means)) + jnp.sum(soft.entropy**2) + entropy(soft.shares)

    whole, blocks = (jax.value_and_grad(some, (0, 1))(z, codebook, most) for most in (2**24, 4 * 7))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), whole, blocks)


def test_the_table_of_positions_and_codes_is_never_held():
    """With its gradient, and 2^18 codes; the table alone would be 4 GiB."""
    quantizer = IndexBackpropagationQuantizer(2**18, 8)
    z = jax.ShapeDtypeStruct((16, 256, 8), jnp.float32)
    params = {'params': {'codebook': jax.ShapeDtypeStruct((2**18, 8), jnp.float32)}}

    def loss(params, z):
        quantized = quantizer.apply(params, z, train=True)
        return jnp.mean(quantized.loss) + jnp.sum(quantized.values)

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, z).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2**30


def test_any_rank_and_type_and_what_is_looked_up():
    quantizer = IndexBackpropagationQuantizer(6, 5, code_dim=3)
    z = normal(0, 2, 2, 3, 2, 5)
    variables = quantizer.init(jax.random.key(0), z)
    quantized = quantizer.apply(variables, z)
    assert quantized.codes.shape == (2, 2, 3, 2, 1) and quantized.loss.shape == (2,)
    looked_up = quantizer.apply(variables, quantized.codes, method='lookup')
    np.testing.assert_allclose(looked_up, quantized.values, atol=1e-6)
    projected = quantizer.apply(variables, z, method='project')
    np.testing.assert_array_equal(quantizer.apply(variables, projected, method='nearest'), quantized.codes)
    halves = jax.eval_shape(quantizer.apply, variables, jax.ShapeDtypeStruct(z.shape, jnp.bfloat16))
    assert halves.values.dtype == halves.loss.dtype == jnp.float32
    # In evaluation the loss of an example does not depend on the others.
    alone = quantizer.apply(variables, z[1:])
    np.testing.assert_allclose(alone.loss[0], quantized.loss[1], rtol=1e-6)


def test_a_batch_split_over_an_axis_counts_as_one():
    """The device axis, stood for by `vmap`: the mean of the parts' gradients is that of the whole."""
    z, codebook = normal(0, 4, 5, 4), normal(1, 6, 4)

    def gradient(z, axis_name=None):
        def loss(codebook):
            part = Part.of_device(len(z), axis_name)
            quantized = SMALL.apply({'params': {'codebook': codebook}}, z, train=True, part=part)
            return jnp.mean(quantized.loss) + jnp.mean(jnp.square(quantized.values))

        return jax.value_and_grad(loss)(codebook)

    whole = gradient(z)
    parts = jax.vmap(lambda z: gradient(z, 'devices'), axis_name='devices')(z.reshape(2, 2, 5, 4))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x.mean(0), y, rtol=1e-4, atol=1e-6), parts, whole)


def test_a_collapsed_codebook_opens_again():
    """All vectors have one code; the entropy of the mean alone spreads them over more."""
    z, codebook = 0.5 + 0.1 * normal(0, 1, 40, 4), normal(1, 6, 4) + 2 * jnp.eye(6)[:, :1]
    quantizer = SMALL.copy(entropy=1.0, diversity=3.0, temperature=1.0)

    @jax.jit
    def step(codebook):
        gradient = jax.grad(
            lambda c: jnp.mean(quantizer.apply({'params': {'codebook': c}}, z, train=True).loss)
        )(codebook)
        return codebook - 0.1 * gradient

    def used(codebook):
        return len(np.unique(quantizer.apply({'params': {'codebook': codebook}}, z).codes))

    assert used(codebook) == 1
    for _ in range(200):
        codebook = step(codebook)
    assert used(codebook) > 2


@pytest.mark.parametrize(
    'options, words',
    [
        ({'temperature': 0.0}, '^temperature is 0.0; give a number above 0'),
        ({'num_codes': 0}, '^num_codes is 0'),
        ({'codebook_weight': -1.0}, '^codebook_weight is -1.0; give 0 or more'),
    ],
)
def test_mistakes(options, words):
    with pytest.raises(UserError, match=words):
        IndexBackpropagationQuantizer(**options)

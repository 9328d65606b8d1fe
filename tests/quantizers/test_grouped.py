"""Product quantization against its groups, each by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.quantizers import (
    FiniteScalarQuantizer,
    GroupedQuantizer,
    ResidualQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)
from vq_jax.quantizers.quantizer import BATCH_MEANS, STATISTICS, decodable

VQ = VectorQuantizer(num_codes=6, dim=3, codebook_init='random', revive_below=0.0)
KINDS = {
    'vq': VQ,
    'residual': ResidualQuantizer(VQ, 3),
    'fsq': FiniteScalarQuantizer((3, 4), dim=3),
    'simvq': SimVectorQuantizer(6, dim=3),
}


def made(quantizer, shape=(2, 5, 6)):
    z = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    return z, initialised(quantizer.init, jax.random.key(0), z)


def member(variables, i):
    return {collection: tree[f'members_{i}'] for collection, tree in variables.items()}


@pytest.mark.parametrize('kind', KINDS)
def test_each_group_is_quantized_by_itself(kind):
    quantizer = GroupedQuantizer(KINDS[kind], 2)
    z, variables = made(quantizer)
    out = quantizer.apply(variables, z)
    alone = [KINDS[kind].apply(member(variables, i), x) for i, x in enumerate(jnp.split(z, 2, -1))]
    depth = len(KINDS[kind].vocabulary)
    assert out.codes.shape == (2, 5, 2 * depth) and len(quantizer.vocabulary) == 2 * depth
    for i, one in enumerate(alone):
        np.testing.assert_array_equal(out.codes[..., i::2], one.codes)
        np.testing.assert_allclose(out.values[..., 3 * i : 3 * i + 3], one.values, atol=1e-6)
    np.testing.assert_allclose(out.loss, (alone[0].loss + alone[1].loss) / 2, rtol=1e-6)
    np.testing.assert_allclose(quantizer.apply(variables, out.codes, method='lookup'), out.values, atol=1e-5)
    # Also while it computes.
    assert quantizer.apply(variables, method=decodable) == quantizer.decodable
    begins = quantizer.apply(variables, method=lambda module: module.init_batches)
    assert begins == getattr(KINDS[kind], 'init_batches', 0)
    compared = quantizer.apply(variables, z, method='project')
    np.testing.assert_array_equal(quantizer.apply(variables, compared, method='nearest'), out.codes)


def test_the_first_codes_are_the_first_depths_of_each_group():
    quantizer = GroupedQuantizer(KINDS['residual'], 2)
    z, variables = made(quantizer)
    codes = quantizer.apply(variables, z).codes
    assert quantizer.decodable == (2, 4, 6) and GroupedQuantizer(VQ, 2).decodable == (2,)
    first = quantizer.apply(variables, codes[..., :2], method='lookup')
    for i in range(2):
        expected = KINDS['residual'].apply(member(variables, i), codes[..., i : i + 1], method='lookup')
        np.testing.assert_allclose(first[..., 3 * i : 3 * i + 3], expected, atol=1e-6)
    with pytest.raises(UserError, match='there are 3 codes at a position and 2 groups'):
        quantizer.apply(variables, codes[..., :3], method='lookup')


def test_codebooks_begin_and_learn_in_their_groups():
    vq = VectorQuantizer(num_codes=6, dim=3, revive_below=0.9, decay=0.5)
    quantizer = GroupedQuantizer(vq, 2)
    z, variables = made(quantizer)
    assert quantizer.init_batches == 4
    _, begun = quantizer.apply(
        variables, jax.random.key(1), z.reshape(-1, 6), method='init_from_data', mutable=[STATISTICS]
    )
    points = np.asarray(z).reshape(-1, 2, 3)
    for i in range(2):
        codebook = begun[STATISTICS][f'members_{i}']['codebook']
        assert np.abs(codebook.mean(0) - points[:, i].mean(0)).max() < 1
    rngs = {'codebook': jax.random.key(2)}
    _, means = quantizer.apply({**variables, **begun}, z, train=True, mutable=[BATCH_MEANS], rngs=rngs)
    metrics, learned = quantizer.apply(
        {**variables, **begun, **means}, method='after_update', mutable=[STATISTICS]
    )
    assert metrics['codes_revived'] >= 0
    for name, before in begun[STATISTICS].items():
        assert (learned[STATISTICS][name]['codebook'] != before['codebook']).any()

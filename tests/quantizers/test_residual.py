"""The residual quantizer against NumPy, and its properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.quantizers import ResidualQuantizer, VectorQuantizer
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS


def vectors(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def make(depth=3, **options):
    one = VectorQuantizer(
        **{'num_codes': 8, 'dim': 4, 'codebook_init': 'kmeans', 'revive_below': 0.0} | options
    )
    quantizer = ResidualQuantizer(one, depth)
    z = vectors((2, 30, 4))
    variables = initialised(quantizer.init, jax.random.key(0), z)
    _, begun = quantizer.apply(
        variables,
        jax.random.key(1),
        z.reshape(-1, 4),
        method='init_from_data',
        mutable=['params', STATISTICS],
    )
    return quantizer, {**variables, **begun}, z


def codebooks(variables, learning):
    kept = variables[STATISTICS] if learning == 'moving_average' else variables['params']
    return [np.float64(kept[f'stages_{i}']['codebook']) for i in range(3)]


@pytest.mark.parametrize('learning', ['moving_average', 'gradient'])
def test_each_depth_has_the_nearest_code_of_what_is_left_over(learning):
    """Algorithm 1 of SoundStream."""
    quantizer, variables, z = make(learning=learning)
    out = quantizer.apply(variables, z)
    residual, total = np.float64(z), 0.0
    for depth, codebook in enumerate(codebooks(variables, learning)):
        nearest = np.square(residual[..., None, :] - codebook).sum(-1).argmin(-1)
        np.testing.assert_array_equal(out.codes[..., depth], nearest)
        total, residual = total + codebook[nearest], residual - codebook[nearest]
        partial = quantizer.apply(variables, out.codes[..., : depth + 1], method='lookup')
        np.testing.assert_allclose(partial, total, atol=1e-5)
    np.testing.assert_allclose(out.values, total, atol=1e-5)
    np.testing.assert_array_equal(quantizer.apply(variables, z, method='nearest'), out.codes)
    assert out.codes.shape == (2, 30, 3) and quantizer.vocabulary == (8, 8, 8)


def test_kmeans_begins_each_depth_in_what_is_left_over():
    quantizer, variables, z = make()
    codes = quantizer.apply(variables, z).codes
    errors = [
        float(jnp.mean((quantizer.apply(variables, codes[..., :n], method='lookup') - z) ** 2))
        for n in (1, 2, 3)
    ]
    assert errors[0] < 0.6 and errors[1] < 0.6 * errors[0] and errors[2] < 0.6 * errors[1]


def test_the_straight_through_gradient_is_one_and_the_commitment_reaches_each_depth():
    quantizer, variables, z = make()
    weight = vectors(z.shape, 1)
    through = jax.grad(lambda z: jnp.sum(weight * quantizer.apply(variables, z).values))(z)
    np.testing.assert_allclose(through, weight, atol=1e-6)
    # Mean over depths, positions and dimensions of |r_i - sg(e_i)|^2, where r_i moves with z.
    pull = jax.grad(lambda z: jnp.sum(quantizer.apply(variables, z).loss))(z)
    residual, expected = np.float64(z), 0.0
    for depth, codebook in enumerate(codebooks(variables, 'moving_average')):
        residual = residual - codebook[np.asarray(quantizer.apply(variables, z).codes[..., depth])]
        expected = expected + 0.25 * 2 * residual / (30 * 4) / 3
    np.testing.assert_allclose(pull, expected, atol=1e-6)


def test_each_codebook_learns_and_revives_once_an_update():
    quantizer, variables, z = make(revive_below=0.9, decay=0.5)
    _, means = quantizer.apply(
        variables, z, train=True, mutable=[BATCH_MEANS], rngs={'codebook': jax.random.key(0)}
    )
    metrics, changed = quantizer.apply({**variables, **means}, method='after_update', mutable=[STATISTICS])
    for name, before in variables[STATISTICS].items():
        assert (before['codebook'] != changed[STATISTICS][name]['codebook']).any()
    assert metrics['codes_revived'] > 0
    drawn = [np.asarray(means[BATCH_MEANS][f'stages_{i}']['codebook']['vectors']) for i in range(3)]
    assert not np.allclose(drawn[0], drawn[1])


def test_gradients_teach_each_codebook():
    quantizer, variables, z = make(learning='gradient', revive_below=0.9)
    grads = jax.grad(lambda p: jnp.sum(quantizer.apply({**variables, 'params': p}, z).loss))(
        variables['params']
    )
    assert all((np.abs(g['codebook']).sum(1) > 0).mean() > 0.5 for g in grads.values())
    _, means = quantizer.apply(
        variables, z, train=True, mutable=[BATCH_MEANS], rngs={'codebook': jax.random.key(0)}
    )
    _, changed = quantizer.apply(
        {**variables, **means}, method='after_update', mutable=[STATISTICS, REVIVALS]
    )
    assert set(changed[REVIVALS]) == {'stages_0', 'stages_1', 'stages_2'}


@pytest.mark.parametrize('depth, options', [(0, {}), (2, {'cosine': True}), (2, {'code_dim': 2})])
def test_what_does_not_fit_is_refused(depth, options):
    with pytest.raises(UserError, match=r'depth is 0|leave code_dim and cosine'):
        ResidualQuantizer(VectorQuantizer(num_codes=4, dim=3, **options), depth)

"""The quantizer against the paper in NumPy, and its properties."""

import re

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from tests.runs import ROOT
from vq_jax.errors import UserError
from vq_jax.ops.parts import mean_over_parts
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS, revive
from vq_jax.quantizers.vq import VectorQuantizer


def make(z, **options):
    options = {'num_codes': 6, 'dim': z.shape[-1], 'codebook_init': 'random', 'revive_below': 0.0} | options
    quantizer = VectorQuantizer(**options)
    return quantizer, initialised(quantizer.init, jax.random.key(0), z)


def step(quantizer, variables, z, seed=0):
    """What a training call returns, and what then changed, with the numbers of that."""
    quantized, means = call(quantizer, variables, z, seed=seed)
    metrics, changed = learn(quantizer, variables, means)
    return quantized, changed, metrics


def call(quantizer, variables, z, part=None, seed=0):
    return quantizer.apply(
        variables, z, train=True, part=part, mutable=[BATCH_MEANS], rngs={'codebook': jax.random.key(seed)}
    )


def learn(quantizer, variables, means):
    return quantizer.apply({**variables, **means}, method='after_update', mutable=[STATISTICS, REVIVALS])


def test_codes_compared_by_direction_begin_around_directions():
    rng = np.random.default_rng(0)
    directions = np.repeat([[1.0, 0.1, 0], [0, 1, 0.1], [0.1, 0, 1]], 20, 0)
    z = np.float32(directions * rng.uniform(1, 10, (60, 1)) + rng.normal(0, 0.01, (60, 3)))
    quantizer, variables = make(
        z, num_codes=3, codebook_init='kmeans', cosine=True, unit_length=False, learning='gradient'
    )
    _, changed = quantizer.apply(
        variables, jax.random.key(1), z, method='init_from_data', mutable=['params', STATISTICS]
    )
    codes = np.asarray(changed['params']['codebook'])
    expected = z.reshape(3, 20, 3).mean(1)
    np.testing.assert_allclose(codes[np.argmax(codes, 0)], expected, rtol=1e-5)


def vectors(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_codebook_learns_as_the_docs_show():
    page = (ROOT / 'docs' / 'python.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    (code,) = (block for block in blocks if 'VectorQuantizer(' in block)
    here = {}
    exec(code, here)
    here['z'] += 1
    placed = here['variables'][STATISTICS]['codebook']
    exec(code[code.index('quantized, means =') :], here)
    moved = here['variables'][STATISTICS]['codebook'] - placed
    assert moved.shape == placed.shape and moved.mean() > 1e-3


def test_training_call_that_keeps_nothing_to_learn_from_is_an_error():
    z = vectors((2, 4, 3))
    quantizer, variables = make(z)
    with pytest.raises(flax.errors.ModifyScopeVariableError, match=BATCH_MEANS):
        quantizer.apply(variables, z, train=True, mutable=[STATISTICS])


def test_moving_average_is_the_papers():
    """van den Oord et al. 2017, equations 6 to 8, with counts; codes out of the batch stay."""
    k, gamma = 6, 0.9
    z = vectors((4, 10, 3))
    quantizer, variables = make(z, decay=gamma, num_codes=k)
    e = np.float64(variables[STATISTICS]['codebook'])
    n = z[..., 0].size
    counts, sums = np.full(k, n / k), e * n / k
    for seed in range(5):
        z = vectors((4, 10, 3), seed)
        flat = np.float64(z).reshape(-1, 3)
        codes = np.square(flat[:, None] - e).sum(-1).argmin(1)
        chosen = np.eye(k)[codes]
        counts = gamma * counts + (1 - gamma) * chosen.sum(0)
        sums = gamma * sums + (1 - gamma) * chosen.T @ flat
        e = np.where(chosen.sum(0)[:, None] > 0, sums / counts[:, None], e)

        quantized, changed, _ = step(quantizer, variables, z)
        variables = {**variables, STATISTICS: changed[STATISTICS]}
        np.testing.assert_array_equal(quantized.codes.reshape(-1), codes)
        np.testing.assert_allclose(variables[STATISTICS]['codebook'], e, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(variables[STATISTICS]['shares'], counts / n, rtol=1e-5)


def test_gradient_of_the_codebook_is_the_closed_form():
    z = vectors((2, 7, 3))
    quantizer, variables = make(z, learning='gradient', commitment=0.25)

    def loss(params, z):
        return quantizer.apply({**variables, 'params': params}, z).loss.sum()

    d_params, d_z = jax.grad(loss, (0, 1))(variables['params'], z)
    e = np.asarray(variables['params']['codebook'])
    codes = np.asarray(quantizer.apply(variables, z).codes)[..., 0]
    difference = 2 * (e[codes] - z) / (7 * 3)
    expected = np.zeros_like(e)
    np.add.at(expected, codes.reshape(-1), difference.reshape(-1, 3))
    np.testing.assert_allclose(d_params['codebook'], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(d_z, -0.25 * difference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    'options, shape',
    [
        ({}, (2, 12)),
        ({}, (2, 3, 4)),
        ({'cosine': True}, (2, 3, 4)),
        ({'code_dim': 2}, (2, 3, 2, 2)),
        ({'learning': 'gradient'}, (2, 12)),
    ],
)
def test_any_leading_shape(options, shape):
    z = vectors((*shape, 4))
    quantizer, variables = make(z, **options)
    quantized = quantizer.apply(variables, z)
    assert quantized.codes.shape == (*shape, 1) and quantized.loss.shape == shape[:1]
    assert quantized.values.shape == z.shape
    flat = quantizer.apply(variables, z.reshape(2, -1, 4))
    np.testing.assert_array_equal(flat.codes.reshape(-1), quantized.codes.reshape(-1))
    looked_up = quantizer.apply(variables, quantized.codes, method='lookup')
    np.testing.assert_allclose(looked_up, quantized.values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('learning', ['gradient', 'moving_average'])
def test_cosine_compares_directions(learning):
    z = vectors((2, 20, 3))
    quantizer, variables = make(z, cosine=True, learning=learning)
    _, changed, _ = step(quantizer, variables, z)
    variables = {**variables, STATISTICS: changed[STATISTICS]}
    codebook = quantizer.apply(variables, method='vectors')
    np.testing.assert_allclose(np.linalg.norm(codebook, axis=-1), 1, rtol=1e-5)
    codes = quantizer.apply(variables, z).codes[..., 0]
    np.testing.assert_array_equal(codes, np.argmax(np.asarray(z) @ np.asarray(codebook).T, -1))
    np.testing.assert_array_equal(codes, quantizer.apply(variables, 5 * z).codes[..., 0])


@pytest.mark.parametrize('learning', ['gradient', 'moving_average'])
def test_dead_codes_move_onto_vectors_of_the_batch(learning):
    z = vectors((4, 16, 3))
    quantizer, variables = make(z, learning=learning, revive_below=0.5, decay=0.9)
    far = jnp.full((6, 3), 1e3).at[0].set(0.0)
    shares = jnp.asarray([1.0, 0, 0, 0, 0, 0])
    _, placed = quantizer.apply(variables, far, shares, method='set_codes', mutable=['params', STATISTICS])
    variables = {**variables, **placed}
    _, changed, metrics = step(quantizer, variables, z)
    assert metrics['codes_revived'] == 5
    params = revive(variables.get('params', {}), changed.get(REVIVALS, {}))
    variables = {'params': params, STATISTICS: changed[STATISTICS]}
    codebook = np.asarray(quantizer.apply(variables, method='vectors'))
    flat = np.asarray(z).reshape(-1, 3)
    for code in codebook[1:]:
        assert (flat == code).all(1).any()
    assert len(np.unique(codebook[1:], axis=0)) == 5
    assert set(np.unique(quantizer.apply(variables, z).codes)) >= {1, 2, 3, 4, 5}
    # They have time to prove themselves.
    assert step(quantizer, variables, z)[2]['codes_revived'] == 0


@pytest.mark.parametrize('k, n, distinct', [(512, 768, 512), (512, 1024, 512), (8, 5, 5)])
def test_dead_codes_get_different_vectors_where_there_are_enough(k, n, distinct):
    z = vectors((1, n, 3))
    quantizer, variables = make(z, num_codes=k, revive_below=1.0, decay=0.9999)
    # No code was in use for long, and one batch does not bring any of them back.
    dead = {**variables[STATISTICS], 'shares': jnp.zeros(k)}
    _, changed, metrics = step(quantizer, {**variables, STATISTICS: dead}, z)
    assert metrics['codes_revived'] == k
    codes = changed[STATISTICS]['codebook']
    assert len(np.unique(codes, axis=0)) == distinct and np.isin(codes, z).all()


def test_revive_changes_dead_rows_alone():
    params = {'a': {'codebook': jnp.zeros((3, 2)), 'w': jnp.ones(2)}, 'b': jnp.ones(1)}
    dead = jnp.asarray([[False], [True], [False]])
    out = revive(params, {'a': {'codebook': (dead, jnp.full((3, 2), 7.0))}})
    np.testing.assert_array_equal(out['a']['codebook'], [[0, 0], [7, 7], [0, 0]])
    assert out['a']['w'] is params['a']['w'] and out['b'] is params['b']


def test_evaluation_changes_nothing():
    z = vectors((2, 5, 3))
    quantizer, variables = make(z, revive_below=0.5)
    _, changed = quantizer.apply(variables, z, mutable=True)
    jax.tree.map(np.testing.assert_array_equal, changed[STATISTICS], variables[STATISTICS])


def test_statistics_are_float32_for_bfloat16_vectors():
    z = vectors((2, 5, 4)).astype(jnp.bfloat16)
    quantizer, variables = make(z, code_dim=2, revive_below=0.1)
    quantized, changed, _ = step(quantizer, variables, z)
    assert quantized.loss.dtype == jnp.float32
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(changed[STATISTICS]))


@pytest.mark.parametrize(
    'learning, devices, parts',
    [
        pytest.param('moving_average', 4, 1, marks=pytest.mark.slow),
        pytest.param('moving_average', 1, 4, marks=pytest.mark.slow),
        ('moving_average', 2, 2),
        ('gradient', 2, 2),
    ],
)
def test_a_batch_in_parts_counts_as_one(learning, devices, parts):
    """Parts one after another, and on devices, which `vmap` stands for: all is of the whole batch."""
    z = vectors((8, 6, 3))
    quantizer, variables = make(z, learning=learning, revive_below=0.9, num_codes=16, decay=0.5)
    whole, means = call(quantizer, variables, z)

    def of_part(z, part):
        quantized, means = call(quantizer, variables, z, part)
        return quantized.metrics, means

    def of_device(z):
        return mean_over_parts(of_part, z, parts, 'devices')

    found = jax.vmap(of_device, axis_name='devices')(z.reshape(devices, -1, 6, 3))
    metrics, means_in_parts = jax.tree.map(lambda x: x[0], found)
    for name, value in whole.metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)
    results = [learn(quantizer, variables, x) for x in (means_in_parts, means)]
    assert results[0][0]['codes_revived'] == results[1][0]['codes_revived'] > 0
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), results[0][1], results[1][1]
    )


@pytest.mark.parametrize(
    'options',
    [{'kmeans_batches': 0}, {'decay': 1.0}, {'decay': -0.1}, {'revive_below': 1.5}, {'commitment': -1.0}],
)
def test_numbers_out_of_range(options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=f'^{name} is {value}; give'):
        make(vectors((2, 5, 3)), **options)


def test_vectors_of_another_width():
    with pytest.raises(UserError, match='have 4 numbers and the quantizer was made for 3; set its dim'):
        make(vectors((2, 5, 4)), dim=3)

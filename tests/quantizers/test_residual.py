"""The residual quantizer against NumPy, and its properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.ops.parts import mean_over_parts
from vq_jax.quantizers import FiniteScalarQuantizer, ResidualQuantizer, VectorQuantizer
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS

# Of ResidualVectorQuantize of descript-audio-codec (commit c7cfc5d, PyTorch 2.13.0, CPU) with these weights,
# in training, with 1, 3 and 2 depths of three examples; of the loss below, where its two losses are divided
# by the number of depths. Values and gradients of two positions, and gradients of three codes of each depth.
DAC_CODES = [
    [[0, 5, 0], [2, 6, 0], [7, 5, 0], [5, 6, 1], [2, 6, 6]],
    [[6, 2, 0], [0, 3, 2], [4, 0, 4], [4, 6, 7], [3, 5, 0]],
    [[3, 5, 0], [2, 6, 7], [4, 2, 2], [7, 5, 0], [0, 4, 1]],
]
DAC_LOSS = 2.1885614
DAC_VALUES = [
    [
        [-0.04853, -0.78907, -0.01588, 0.4915, 0.3495, -0.06416],
        [0.1661, 0.00369, 0.31684, -0.02424, -0.16602, 0.33628],
    ],
    [
        [-0.32747, -1.43969, -0.84066, 0.80722, 0.9545, -0.14552],
        [-0.54364, -1.70961, 0.37074, 0.46233, -0.73796, -0.45248],
    ],
    [
        [0.18818, -2.41422, 0.38753, 1.45528, 1.1062, 2.10763],
        [0.15303, 0.89511, -0.40827, -0.04941, -0.70014, 0.26609],
    ],
]
DAC_OF_VECTORS = [
    [
        [0.01684, 0.43604, -0.36584, -0.5193, 0.30252, -1.09854],
        [-0.27943, 0.14287, -0.02303, 0.14654, 0.00681, -0.85887],
    ],
    [
        [1.39396, 0.96966, -1.36521, 0.24864, 2.99458, 3.93291],
        [0.4867, 0.28451, -0.7424, 0.36756, 0.2788, 0.65403],
    ],
    [
        [0.2114, 0.23116, -0.67921, 1.06608, 1.33089, 2.86081],
        [0.12872, 0.31826, -0.54127, 0.35479, 0.88345, 1.12769],
    ],
]
DAC_OF_CODES = [
    [[0.02459, 0.00864], [-0.01592, 0.06689], [-0.04627, 0.09233]],
    [[0.07028, 0.05119], [-0.01434, 0.00873], [0.00603, 0.00132]],
    [[-0.05179, -0.06492], [0.00771, -0.00639], [0.0, 0.0]],
]
DAC_OF_BIASES_IN = [
    [2.47671, -2.54077],
    [-2.72763, -1.78972],
    [-1.11542, 1.79653],
]
DAC_OF_BIASES_OUT = [
    [-3.11071, -0.07066, 0.16721, -7.49843, -3.84366, -0.98189],
    [-0.02953, 2.20514, -2.22399, -2.69994, -2.03153, -0.78413],
    [-2.32237, 3.29476, -2.06889, -1.09988, -0.20829, 2.11199],
]


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


@pytest.mark.parametrize('learning', ['moving_average', 'gradient'])
def test_kmeans_begins_each_depth_in_what_is_left_over(learning):
    quantizer, variables, z = make(learning=learning)
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


def dac():
    """Vectors, weights of values, and the quantizer with its variables, as the reference had them."""
    draw = np.random.default_rng(0)
    z, weight = (jnp.asarray(draw.normal(size=(3, 5, 6)), jnp.float32) for _ in range(2))
    one = VectorQuantizer(
        8,
        dim=6,
        code_dim=2,
        cosine=True,
        unit_length=False,
        learning='gradient',
        codebook_init='random',
        revive_below=0.0,
    )
    quantizer = ResidualQuantizer(one, 3, dropout=1.0)
    variables = initialised(quantizer.init, jax.random.key(0), z)
    params = {}
    for i in range(3):
        stage = {}
        for name, shape in (('project_in', (6, 2)), ('project_out', (2, 6))):
            kernel = 0.4 * draw.normal(size=shape).astype('f4')
            stage[name] = {'kernel': kernel, 'bias': 0.1 * draw.normal(size=shape[1]).astype('f4')}
        params[f'stages_{i}'] = stage | {'codebook': draw.normal(size=(8, 2)).astype('f4')}
    return z, weight, quantizer, {**variables, 'params': jax.tree.map(jnp.float32, params)}


def test_maps_and_dropout_are_those_of_dac(monkeypatch):
    z, weight, quantizer, variables = dac()
    depths = [jnp.asarray([[True], [True], [True]]), jnp.asarray([[False], [True], [True]])]
    depths.append(jnp.asarray([[False], [True], [False]]))
    monkeypatch.setattr(ResidualQuantizer, '_used', lambda *_: depths)

    def loss(params, z):
        given = {**variables, 'params': params}
        out, _ = quantizer.apply(given, z, train=True, mutable=[BATCH_MEANS])
        return jnp.vdot(weight, out.values) + jnp.mean(out.loss), out

    (of_params, of_vectors), out = jax.grad(loss, (0, 1), has_aux=True)(variables['params'], z)
    np.testing.assert_array_equal(out.codes, DAC_CODES)
    np.testing.assert_allclose(jnp.mean(out.loss), (0.25 + 1) * DAC_LOSS / 3, rtol=1e-5)
    np.testing.assert_allclose(out.values[:, :2], DAC_VALUES, atol=2e-5)
    np.testing.assert_allclose(of_vectors[:, :2], DAC_OF_VECTORS, atol=2e-5)
    for i in range(3):
        of_stage = of_params[f'stages_{i}']
        np.testing.assert_allclose(of_stage['codebook'][np.asarray([0, 2, 3])], DAC_OF_CODES[i], atol=2e-5)
        np.testing.assert_allclose(of_stage['project_in']['bias'], DAC_OF_BIASES_IN[i], atol=2e-5)
        np.testing.assert_allclose(of_stage['project_out']['bias'], DAC_OF_BIASES_OUT[i], atol=2e-5)


def trained(quantizer, variables, z, part=None):
    rngs = {'codebook': jax.random.key(0)}
    return quantizer.apply(variables, z, train=True, part=part, mutable=[BATCH_MEANS], rngs=rngs)


def learned(quantizer, variables, means):
    return quantizer.apply({**variables, **means}, method='after_update', mutable=[STATISTICS, REVIVALS])


def test_examples_have_any_number_of_depths_and_no_other_learns_from_them():
    quantizer, variables, _ = make(decay=0.5)
    quantizer = quantizer.clone(dropout=1.0)
    z = vectors((60, 1, 4))
    out, means = trained(quantizer, variables, z)
    values = [quantizer.apply(variables, out.codes[..., :n], method='lookup') for n in (1, 2, 3)]
    distances = [np.abs(out.values - each).max((1, 2)) for each in values]
    depths = np.argmin(distances, axis=0) + 1
    np.testing.assert_allclose(np.min(distances, axis=0), 0, atol=1e-5)
    assert (np.bincount(depths, minlength=4)[1:] > 8).all()  # the last one too
    _, changed = learned(quantizer, variables, means)
    for i in range(3):
        # Shares are of the examples that have the depth; of no others its codes are the means.
        codes = np.asarray(out.codes[depths > i, 0, i])
        before, after = (x[STATISTICS][f'stages_{i}'] for x in (variables, changed))
        shares = 0.5 * before['shares'] + 0.5 * np.bincount(codes, minlength=8) / len(codes)
        np.testing.assert_allclose(after['shares'], shares, rtol=1e-5)
        unused = np.setdiff1d(np.arange(8), codes)
        np.testing.assert_array_equal(after['codebook'][unused], before['codebook'][unused])
    evaluated = quantizer.apply(variables, z)
    np.testing.assert_allclose(evaluated.values, values[2], atol=1e-5)


@pytest.mark.slow
def test_one_codebook_for_all_depths_learns_once_from_all():
    quantizer, _, z = make(decay=0.5, revive_below=0.9)
    quantizer = quantizer.clone(shared=True)
    variables = initialised(quantizer.init, jax.random.key(0), z)
    _, begun = quantizer.apply(
        variables, jax.random.key(1), z.reshape(-1, 4), method='init_from_data', mutable=[STATISTICS]
    )
    variables = {**variables, **begun}
    assert set(begun[STATISTICS]) == {'stages_0'} and quantizer.vocabulary == (8, 8, 8)
    before = begun[STATISTICS]['stages_0']
    out, means = trained(quantizer, variables, z)
    np.testing.assert_allclose(
        out.values, np.float64(before['codebook'])[np.asarray(out.codes)].sum(-2), atol=1e-5
    )
    np.testing.assert_allclose(
        means[BATCH_MEANS]['stages_0']['codebook']['shares'],
        np.bincount(np.asarray(out.codes).reshape(-1), minlength=8) / out.codes.size,
        rtol=1e-6,
    )
    assert means[BATCH_MEANS]['stages_0']['codebook']['vectors'].shape == (8, 4)
    metrics, changed = learned(quantizer, variables, means)
    assert metrics['codes_revived'] <= 8
    assert (changed[STATISTICS]['stages_0']['codebook'] != before['codebook']).any()


@pytest.mark.parametrize('shared', [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_batch_in_parts_counts_as_one(shared):
    """Two parts on each of two devices, which `vmap` stands for."""
    quantizer, variables, _ = make(revive_below=0.9, decay=0.5)
    quantizer = quantizer.clone(shared=shared, dropout=0.7)
    z = vectors((8, 6, 4))
    whole, means = trained(quantizer, variables, z)

    def of_part(z, part):
        out, means = trained(quantizer, variables, z, part)
        return jnp.mean(out.loss), means

    def of_device(z):
        return mean_over_parts(of_part, z, 2, 'devices')

    found = jax.vmap(of_device, axis_name='devices')(z.reshape(2, -1, 6, 4))
    loss, means_in_parts = jax.tree.map(lambda x: x[0], found)
    np.testing.assert_allclose(loss, jnp.mean(whole.loss), rtol=1e-5)
    results = [learned(quantizer, variables, x) for x in (means_in_parts, means)]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), *results)


@pytest.mark.slow
def test_collapsed_and_tiny_batches_in_bfloat16_stay_finite():
    for options in ({'shared': True}, {'dropout': 1.0}):
        quantizer, variables, _ = make(revive_below=0.9, decay=0.5, estimator='rotation')
        quantizer = quantizer.clone(**options)
        for z in (jnp.zeros((1, 1, 4), jnp.bfloat16), jnp.ones((2, 3, 4), jnp.bfloat16)):
            for _ in range(3):
                out, means = trained(quantizer, variables, z)
                _, changed = learned(quantizer, variables, means)
                variables = {**variables, STATISTICS: changed[STATISTICS]}
            assert all(np.isfinite(x).all() for x in jax.tree.leaves((out, changed)))
            assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((out.values, changed[STATISTICS])))


def test_more_depths_than_were_learned_are_refused():
    quantizer, variables, _ = make()
    assert quantizer.decodable == (1, 2, 3)
    with pytest.raises(UserError, match='the codes have 4 depths, and 3 were learned'):
        quantizer.apply(variables, jnp.zeros((2, 4), jnp.int32), method='lookup')


@pytest.mark.parametrize(
    'options, of_one, words',
    [
        ({'depth': 0}, {}, 'depth is 0'),
        ({'dropout': 1.5}, {}, 'dropout is 1.5; give'),
        ({}, {'cosine': True}, 'give it a code_dim, .* or unit_length=False'),
    ],
)
def test_what_does_not_fit_is_refused(options, of_one, words):
    with pytest.raises(UserError, match=words):
        ResidualQuantizer(VectorQuantizer(num_codes=4, dim=3, **of_one), **options)


def test_each_depth_is_a_vector_quantizer():
    with pytest.raises(UserError, match=r'^quantizer is a FiniteScalarQuantizer, .* give one\.'):
        ResidualQuantizer(FiniteScalarQuantizer((3, 4), dim=3), 2)

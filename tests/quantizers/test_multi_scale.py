"""The multi-scale residual quantizer: its properties, and what it refuses; `test_published.py` has VAR's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.ops.interpolation import area, bicubic
from vq_jax.ops.parts import mean_over_parts
from vq_jax.quantizers import MultiScaleQuantizer, VectorQuantizer
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS, Multiscale, StartsFromData


def make(grid=(4, 4), scales=(1, 2, 4), b=4, **options):
    one = VectorQuantizer(**{'num_codes': 8, 'dim': 3, 'revive_below': 0.0} | options)
    quantizer = MultiScaleQuantizer(one, grid, scales)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(b, *grid, 3)), jnp.float32)
    variables = initialised(quantizer.init, jax.random.key(0), z)
    begin = jax.jit(
        lambda variables: quantizer.apply(
            variables,
            jax.random.key(1),
            z.reshape(-1, 3),
            method='init_from_data',
            mutable=['params', STATISTICS],
        )[1]
    )
    return quantizer, {**variables, **begin(variables)}, z


def codebook(variables):
    kept = variables.get('params', {}).get('quantizer') or variables[STATISTICS]['quantizer']
    return np.asarray(kept['codebook'])


@pytest.mark.parametrize('learning', [pytest.param('moving_average', marks=pytest.mark.slow), 'gradient'])
def test_each_scale_has_the_nearest_codes_of_what_the_coarser_ones_leave(learning):
    """Algorithms 1 and 2 of the paper, and that more scales come nearer, from where k-means begins."""
    quantizer, variables, z = make(learning=learning)
    assert isinstance(quantizer, Multiscale) and isinstance(quantizer, StartsFromData)
    assert quantizer.grids == ((1, 1), (2, 2), (4, 4)) and quantizer.decodable_scales == (1, 2, 3)
    out = jax.jit(quantizer.apply)(variables, z)
    codes, errors, total = codebook(variables), [], np.zeros(z.shape)
    for n, grid in enumerate(quantizer.grids, 1):
        left = np.asarray(area(z - total, grid))
        nearest = np.square(left[..., None, :] - codes).sum(-1).argmin(-1)
        np.testing.assert_array_equal(out.codes[n - 1][..., 0], nearest)
        phi = variables['params'][f'phi_{n - 1}']  # three scales have one each
        spread = bicubic(codes[nearest], (4, 4))
        convolved = jax.lax.conv_general_dilated(
            spread, phi['kernel'], (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
        )
        total = total + 0.5 * np.asarray(spread) + 0.5 * np.asarray(convolved + phi['bias'])
        looked_up = quantizer.apply(variables, out.codes[:n], method='lookup')
        np.testing.assert_allclose(looked_up, total, atol=1e-5)
        np.testing.assert_allclose(quantizer.apply(variables, z, n - 1, method='vectors'), left, atol=1e-5)
        errors.append(np.square(z - total).mean((1, 2, 3)))
    np.testing.assert_allclose(out.values, total, atol=1e-5)
    np.testing.assert_allclose(out.loss, 1.25 * np.mean(errors, axis=0), rtol=1e-5)
    errors = np.mean(errors, axis=1)
    assert errors[2] < errors[1] < errors[0] < np.square(z).mean()


def test_one_codebook_learns_from_all_scales_the_same_in_parts():
    quantizer, variables, z = make(learning='moving_average', decay=0.5, revive_below=0.5)

    def means(parts):
        def of_part(z, part):
            out, left = quantizer.apply(
                variables,
                z,
                train=True,
                part=part,
                mutable=[BATCH_MEANS],
                rngs={'codebook': jax.random.key(3)},
            )
            return {'left': left, 'loss': jnp.mean(out.loss), 'metrics': out.metrics}

        return jax.jit(lambda z: mean_over_parts(of_part, z, parts, None))(z)

    whole, in_parts = means(1), means(2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, in_parts)
    learned = whole['left'][BATCH_MEANS]['quantizer']['codebook']
    out = quantizer.apply(variables, z)
    chosen = np.concatenate([np.asarray(scale).reshape(-1) for scale in out.codes])
    assert len(chosen) == 4 * (1 + 4 + 16)
    np.testing.assert_allclose(learned['shares'], np.bincount(chosen, minlength=8) / len(chosen), atol=1e-6)
    metrics, changed = quantizer.apply(
        {**variables, **whole['left']}, method='after_update', mutable=[STATISTICS, REVIVALS]
    )
    assert 0 <= metrics['codes_revived'] <= 8
    assert (changed[STATISTICS]['quantizer']['codebook'] != codebook(variables)).any()


def test_the_encoder_and_all_that_is_learned_by_gradient_get_one():
    quantizer, variables, z = make(learning='gradient', orthogonality=0.1)
    weight = jnp.asarray(np.random.default_rng(1).normal(size=z.shape), jnp.float32)

    def values(z):
        return jnp.vdot(weight, quantizer.apply(variables, z).values)

    def loss(params):
        return jnp.mean(quantizer.apply({**variables, 'params': params}, z).loss)

    np.testing.assert_allclose(jax.grad(values)(z), weight, atol=1e-6)
    gradients = jax.grad(loss)(variables['params'])
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(gradients))
    assert set(gradients) == {'quantizer', 'phi_0', 'phi_1', 'phi_2'}


@pytest.mark.parametrize(
    'grid, grids',
    [
        ((6,), ((1,), (3,), (6,))),
        pytest.param((2, 4, 6), ((1, 1, 1), (1, 2, 3), (2, 4, 6)), marks=pytest.mark.slow),
    ],
)
def test_grids_of_other_ranks_and_proportions(grid, grids):
    quantizer, variables, z = make(grid, (1, 3, 6), b=2)
    assert quantizer.grids == grids
    out = jax.jit(quantizer.apply)(variables, z.astype(jnp.bfloat16))
    assert [scale.shape for scale in out.codes] == [(2, *one, 1) for one in grids]
    assert out.values.dtype == out.loss.dtype == jnp.float32
    looked_up = quantizer.apply(variables, out.codes, method='lookup')
    np.testing.assert_allclose(looked_up, out.values, atol=0.03)  # of z in bfloat16


@pytest.mark.parametrize('options', [{'convolutions': 9}, {'convolutions': 1}, {'blend': 0.0}])
def test_how_many_convolutions(options):
    quantizer, _, z = make()
    shapes = jax.eval_shape(quantizer.clone(**options).init, jax.random.key(0), z)
    kernels = [name for name in shapes.get('params', {}) if name.startswith('phi')]
    assert len(kernels) == (0 if 'blend' in options else min(3, options['convolutions']))


@pytest.mark.parametrize(
    'options, words',
    [
        ({'scales': (1, 4, 2)}, r'scales is \(1, 4, 2\); give them from coarse to fine'),
        ({'scales': (1, 2)}, r'scales is \(1, 2\), and the vectors have a grid of 4x4; let the last be 4'),
        ({'scales': ()}, r'scales is \(\); give 1 or more'),
        ({'scales': (0, 4)}, r'scales is \(0, 4\); give 1 or more'),
        ({'convolutions': 0}, 'convolutions is 0; give 1'),
        ({'blend': 1.5}, 'blend is 1.5; give a number from 0 to 1'),
        (
            {'quantizer': VectorQuantizer(code_dim=2)},
            'compares vectors as they are, .* a code_dim of 2; leave',
        ),
        ({'quantizer': VectorQuantizer(cosine=True)}, 'unit length; give it unit_length=False'),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    with pytest.raises(UserError, match=words):
        MultiScaleQuantizer(**{'quantizer': VectorQuantizer(), 'grid': (4, 4), 'scales': (1, 2, 4)} | options)


def test_other_grids_and_too_few_vectors_are_refused():
    quantizer, variables, z = make()
    with pytest.raises(UserError, match='have a grid of 2x4, and the scales end with 4x4; give examples of'):
        jax.eval_shape(quantizer.apply, variables, z[:, :2])
    codes = tuple(jnp.zeros((1, n, n, 1), jnp.int32) for n in (1, 4))
    with pytest.raises(
        UserError, match='have grids of 1x1, 4x4, and were made on 1x1, 2x2, 4x4; give all of'
    ):
        jax.eval_shape(lambda codes: quantizer.apply(variables, codes, method='lookup'), codes)
    with pytest.raises(UserError, match=r'k-means cannot place 8 codes .* with the 7 vectors'):
        small = MultiScaleQuantizer(VectorQuantizer(8, 3), (4,), (1, 2, 4))
        small_variables = jax.eval_shape(small.init, jax.random.key(0), jnp.zeros((1, 4, 3)))
        jax.eval_shape(
            lambda v: small.apply(
                v,
                jax.random.key(0),
                jnp.zeros((4, 3)),
                method='init_from_data',
                mutable=['params', STATISTICS],
            ),
            small_variables,
        )

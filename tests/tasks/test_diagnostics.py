"""The error of quantization and the gradients that pass, of quantizers of all kinds, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.autoencoders import vqvae
from tests.initialised import initialised
from vq_jax.ops.parts import Part
from vq_jax.quantizers import (
    FiniteScalarQuantizer,
    GroupedQuantizer,
    GumbelQuantizer,
    LookupFreeQuantizer,
    ResidualQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)
from vq_jax.quantizers.quantizer import STATISTICS
from vq_jax.tasks.diagnostics import gradient_norms, quantization_metrics, vector_moments

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(6, 2, 3, 4)).astype(np.float32)
WEIGHTS = RNG.normal(size=Z.shape).astype(np.float32)  # a gradient with respect to what goes out
ITEMS = RNG.integers(0, 256, (6, 5), np.uint8)
VQ = VectorQuantizer(num_codes=2, dim=4)


def made(quantizer):
    """A model with the quantizer, and the variables of the latter."""
    variables = initialised(quantizer.init, jax.random.key(0), jnp.asarray(Z))
    return vqvae(quantizer), {name: {'bottleneck': x} for name, x in variables.items()}


def with_codes(variables, codes):
    """The same with another codebook."""
    codebook = variables[STATISTICS]['bottleneck'] | {'codebook': jnp.asarray(codes)}
    return {**variables, STATISTICS: {'bottleneck': codebook}}


def errors_of(model, variables, z):
    """The metrics of vectors that come in two batches."""

    @jax.jit
    def moments(z):
        codes = model.apply(variables, z, method='quantized').codes
        return model.apply(variables, z, codes, model.decodable, method=vector_moments)

    (name, means), *others = [(name, np.float64(x)) for z in (z[:2], z[2:]) for name, x in moments(z).items()]
    means = np.concatenate([means, *(x for _, x in others)]).mean(0)
    return quantization_metrics({name: means}, model.decodable)


@pytest.mark.parametrize('offset', [0, 1000])
def test_the_error_is_a_share_of_the_variance(offset):
    """1 of the best single code, 0 of vectors that all are codes, wherever they are."""
    model, variables = made(VQ)
    z = Z + np.float32(offset)
    mean = z.mean((0, 1, 2), dtype=np.float64).astype(np.float32)
    assert errors_of(model, with_codes(variables, [mean, mean]), z) == {
        'quantization_error': pytest.approx(1, rel=1e-3)
    }
    two = np.where(RNG.random(Z.shape[:-1])[..., None] < 0.3, z[0, 0, 0], z[1, 1, 1])
    codes = np.stack([z[0, 0, 0], z[1, 1, 1]])
    assert errors_of(model, with_codes(variables, codes), two)['quantization_error'] < 1e-9


@pytest.mark.parametrize(
    'quantizer',
    [
        GroupedQuantizer(ResidualQuantizer(VectorQuantizer(num_codes=3, dim=2), depth=2)),
        VectorQuantizer(num_codes=5, dim=4, code_dim=2, cosine=True),
        FiniteScalarQuantizer((3, 4), dim=4),
        GroupedQuantizer(GumbelQuantizer(5, dim=2)),
    ],
    ids=['groups of residuals', 'fewer dimensions', 'fsq', 'groups of gumbel'],
)
def test_the_error_of_each_kind_is_that_of_numpy(quantizer):
    """Of what goes out with codes against what would go out without, and of the first codes alone."""
    model, variables = made(quantizer)

    @jax.jit
    def passed():
        own = {name: x['bottleneck'] for name, x in variables.items()}
        codes = quantizer.apply(own, Z).codes
        decoded = [quantizer.apply(own, codes[..., :n], method='lookup') for n in model.decodable[0]]
        return quantizer.apply(own, Z, method='unquantized'), decoded

    vectors, decoded = jax.tree.map(np.float64, passed())
    variance = np.square(vectors - vectors.mean((0, 1, 2))).mean()
    names = [f'quantization_error_depth_{n - 1}' for n in model.decodable[0][:-1]] + ['quantization_error']
    expected = {
        name: np.square(vectors - x).mean() / variance for name, x in zip(names, decoded, strict=True)
    }
    assert errors_of(model, variables, Z) == pytest.approx(expected, rel=1e-4)


def test_vectors_that_are_all_equal_have_no_relative_error():
    model, variables = made(VQ)
    assert errors_of(model, variables, np.zeros_like(Z)) == {}
    assert quantization_metrics({'gradient_norms': np.zeros(2)}, ((1,),)) == {}


def norms_of(quantizer, rows=slice(None)):
    """Squared norms before and after the quantizer, of each example."""
    model, variables = made(quantizer)

    def loss(values):
        return jnp.sum(values * WEIGHTS[rows])

    part, step = Part.of_contents(ITEMS[rows]), jnp.int32(3)
    found = jax.jit(lambda z: gradient_norms(model, variables, z, loss, part=part, step=step))(Z[rows])
    before, after = np.float64(found['gradient_norms']).T
    np.testing.assert_allclose(before, np.square(WEIGHTS[rows]).sum((1, 2, 3)), rtol=1e-5)
    return before, after


@pytest.mark.parametrize(
    'quantizer', [VQ, ResidualQuantizer(VQ, depth=2, shared=True), SimVectorQuantizer(5, dim=4)]
)
def test_all_of_the_gradient_passes_the_straight_through_estimator(quantizer):
    before, after = norms_of(quantizer)
    np.testing.assert_allclose(after, before, rtol=1e-5)
    means = {'gradient_norms': np.array([before.mean(), after.mean() / 4])}
    assert quantization_metrics(means, ((1,), (1,))) == {'gradient_ratio': pytest.approx(1 / 2)}


def test_the_rotated_gradient_is_scaled_as_a_vector_into_its_code():
    quantizer = SimVectorQuantizer(5, dim=4, estimator='rotation')
    _, variables = made(quantizer)
    values = quantizer.apply({name: x['bottleneck'] for name, x in variables.items()}, Z).values
    scale = np.linalg.norm(values, axis=-1) / np.linalg.norm(Z, axis=-1)
    expected = np.square(scale[..., None] * WEIGHTS).sum((1, 2, 3))
    np.testing.assert_allclose(norms_of(quantizer)[1], expected, rtol=1e-4)


def test_maps_before_and_after_the_codes_count():
    quantizer = LookupFreeQuantizer(3, dim=4)
    params = made(quantizer)[1]['params']['bottleneck']
    maps = params['project_out']['kernel'].T @ params['project_in']['kernel'].T
    expected = np.square(WEIGHTS @ np.float64(maps)).sum((1, 2, 3))
    np.testing.assert_allclose(norms_of(quantizer)[1], expected, rtol=1e-4)


def test_what_is_sampled_of_an_example_depends_on_it_alone():
    """The Gumbel noise of training, with which alone a gradient passes."""
    whole, part = norms_of(GumbelQuantizer(5, dim=4))[1], norms_of(GumbelQuantizer(5, dim=4), slice(2, 4))[1]
    assert (whole > 0).all()
    np.testing.assert_allclose(part, whole[2:4], rtol=1e-4)

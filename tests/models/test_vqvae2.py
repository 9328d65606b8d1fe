"""Two scales of codes: who depends on whom, what learns, and how many parameters there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.autoencoders import vqvae2
from tests.initialised import initialised
from vq_jax.quantizers.quantizer import BATCH_MEANS, STATISTICS
from vq_jax.quantizers.vq import VectorQuantizer

COARSE, FINE = 'quantizers_0', 'quantizers_1'


def make(**options):
    quantizers = [VectorQuantizer(num_codes=16, dim=5) for _ in range(2)]
    sizes = {'channels': 8, 'residual_channels': 3, 'residual_blocks': 2, 'stages': 1, 'top_stages': 2}
    model = vqvae2(*quantizers, **sizes | options)
    images = jax.random.uniform(jax.random.key(0), (2, 16, 24, 3), minval=-1)
    variables = initialised(model.init, jax.random.key(1), images)
    # Codes far enough apart that more than one of them is chosen.
    for name, key in ((FINE, 2), (COARSE, 3)):
        of_scale = variables[STATISTICS]['bottleneck'][name]
        of_scale['codebook'] = 0.3 * jax.random.normal(jax.random.key(key), of_scale['codebook'].shape)
    return model, variables, images


def with_other_codes(variables, name):
    """Variables in which the codebook of a scale is another."""
    scales = variables[STATISTICS]['bottleneck']
    other = {**scales[name], 'codebook': -scales[name]['codebook'][::-1]}
    return {**variables, STATISTICS: {'bottleneck': {**scales, name: other}}}


@pytest.fixture(scope='module')
def made():
    return make()


def test_parameters_by_hand(made):
    def conv(k, c, d):
        return k * k * c * d + d

    def encoder(stages, c, d):
        halve = conv(4, c, 8) + (stages - 1) * conv(4, 8, 8)
        return halve + conv(3, 8, 8) + 2 * block + conv(1, 8, d)

    def decoder(stages, c, d):
        return conv(3, c, 8) + 2 * block + (stages - 1) * conv(4, 8, 8) + conv(4, 8, d)

    block = conv(3, 8, 3) + conv(1, 3, 8)
    top = encoder(2, 8, 5) + decoder(2, 5, 5)
    between = conv(1, 8 + 5, 5) + conv(8, 5, 5)  # what joins, and what makes the top as large as the bottom
    bottom = encoder(1, 3, 8) + decoder(1, 5 + 5, 3)
    _, variables, _ = made
    assert sum(x.size for x in jax.tree.leaves(variables['params'])) == top + between + bottom


@pytest.mark.parametrize('stages, top_stages', [(1, 2), (2, 1)])
def test_codes_stand_for_the_image(stages, top_stages):
    model, variables, images = make(stages=stages, top_stages=top_stages)
    outputs, quantized = model.apply(variables, images)
    top, bottom = model.apply(variables, images, method='encode')
    assert outputs.shape == images.shape
    assert top.shape == (2, 2, 3, 1) and bottom.shape == (2, 16 // 2**stages, 24 // 2**stages, 1)
    np.testing.assert_array_equal(top, quantized.codes[0])
    np.testing.assert_array_equal(bottom, quantized.codes[1])
    decoded = model.apply(variables, (top, bottom), method='decode')
    np.testing.assert_allclose(decoded, outputs, rtol=1e-4, atol=1e-5)


def test_the_bottom_is_encoded_given_the_top(made):
    """Other vectors for the top codes, the same image: other vectors at the bottom."""
    model, variables, images = made
    before = model.apply(variables, images, 1, method='vectors')
    after = model.apply(with_other_codes(variables, COARSE), images, 1, method='vectors')
    assert (np.abs(after - before).max((0, 3)) > 1e-4).mean() > 0.9
    # The top knows nothing of the bottom.
    others = with_other_codes(variables, FINE)
    for scale in (0, 1):
        results = [model.apply(v, images, scale, method='vectors') for v in (variables, others)]
        np.testing.assert_array_equal(*results)


def test_the_decoder_sees_both_scales(made):
    """One code changed by hand changes the image around its place, and nothing far from there."""
    model, variables, _ = made
    top, bottom = jnp.zeros((1, 12, 12, 1), int), jnp.zeros((1, 48, 48, 1), int)

    def changed(codes):
        images = [model.apply(variables, c, method='decode') for c in ((top, bottom), codes)]
        return np.abs(images[0] - images[1]).max((0, 3)) > 0

    by_top = changed((top.at[0, 0, 0, 0].set(5), bottom))
    by_bottom = changed((top, bottom.at[0, 0, 0, 0].set(5)))
    assert by_top[:8, :8].mean() > 0.9 and not by_top[48:, 48:].any()
    assert by_bottom[:2, :2].all() and not by_bottom[48:, 48:].any()
    assert by_top.sum() > by_bottom.sum()


def test_both_encoders_and_the_way_between_learn_from_the_image(made):
    """Without the quantizers' losses: through the straight-through estimator alone."""
    model, variables, images = made

    def error(params, weigh_loss):
        outputs, quantized = model.apply({**variables, 'params': params}, images)
        return jnp.mean((outputs - images) ** 2) + weigh_loss * jnp.sum(quantized.loss)

    grads = jax.jit(jax.grad(error))(variables['params'], 0.0)
    moved = {path: bool((g != 0).any()) for path, g in flatten_dict(grads).items()}
    between = {path[1] for path in moved if path[0] == 'bottleneck'}
    assert between == {'encoder', 'decoder', 'join'} and ('decoder', 'trunk', 'enlarge', 'kernel') in moved
    assert all(moved.values()), moved


def test_losses_and_statistics_are_of_both_scales(made):
    model, variables, images = made
    quantized, means = model.apply(
        variables, images, train=True, mutable=[BATCH_MEANS], rngs={'codebook': jax.random.key(0)}
    )
    learned, changed = model.apply({**variables, **means}, method='after_update', mutable=[STATISTICS])
    metrics = quantized[1].metrics
    both = metrics['commitment_loss_scale_0'] + metrics['commitment_loss_scale_1']
    np.testing.assert_allclose(jnp.mean(quantized[1].loss), 0.25 * both, rtol=1e-5)
    for name in (COARSE, FINE):
        before, after = (v[STATISTICS]['bottleneck'][name] for v in (variables, changed))
        assert (before['shares'] != after['shares']).any()
    assert set(learned) == {'codes_revived_scale_0', 'codes_revived_scale_1'}


def test_codes_of_each_scale_begin_apart(made):
    model, variables, _ = made
    vectors = jnp.arange(80.0).reshape(16, 5)  # as many as codes: each is one
    for scale, name, other in ((0, COARSE, FINE), (1, FINE, COARSE)):
        given = jax.random.key(0), vectors, scale
        _, placed = model.apply(variables, *given, method='init_codes', mutable=[STATISTICS])
        before, after = (v[STATISTICS]['bottleneck'] for v in (variables, placed))
        np.testing.assert_allclose(np.sort(after[name]['codebook'], axis=0), vectors, atol=1e-4)
        before, after = before[other], after[other]
        jax.tree.map(np.testing.assert_array_equal, after, before)


def test_bfloat16_computes_in_it_and_learns_in_float32():
    model, variables, images = make(dtype='bfloat16')
    outputs, quantized = jax.jit(model.apply)(variables, images)
    assert outputs.dtype == quantized.loss.dtype == jnp.float32
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))

"""The U-Net's promises: zeros at first, a context that counts, and the parameters of published ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from tests.jaxprs import recomputed_blocks
from vq_jax.errors import UserError
from vq_jax.models.context import NOTHING, Context, class_vector
from vq_jax.models.dit import DiT, DiTSizes
from vq_jax.models.unet import UNet, UNetSizes

SMALL = {'channels': 8, 'multipliers': (1, 2), 'residual_blocks': 1, 'head_channels': 8}
T, CLASSES = jnp.array([0.1, 0.7]), Context(vector=class_vector(jnp.array([0, 1]), 2))
OTHERS = Context(vector=class_vector(jnp.array([2, 1]), 2))  # the first of no class
X = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))


def moved(model, *inputs, seed=1):
    """Parameters that are not zero anywhere."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.float32(0.2 * rng.normal(size=x.shape)), shapes)


@pytest.mark.slow
def test_it_predicts_zeros_before_training_and_gradients_reach_everything_later():
    model = UNet(UNetSizes(**SMALL), features=3)
    variables = initialised(model.init, jax.random.key(0), X, T, CLASSES)
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, X, T, CLASSES), 0)
    variables = moved(model, X, T, CLASSES)
    # (x - 1)^2, as a norm alone would not see some of the scales
    grads = jax.jit(jax.grad(lambda v: jnp.sum((model.apply(v, X, T, CLASSES) - 1) ** 2)))(variables)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_time_and_class_count_and_examples_do_not_see_each_other():
    model = UNet(UNetSizes(**SMALL), features=3)
    variables = moved(model, X, T, CLASSES)
    apply = jax.jit(model.apply)
    out = np.asarray(apply(variables, X, T, CLASSES))
    other_time = np.asarray(apply(variables, X, T.at[0].set(0.9), CLASSES))
    other_class = np.asarray(apply(variables, X, T, OTHERS))
    for changed in (other_time, other_class):
        assert np.abs(changed[0] - out[0]).max() > 1e-2
        np.testing.assert_allclose(changed[1], out[1], atol=1e-5)


def test_dropout_is_of_each_example():
    model = UNet(UNetSizes(**SMALL, dropout=0.5), features=3)
    variables = moved(model, X, T, CLASSES)
    keys = jax.random.split(jax.random.key(5), 2)
    apply = jax.jit(model.apply)
    out = np.asarray(apply(variables, X, T, CLASSES, keys))
    assert np.abs(out - apply(variables, X, T, CLASSES)).max() > 1e-2
    turned = np.asarray(
        apply(variables, X[::-1], T[::-1], jax.tree.map(lambda x: x[::-1], CLASSES), keys[::-1])
    )
    np.testing.assert_allclose(out, turned[::-1], atol=1e-5)


def test_remat_and_patches():
    """The same parameters with remat; in patches, each 2x2 square is one position of the net."""
    plain, again = (UNet(UNetSizes(**SMALL, remat=remat), features=3) for remat in (False, True))
    variables = moved(plain, X, T, CLASSES)
    a, b = (jax.jit(m.apply)(variables, X, T, CLASSES) for m in (plain, again))
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert recomputed_blocks(plain.apply, variables, X, T, CLASSES) == 0
    assert recomputed_blocks(again.apply, variables, X, T, CLASSES) > 0
    patched = UNet(UNetSizes(**SMALL, patch=2), features=3)
    variables = moved(patched, X, T, CLASSES)
    assert variables['params']['Conv_0']['kernel'].shape == (3, 3, 12, 8)
    assert jax.eval_shape(patched.apply, variables, X, T, CLASSES).shape == X.shape


@pytest.mark.parametrize(
    'make',
    [
        lambda: UNet(UNetSizes(**SMALL), 3),
        pytest.param(
            lambda: UNet(UNetSizes(**SMALL, transformer_depth=1, vector_token=5), 3), marks=pytest.mark.slow
        ),
        lambda: DiT(DiTSizes(2, 1, 12, 2), 3),
    ],
)
def test_every_part_of_a_context_counts_for_its_own_example(make):
    model = make()
    context = Context(
        vector=CLASSES.vector,
        tokens=jax.random.normal(jax.random.key(1), (2, 3, 5)),
        mask=jnp.array([[True, True, False], [True, False, False]]),
        grid=jax.random.normal(jax.random.key(2), (2, 8, 8, 2)),
    )
    variables = moved(model, X, T, context)
    apply = jax.jit(model.apply)
    out = np.asarray(apply(variables, X, T, context))
    for part in ('vector', 'tokens', 'grid'):
        value = getattr(context, part)
        changed = apply(variables, X, T, context.replace(**{part: value.at[0].add(1.0)}))
        assert np.abs(changed[0] - out[0]).max() > 1e-3
        np.testing.assert_allclose(changed[1], out[1], atol=1e-5)
    hidden = apply(variables, X, T, context.replace(tokens=context.tokens.at[:, 2].add(1.0)))
    np.testing.assert_allclose(hidden, out, atol=1e-5)


@pytest.mark.parametrize(
    'kind, grid, patch',
    [
        pytest.param('unet', (8,), 2, marks=pytest.mark.slow),
        ('dit', (8,), 2),
        ('dit', (2, 4, 4), (1, 2, 2)),
        pytest.param('unet', (2, 4, 4), (1, 2, 2), marks=pytest.mark.slow),
    ],
)
def test_a_network_has_the_rank_of_its_grid(kind, grid, patch):
    """Of sound and of video: zeros at first; later each position counts, for its own example alone."""
    unet, dit = UNet(UNetSizes(**SMALL, patch=patch), 3), DiT(DiTSizes(patch, 1, 12, 2), 3)
    model = unet if kind == 'unet' else dit
    x = jax.random.normal(jax.random.key(0), (2, *grid, 3))
    context = CLASSES.replace(grid=jnp.zeros((2, *grid, 1)))
    variables = initialised(model.init, jax.random.key(0), x, T, context)
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, x, T, context), jnp.zeros_like(x))
    variables = moved(model, x, T, context)
    changes = jax.jit(jax.grad(lambda x, i: jnp.sum(model.apply(variables, x, T, context)[i] ** 2)))(x, 1)
    np.testing.assert_array_equal(changes[0], 0)
    assert (np.abs(np.asarray(changes[1])).max(-1) > 0).all()


def test_a_vector_becomes_a_token_like_the_others():
    model = UNet(UNetSizes(**SMALL, vector_token=4), 3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), X, T, CLASSES)['params']
    assert shapes['Embed_0']['embedding'].shape == (3, 4)
    assert shapes['CrossAttention_0']['key']['kernel'].shape == (4, 16)
    assert 'Embed_0' not in shapes['Conditioning_0']
    with pytest.raises(
        UserError, match='vector_token is 4, and the tokens that are known of an example have'
    ):
        jax.eval_shape(model.init, jax.random.key(0), X, T, CLASSES.replace(tokens=jnp.zeros((2, 3, 5))))


def count(model, shape, context=NOTHING):
    x = jnp.zeros((1, *shape))
    shapes = jax.eval_shape(model.init, jax.random.key(0), x, jnp.zeros(1), context)
    return sum(x.size for x in jax.tree.leaves(shapes))


def test_the_published_cifar10_network_has_as_many_parameters():
    """35.7M (Ho et al. 2020, appendix B): 35,746,307 in the published checkpoint.

    Where the time scales too, the layers of 22 blocks from 512 numbers are twice as wide.
    """
    sizes = UNetSizes(128, (1, 2, 2, 2), 2, (1,), heads=1, time_conditioning='add')
    assert count(UNet(sizes, 3), (32, 32, 3)) == 35_746_307
    blocks = 128 * (2 + 3) + 256 * (6 + 9 + 2)
    scaled = dataclasses.replace(sizes, time_conditioning='scale_shift')
    assert count(UNet(scaled, 3), (32, 32, 3)) - 513 * blocks == 35_746_307


@pytest.mark.parametrize(
    'change, words',
    [
        ({'channels': 0}, '1 or more'),
        ({'patch': 0}, '1 or more'),
        ({'channels': 9}, 'even'),
        ({'attention_resolutions': (2,)}, 'numbered from 0 to 1'),
        ({'head_channels': 7}, 'head_channels'),
        ({'heads': 3}, 'the 16 channels of resolution 1 cannot be divided into 3 heads'),
        ({'norm_epsilon': 0.0}, 'norm_epsilon is 0.0; give a number above 0'),
        ({'dropout': 1.0}, 'dropout'),
        ({'dropout': 0.99999999}, 'which is 1 in single precision'),
    ],
)
def test_mistakes(change, words):
    with pytest.raises(UserError, match=words):
        UNetSizes(**(SMALL | {'attention_resolutions': (1,)} | change))

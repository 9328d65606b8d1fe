"""DiT's promises: the identity at first, positions that count, and the published sizes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from tests.models.test_unet import CLASSES, OTHERS, T, X, count, moved
from vq_jax.errors import UserError
from vq_jax.models.context import Context, class_vector
from vq_jax.models.dit import DiT, DiTBlock, DiTSizes, positions

SMALL = DiTSizes(patch=2, depth=2, width=16, heads=2)


def test_every_block_is_the_identity_before_training():
    block = DiTBlock(SMALL)
    x, given = jax.random.normal(jax.random.key(0), (2, 5, 16)), jnp.ones((2, 16))
    variables = initialised(block.init, jax.random.key(0), x, given, None)
    np.testing.assert_array_equal(jax.jit(block.apply)(variables, x, given, None), x)
    model = DiT(SMALL, 3)
    variables = initialised(model.init, jax.random.key(0), X, T, CLASSES)
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, X, T, CLASSES), 0)


def test_time_and_class_count_and_gradients_reach_everything():
    model = DiT(SMALL, 3)
    variables = moved(model, X, T, CLASSES)
    apply = jax.jit(model.apply)
    out = np.asarray(apply(variables, X, T, CLASSES))
    for changed in (
        apply(variables, X, T.at[0].set(0.9), CLASSES),
        apply(variables, X, T, OTHERS),
    ):
        assert np.abs(changed[0] - out[0]).max() > 1e-3
        np.testing.assert_allclose(changed[1], out[1], atol=1e-5)
    grads = jax.jit(jax.grad(lambda v: jnp.sum((model.apply(v, X, T, CLASSES) - 1) ** 2)))(variables)
    # Attention does not change if one number is added to all of its scores: keys need no bias.
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_patches_keep_their_position():
    """Without positions and blocks that mix, each patch would see itself alone: a pixel's change stays."""
    model = DiT(DiTSizes(patch=2, depth=1, width=16, heads=2), 3)
    variables = moved(model, X, T, CLASSES)
    params = variables['params']
    params['DiTBlock_0'] = jax.tree.map(jnp.zeros_like, params['DiTBlock_0'])
    apply = jax.jit(model.apply)
    change = np.abs(apply(variables, X.at[0, 2, 5].add(1.0), T, CLASSES) - apply(variables, X, T, CLASSES))
    touched = change.max((0, 3)) > 1e-4
    wanted = np.zeros((8, 8), bool)
    wanted[2:4, 4:6] = True
    np.testing.assert_array_equal(touched, wanted)


@pytest.mark.parametrize('grid', [(5,), (3, 4), (2, 3, 2)])
def test_positions_are_sines_and_cosines_of_the_index_on_each_axis(grid):
    found = np.asarray(positions(grid, 4 * len(grid))).reshape(*grid, -1)
    speeds = [1, 1 / 100]
    for index in np.ndindex(grid):
        wanted = [f(n * s) for n in index for f in (math.cos, math.sin) for s in speeds]
        np.testing.assert_allclose(found[index], wanted, atol=1e-5)
    with pytest.raises(UserError, match='need a width of a multiple of 6, not 8'):
        positions((2, 2, 2), 8)


def test_the_published_sizes():
    """DiT-S/2, 33M, and DiT-B/2, 130M (Peebles and Xie 2023, table 4), for 1,000 classes."""
    for width, heads, millions in ((384, 6, 33), (768, 12, 130)):
        model = DiT(DiTSizes(patch=2, depth=12, width=width, heads=heads), 8)
        classes = Context(vector=class_vector(jnp.zeros(1, int), 1000))
        assert round(count(model, (32, 32, 4), classes) / 1e6) == pytest.approx(millions, abs=1)


def test_mistakes():
    with pytest.raises(UserError, match='multiple of 4 and of 5 heads'):
        DiTSizes(width=32, heads=5)
    with pytest.raises(UserError, match=r'^depth is 0; give 1 or more'):
        DiTSizes(depth=0)

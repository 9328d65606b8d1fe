"""Contexts that are dropped with a random key for each example, and guidance between two predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.models.context import Context, ContextEncoder, class_vector
from vq_jax.ops.guidance import drop, guide, halves, pair, twice

RNG = np.random.default_rng(0)
KEYS = jax.random.split(jax.random.key(5), 4000)
CLASSES = np.arange(4000, dtype=np.int32) % 7


def dropped(keys, classes, rate, num_classes=7):
    """The classes that are left, and `num_classes` where they are dropped."""
    context = Context(vector=class_vector(classes, num_classes))
    encoder = ContextEncoder(num_classes, label_dropout=rate)
    return np.asarray(encoder.drop(keys, context).vector).argmax(1)


@pytest.mark.parametrize('share', [0.0, 0.1, 0.7, 1.0])
def test_a_share_of_the_classes_is_dropped(share):
    found = dropped(KEYS, CLASSES, share)
    hidden = found == 7
    np.testing.assert_array_equal(found[~hidden], CLASSES[~hidden])
    # Of each class alike, within five standard errors.
    for label in range(7):
        of_class = hidden[label == CLASSES]
        error = 5 * np.sqrt(share * (1 - share) / len(of_class))
        assert of_class.mean() == pytest.approx(share, abs=error)


def test_what_is_dropped_depends_on_the_key_of_each_example_alone():
    whole = dropped(KEYS, CLASSES, 0.5)
    np.testing.assert_array_equal(dropped(KEYS[100:103], CLASSES[100:103], 0.5), whole[100:103])
    other = dropped(KEYS, (CLASSES + 1) % 7, 0.5, 9)
    np.testing.assert_array_equal(other == 9, whole == 7)
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, 0.5))(KEYS)
    np.testing.assert_array_equal(whole == 7, chosen)


def test_parts_are_dropped_together_as_far_as_their_rates_allow():
    """Whatever their shapes are."""
    grid = jnp.asarray(RNG.normal(size=(4000, 2, 3, 1)))
    rarely = drop(KEYS, 0.2, grid, jnp.zeros_like(grid))
    gone = np.asarray(rarely == 0).all((1, 2, 3))
    np.testing.assert_array_equal(np.where(gone[:, None, None, None], 0, grid), rarely)
    assert 0 < gone.sum() < 4000 and (dropped(KEYS, CLASSES, 0.5)[gone] == 7).all()
    assert drop(KEYS, 0.5, None, None) is None


def test_a_pair_is_one_batch_of_two_halves():
    a, b = (Context(vector=jnp.full((2, 3), x), grid=jnp.full((2, 4, 1), x)) for x in (1.0, 2.0))
    both = pair(a, b)
    assert both.tokens is None and both.grid.shape == (4, 4, 1)
    np.testing.assert_array_equal(both.vector[:, 0], [1, 1, 2, 2])
    for half, wanted in zip(halves(both), (a, b), strict=True):
        np.testing.assert_array_equal(half.grid, wanted.grid)
    np.testing.assert_array_equal(twice(jnp.arange(3)), [0, 1, 2, 0, 1, 2])


def test_guidance_is_a_line_through_both_models():
    a, b = jnp.asarray(RNG.normal(size=(2, 9)), jnp.float32)
    np.testing.assert_allclose(guide(a, b, 1.0), a, rtol=1e-6)
    np.testing.assert_allclose(guide(a, b, 0.0), b, rtol=1e-6)
    np.testing.assert_allclose(guide(a, b, 3.0), 3 * a - 2 * b, rtol=1e-4, atol=1e-5)

"""What is dropped of a context that has a class, conditions and a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.models.context import Conditioner, Context, ContextEncoder
from vq_jax.models.transformer import Transformer, TransformerSizes
from vq_jax.spec import ConditionSpec

B, CLASSES, RNG = 2000, 3, np.random.default_rng(0)
LABELS = jnp.asarray(RNG.integers(CLASSES, size=B))
GIVEN = {'place': jnp.asarray(RNG.uniform(1, 2, (B, 2)), jnp.float32), 'other': jnp.zeros(B)}


class Place(Conditioner):
    """Gives what it is given, as all parts of a context."""

    grid: bool = True

    def specs(self):
        return {'place': ConditionSpec((2,))}

    def __call__(self, place):
        grid = place[:, None] * jnp.ones((4, 1)) if self.grid else None
        return Context(vector=place, tokens=place[:, None], grid=grid)


def encoded(encoder, **more):
    return encoder.apply({}, LABELS, None, GIVEN, **more, method='encode')


def test_the_vector_is_that_of_the_class_and_that_of_the_conditions():
    context = encoded(ContextEncoder(CLASSES, conditioner=Place()))
    np.testing.assert_array_equal(context.vector[:, : CLASSES + 1], np.eye(CLASSES + 1)[LABELS])
    np.testing.assert_array_equal(context.vector[:, CLASSES + 1 :], GIVEN['place'])
    assert context.mask.all()
    np.testing.assert_array_equal(encoded(ContextEncoder(conditioner=Place())).vector, GIVEN['place'])


def test_each_part_is_dropped_by_its_share_and_together_with_those_of_larger_ones():
    encoder = ContextEncoder(CLASSES, None, Place(), label_dropout=0.2, dropout=0.5, grid_dropout=0.8)
    context = encoded(encoder)
    found = encoder.drop(jax.random.split(jax.random.key(0), B), context)
    of_class = found.vector[:, CLASSES] == 1
    of_conditions = (found.vector[:, CLASSES + 1 :] == 0).all(1)
    of_grid = (found.grid == 0).all((1, 2))
    for gone, share in ((of_class, 0.2), (of_conditions, 0.5), (of_grid, 0.8)):
        assert gone.mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / B))
    assert not (of_class & ~of_conditions).any() and not (of_conditions & ~of_grid).any()
    np.testing.assert_array_equal(found.mask[:, 0], ~of_conditions)
    np.testing.assert_array_equal(found.vector[~of_class, :CLASSES], context.vector[~of_class, :CLASSES])
    np.testing.assert_array_equal(found.tokens[~of_conditions], context.tokens[~of_conditions])


def test_guidance_leans_away_from_what_was_dropped_alone():
    context = encoded(ContextEncoder(CLASSES, conditioner=Place()))
    of_class = ContextEncoder(CLASSES, None, Place(), label_dropout=0.1).without(context)
    np.testing.assert_array_equal(of_class.vector[:, CLASSES], 1)
    np.testing.assert_array_equal(of_class.vector[:, CLASSES + 1 :], GIVEN['place'])
    of_place = ContextEncoder(CLASSES, None, Place(), dropout=0.1).without(context)
    np.testing.assert_array_equal(of_place.vector[:, : CLASSES + 1], context.vector[:, : CLASSES + 1])
    assert not of_place.vector[:, CLASSES + 1 :].any() and not of_place.mask.any()
    np.testing.assert_array_equal(of_place.grid, context.grid)


def test_guidance_leans_away_from_what_is_negative():
    """From it in place of nothing, and from no class as ever."""
    away = {**GIVEN, 'negative place': -GIVEN['place']}
    encoder = ContextEncoder(CLASSES, None, Place(grid=False), label_dropout=0.1, dropout=0.1)
    both = encoder.both(encoder.apply({}, LABELS, None, away, method='encode'))
    with_it, without = (jax.tree.map(lambda x, i=i: x[i * B : (i + 1) * B], both) for i in (0, 1))
    for found, expected in zip(jax.tree.leaves(with_it), jax.tree.leaves(encoded(encoder)), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(without.vector[:, CLASSES], 1)
    np.testing.assert_array_equal(without.vector[:, CLASSES + 1 :], -GIVEN['place'])
    np.testing.assert_array_equal(without.tokens[:, 0], -GIVEN['place'])
    assert without.mask.all()


def test_a_network_sees_nothing_of_what_was_dropped():
    sizes = TransformerSizes(depth=1, width=8, heads=2)
    model = Transformer(sizes, num_inputs=5, num_outputs=5, grid=(4,))
    encoder = ContextEncoder(conditioner=Place(grid=False), dropout=0.5)
    context = jax.tree.map(lambda x: x[:2], encoded(encoder))
    variables = model.init(jax.random.key(0), jnp.zeros((2, 4), int), context)
    with_it, without = (
        model.apply(variables, jnp.zeros((2, 4), int), one) for one in (context, encoder.without(context))
    )
    assert jnp.abs(with_it[0] - with_it[1]).max() > 1e-4
    np.testing.assert_allclose(without[0], without[1], atol=1e-6)


def test_there_is_one_grid():
    with pytest.raises(UserError, match='the conditioner makes a grid'):
        encoded(ContextEncoder(conditioner=Place()), grid=jnp.zeros((B, 4, 2)))

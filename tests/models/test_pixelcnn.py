"""The gated PixelCNN sees all that is above and to the left, and nothing else."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.models.conditioning_stack import ConditioningStack
from vq_jax.models.context import Context, ContextEncoder, class_vector
from vq_jax.models.pixelcnn import PixelCNN, PixelCNNSizes

H, W, TOKENS = 5, 6, 4


@pytest.mark.parametrize(
    'shape, first_kernel, kernel, per_position, has_grid',
    [
        ((H, W), 7, 3, 1, False),
        ((H, W), 3, 5, 1, False),
        ((H, W), 7, 3, 1, True),
        ((H, W), 7, 3, 3, False),
        ((8,), 7, 3, 1, True),
        ((2, 3, 3), 7, 3, 1, True),
    ],
)
def test_a_change_of_a_token_reaches_every_later_one_and_no_other(
    shape, first_kernel, kernel, per_position, has_grid
):
    # Layers enough for the whole grid to be in the field, so that a blind spot would show.
    sizes = PixelCNNSizes(depth=7, channels=8, first_kernel=first_kernel, kernel=kernel)
    grid = *shape[:-1], shape[-1] // per_position
    model = PixelCNN(sizes, TOKENS, grid, per_position)
    rng, n = np.random.default_rng(0), math.prod(shape)
    tokens = rng.integers(0, TOKENS, (1, *shape))
    of_grid = jnp.asarray(rng.normal(size=(1, *grid, 5)), jnp.float32) if has_grid else None
    context = Context(vector=class_vector(np.array([1]), 2), grid=of_grid)
    variables = initialised(model.init, jax.random.key(0), tokens, context)
    variables = jax.tree.map(lambda p: 2 * p, variables)
    network = jax.jit(lambda tokens: model.apply(variables, tokens, context))
    before = network(tokens)
    for position in range(n):
        other = tokens.copy()
        other.flat[position] = (other.flat[position] + 1) % TOKENS
        changed = np.abs(np.asarray(network(other) - before)).max(-1).ravel() > 0
        assert changed.tolist() == [later > position for later in range(n)]


def test_the_class_counts_everywhere():
    model = PixelCNN(PixelCNNSizes(depth=2, channels=8), TOKENS, (H, W))
    tokens = np.zeros((1, H, W), int)
    of_class = [Context(vector=class_vector(np.array([label]), 2)) for label in (0, 2)]
    variables = initialised(model.init, jax.random.key(0), tokens, of_class[0])
    a, b = (model.apply(variables, tokens, context) for context in of_class)
    assert (np.abs(np.asarray(a - b)).max(-1) > 0).all()


def test_the_coarser_scale_counts_everywhere():
    model = PixelCNN(PixelCNNSizes(depth=2, channels=8), TOKENS, (4, 4))
    encoder = ContextEncoder(conditioning=ConditioningStack(3, 8, (4, 4)))
    tokens, labels, coarser = np.zeros((1, 4, 4), int), np.array([0]), np.zeros((1, 2, 2, 1), int)
    context, weights = encoder.init_with_output(jax.random.key(1), labels, coarser, method='encode')
    variables = initialised(model.init, jax.random.key(0), tokens, context)
    other = encoder.apply(weights, labels, coarser + 1, method='encode')
    a, b = (model.apply(variables, tokens, x) for x in (context, other))
    assert (np.abs(np.asarray(a - b)).max(-1) > 0).all()


def test_tokens_of_a_context_are_refused():
    model, tokens = PixelCNN(PixelCNNSizes(depth=1, channels=8), TOKENS, (2,)), np.zeros((1, 2), int)
    with pytest.raises(UserError, match='does not attend to the tokens of a context'):
        jax.eval_shape(model.init, jax.random.key(0), tokens, Context(tokens=np.zeros((1, 3, 4))))


@pytest.mark.parametrize(
    'sizes, words',
    [
        ({'kernel': 4}, 'kernel is 4; give an odd number'),
        ({'first_kernel': 6}, 'first_kernel is 6; give an odd number'),
        ({'first_kernel': 1}, 'first_kernel is 1; give 3 or more'),
        ({'depth': 0}, 'depth is 0; give 1 or more'),
        ({'dropout': 1.0}, 'dropout is 1.0; give a number from 0 to below 1'),
    ],
)
def test_sizes_that_make_no_network(sizes, words):
    with pytest.raises(UserError, match=f'^{words}'):
        PixelCNNSizes(**sizes)

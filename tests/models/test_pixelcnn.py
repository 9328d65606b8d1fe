"""The gated PixelCNN sees all that is above and to the left, and nothing else."""

import jax
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.models.pixelcnn import PixelCNN, PixelCNNSizes

H, W, TOKENS = 5, 6, 4


@pytest.mark.parametrize(
    'first_kernel, kernel, per_position, num_above', [(7, 3, 1, 0), (3, 5, 1, 0), (7, 3, 1, 4), (7, 3, 3, 0)]
)
def test_a_change_of_a_token_reaches_every_later_one_and_no_other(
    first_kernel, kernel, per_position, num_above
):
    # Layers enough for the whole grid to be in the field, so that a blind spot would show.
    sizes = PixelCNNSizes(depth=7, channels=8, first_kernel=first_kernel, kernel=kernel)
    grid = H, W // per_position
    model = PixelCNN(sizes, TOKENS, grid, per_position, num_classes=2, num_above=num_above)
    tokens = np.random.default_rng(0).integers(0, TOKENS, (1, H, W))
    labels = np.array([1])
    above = [np.array([[[1, 2, 3]]])] if num_above else []
    variables = model.init(jax.random.key(0), tokens, labels, *above)
    variables = jax.tree.map(lambda p: 2 * p, variables)
    network = jax.jit(lambda tokens: model.apply(variables, tokens, labels, *above))
    before = network(tokens)
    for place in range(H * W):
        other = tokens.copy()
        other.flat[place] = (other.flat[place] + 1) % TOKENS
        changed = np.abs(np.asarray(network(other) - before)).max(-1).ravel() > 0
        assert changed.tolist() == [later > place for later in range(H * W)]


def test_the_class_counts_everywhere():
    model = PixelCNN(PixelCNNSizes(depth=2, channels=8), TOKENS, (H, W), num_classes=2)
    tokens = np.zeros((1, H, W), int)
    variables = model.init(jax.random.key(0), tokens, np.array([0]))
    a, b = (model.apply(variables, tokens, np.array([label])) for label in (0, 2))
    assert (np.abs(np.asarray(a - b)).max(-1) > 0).all()


def test_the_level_above_counts_everywhere():
    model = PixelCNN(PixelCNNSizes(depth=2, channels=8), TOKENS, (4, 4), num_above=3)
    tokens, labels = np.zeros((1, 4, 4), int), np.array([0])
    above = np.zeros((1, 2, 2), int)
    variables = model.init(jax.random.key(0), tokens, labels, above)
    a, b = (model.apply(variables, tokens, labels, x) for x in (above, above + 1))
    assert (np.abs(np.asarray(a - b)).max(-1) > 0).all()


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
    with pytest.raises(UserError, match=f'config.pixelcnn.{words}'):
        PixelCNNSizes(**sizes)

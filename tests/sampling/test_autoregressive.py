"""Tokens drawn one by one: from the right distribution, and with a cache the same as without."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.models.pixelcnn import PixelCNN, PixelCNNSizes
from vq_jax.models.transformer import Transformer, TransformerSizes
from vq_jax.sampling.autoregressive import Choice, generate, generate_without_cache

GRID, TOKENS = (2, 2), 3
N = 4


def transformer(tokens=TOKENS, grid=GRID):
    sizes = TransformerSizes(depth=2, width=16, heads=2)
    model = Transformer(sizes, tokens, tokens, grid)
    zeros = jnp.zeros((1, grid[0] * grid[1]), int)
    variables = model.init(jax.random.key(0), zeros, jnp.zeros(1, int))
    variables = jax.tree.map(lambda p: p + jax.random.normal(jax.random.key(p.size), p.shape), variables)
    return model, variables


def pixelcnn(tokens=TOKENS, grid=GRID, per_place=1, num_above=0):
    rows, columns = grid
    sizes = PixelCNNSizes(depth=3, channels=8, first_kernel=5)
    model = PixelCNN(sizes, tokens, (rows, columns // per_place), per_place, num_above=num_above)
    above = [jnp.zeros((1, 1, 1), int)] if num_above else []
    variables = model.init(jax.random.key(0), jnp.zeros((1, *grid), int), jnp.zeros(1, int), *above)
    return model, jax.tree.map(lambda p: 3 * p, variables)


def colours(tokens=TOKENS, grid=GRID):
    return pixelcnn(tokens, grid, per_place=grid[1] if grid == GRID else 3)


def network_of(model, variables):
    def network(tokens):
        labels = jnp.zeros(len(tokens), int)
        if isinstance(model, PixelCNN):
            grid = model.grid[0], model.grid[1] * model.tokens_per_place
            logits = model.apply(variables, tokens.reshape(-1, *grid), labels)
            return logits.reshape(*tokens.shape, -1)
        return model.apply(variables, tokens, labels)

    return network


def all_probabilities(network):
    """Every grid of tokens [81 4], and its probability."""
    grids = jnp.array(list(itertools.product(range(TOKENS), repeat=N)))
    log_p = jax.nn.log_softmax(network(grids))
    picked = jnp.take_along_axis(log_p, grids[..., None], -1)[..., 0]
    return np.asarray(grids), np.exp(np.asarray(picked, np.float64).sum(1))


@pytest.mark.parametrize('make', [transformer, pixelcnn, colours])
def test_probabilities_of_all_grids_sum_to_one(make):
    _, probabilities = all_probabilities(network_of(*make()))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.std() > 0.005  # it is no uniform distribution


@pytest.mark.parametrize('make', [transformer, pixelcnn])
def test_frequencies_of_samples_are_the_probabilities(make):
    network, n = network_of(*make()), 5_000
    keys = jax.random.split(jax.random.key(1), n)
    drawn = jax.jit(lambda keys: generate_without_cache(network, keys, N, Choice()))(keys)
    _, probabilities = all_probabilities(network)
    numbers = np.asarray(drawn) @ TOKENS ** np.arange(N)[::-1]
    counts, expected = np.bincount(numbers, minlength=TOKENS**N), n * probabilities
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    statistic = np.sum((counts - expected) ** 2 / np.maximum(expected, 1e-9))
    freedom = len(counts) - 1
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    'make, grid, choice',
    [
        (transformer, (3, 5), Choice()),
        (transformer, (3, 5), Choice(temperature=0.7, top_k=4, top_p=0.8)),
        (transformer, (3, 5), Choice(temperature=0)),
        (transformer, (10, 13), Choice()),  # long enough for its cache to grow on the way
        (pixelcnn, (3, 5), Choice()),
        (colours, (5, 6), Choice()),
    ],
)
def test_with_a_cache_the_same_tokens_come(make, grid, choice):
    model, variables = make(tokens=11, grid=grid)
    n = math.prod(grid)
    keys = jax.random.split(jax.random.key(1), 6)
    labels = jnp.zeros(6, int)

    def step(before, i, cache):
        return model.apply(variables, before, i, cache, method='step')

    cached = generate(step, model.apply(variables, labels, method='start'), keys, n, choice, grow=model.grow)
    plain = generate_without_cache(network_of(model, variables), keys, n, choice)
    np.testing.assert_array_equal(cached, plain)
    different = len(np.unique(np.asarray(plain), axis=0))
    assert different == 1 if choice.temperature == 0 else different > 1


@pytest.mark.parametrize(
    'per_place, kernel, dtype, num_above, error',
    [(1, 3, 'float32', 5, 1e-4), (3, 1, 'float32', 0, 1e-4), (1, 3, 'bfloat16', 0, 0.1)],
)
def test_each_step_of_a_pixelcnn_gives_the_logits_of_the_whole(per_place, kernel, dtype, num_above, error):
    """Of a grid that is given, with classes, to the last place."""
    sizes = PixelCNNSizes(depth=4, channels=8, first_kernel=5, kernel=kernel, dtype=dtype)
    grid = 4, 6 // per_place
    model = PixelCNN(sizes, TOKENS, grid, per_place, num_classes=2, num_above=num_above)
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(0, TOKENS, (2, 4, 6)), np.array([0, 2])
    above = [rng.integers(0, 5, (2, 2, 3))] if num_above else []
    variables = jax.tree.map(lambda p: 2 * p, model.init(jax.random.key(0), tokens, labels, *above))
    whole = model.apply(variables, tokens, labels, *above).reshape(2, -1, TOKENS)

    def advance(carry, i):
        before, cache = carry
        logits, cache = model.apply(variables, before, i, cache, method='step')
        return (jnp.array(tokens.reshape(2, -1))[:, i], cache), logits

    start = jnp.zeros(2, int), model.apply(variables, labels, *above, method='start')
    _, logits = jax.lax.scan(advance, start, jnp.arange(24))
    assert np.std(whole) > 10 * error
    np.testing.assert_allclose(logits.swapaxes(0, 1), whole, rtol=error, atol=error)


def test_what_is_given_stays():
    model, variables = transformer(tokens=11, grid=(3, 5))
    given = jnp.full((2, 15), -1).at[:, :4].set(7).at[:, 9].set(2)
    keys = jax.random.split(jax.random.key(1), 2)
    tokens = generate_without_cache(network_of(model, variables), keys, 15, Choice(), given)
    np.testing.assert_array_equal(np.where(given >= 0, tokens, -1), given)
    assert (np.asarray(tokens) >= 0).all()


@pytest.mark.parametrize(
    'values, words',
    [({'temperature': -1}, 'temperature'), ({'top_k': 0}, 'top_k'), ({'top_p': 0.0}, 'top_p')],
)
def test_choices_that_make_no_sense(values, words):
    with pytest.raises(UserError, match=words):
        Choice(**values)

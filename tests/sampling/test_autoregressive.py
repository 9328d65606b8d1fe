"""Tokens sampled one by one: from the right distribution, and with a cache the same as without."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.models.context import Context, class_vector
from vq_jax.models.pixelcnn import PixelCNN, PixelCNNSizes
from vq_jax.models.transformer import Transformer, TransformerSizes
from vq_jax.sampling.autoregressive import Choice, generate, generate_without_cache

GRID, TOKENS = (2, 2), 3
N = 4


def of_classes(labels):
    """Of two classes, or none, which is label 2."""
    return Context(vector=class_vector(labels, 2))


def transformer(tokens=TOKENS, grid=GRID, positions='learned', width=16):
    sizes = TransformerSizes(depth=2, width=width, heads=2, positions=positions)
    model = Transformer(sizes, tokens, tokens, grid)
    zeros = jnp.zeros((1, math.prod(grid)), int)
    variables = initialised(model.init, jax.random.key(0), zeros, of_classes(jnp.zeros(1, int)))

    def changed(p):
        return p + 0.4 * jax.random.normal(jax.random.key(p.size), p.shape)

    return model, jax.tree.map(changed, variables)


def rotary(tokens=TOKENS, grid=GRID):
    return transformer(tokens, grid, positions='rotary', width=24)


def pixelcnn(tokens=TOKENS, grid=GRID, per_position=1):
    sizes = PixelCNNSizes(depth=3, channels=8, first_kernel=5)
    model = PixelCNN(sizes, tokens, (*grid[:-1], grid[-1] // per_position), per_position)
    variables = initialised(
        model.init, jax.random.key(0), jnp.zeros((1, *grid), int), of_classes(jnp.zeros(1, int))
    )
    return model, jax.tree.map(lambda p: 1.5 * p, variables)


def colours(tokens=TOKENS, grid=GRID):
    return pixelcnn(tokens, grid, per_position=3)


def network_of(model, variables, labels=0):
    def network(tokens):
        context = of_classes(jnp.broadcast_to(labels, len(tokens)))
        if isinstance(model, PixelCNN):
            grid = *model.grid[:-1], model.grid[-1] * model.tokens_per_position
            logits = model.apply(variables, tokens.reshape(-1, *grid), context)
            return logits.reshape(*tokens.shape, -1)
        return model.apply(variables, tokens, context)

    return network


def drawn_with_cache(model, variables, keys, labels, choice, known=None):
    def step(before, i, cache):
        return model.apply(variables, before, i, cache, method='step')

    n = math.prod(model.grid) * getattr(model, 'tokens_per_position', 1)
    start = model.apply(variables, len(labels), of_classes(labels), method='start')
    return generate(step, start, keys, n, choice, known, model.grow)


def filtered(logits, choice):
    """The temperature, then the k most likely (Fan et al. 2018), then the nucleus (Holtzman et al. 2020)."""
    logits = np.asarray(logits, np.float64)
    best = np.argsort(-logits)
    if choice.temperature == 0:
        best = best[:1]
    else:
        logits = logits / choice.temperature
        best = best[: choice.top_k]
        shares = np.exp(logits[best]) / np.exp(logits[best]).sum()
        if choice.top_p is not None:
            best = best[: 1 + np.sum(np.cumsum(shares) < choice.top_p)]
    kept = np.full_like(logits, -np.inf)
    kept[best] = logits[best]
    return kept


@pytest.mark.parametrize(
    'choice',
    [
        Choice(),
        Choice(temperature=0),
        Choice(temperature=0.5),
        Choice(top_k=3),
        Choice(top_p=0.6),
        Choice(temperature=2.5, top_p=0.6),
        Choice(temperature=0.4, top_k=4, top_p=0.7),
    ],
)
def test_a_choice_is_that_of_the_papers(choice):
    logits = 2 * np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32)
    expected = np.stack([filtered(row, choice) for row in logits])
    np.testing.assert_allclose(choice.filtered(jnp.asarray(logits)), expected, rtol=1e-6)


def all_probabilities(network, choice):
    """Every grid of tokens [81 4], and its probability."""
    grids = jnp.array(list(itertools.product(range(TOKENS), repeat=N)))
    weights = np.exp(np.apply_along_axis(filtered, -1, network(grids), choice))
    shares = weights / weights.sum(-1, keepdims=True)
    return np.take_along_axis(shares, np.asarray(grids)[..., None], -1)[..., 0].prod(1)


@pytest.mark.parametrize('make', [transformer, pixelcnn])
@pytest.mark.parametrize('choice', [Choice(), Choice(temperature=0.8, top_k=2, top_p=0.8)])
def test_frequencies_of_samples_are_the_probabilities(make, choice):
    """Chi-squared, of draws with a cache."""
    (model, variables), n = make(), 10_000
    keys, labels = jax.random.split(jax.random.key(1), n), jnp.zeros(n, int)
    drawn = jax.jit(drawn_with_cache, static_argnums=(0, 4))(model, variables, keys, labels, choice)
    probabilities = all_probabilities(network_of(model, variables), choice)
    numbers = np.asarray(drawn) @ TOKENS ** np.arange(N)[::-1]
    counts, expected = np.bincount(numbers, minlength=TOKENS**N), n * probabilities
    forbidden = expected == 0
    assert counts[forbidden].sum() == 0 and forbidden.any() == (choice.top_k is not None)
    rare = expected < 5
    assert (~rare).sum() > (40 if choice.top_k is None else 4)
    statistic = np.sum((counts - expected)[~rare] ** 2 / expected[~rare])
    if expected[rare].sum() > 0:
        statistic += (counts - expected)[rare].sum() ** 2 / expected[rare].sum()
    freedom = (~rare).sum() - (expected[rare].sum() == 0)
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    'make, grid, choice, given_share',
    [
        (transformer, (3, 5), Choice(), 0.0),
        (transformer, (3, 5), Choice(temperature=0.7, top_k=4, top_p=0.8), 0.4),
        (transformer, (3, 5), Choice(temperature=0), 0.0),
        (transformer, (10, 13), Choice(), 0.4),  # long enough for its cache to grow on the way
        (colours, (5, 6), Choice(), 0.4),
        pytest.param(rotary, (9,), Choice(), 0.4, marks=pytest.mark.slow),
        (rotary, (2, 3, 2), Choice(), 0.4),
        (pixelcnn, (9,), Choice(), 0.4),
        pytest.param(colours, (2, 2, 6), Choice(), 0.4, marks=pytest.mark.slow),
    ],
)
def test_with_a_cache_the_same_tokens_come(make, grid, choice, given_share):
    """Of two classes and none, and where tokens are given."""
    model, variables = make(tokens=11, grid=grid)
    n, labels = math.prod(grid), jnp.arange(6) % 3
    keys = jax.random.split(jax.random.key(1), 6)
    is_given = jax.random.bernoulli(jax.random.key(2), given_share, (6, n))
    given = jnp.where(is_given, jax.random.randint(jax.random.key(3), (6, n), 0, 11), -1)
    cached = drawn_with_cache(model, variables, keys, labels, choice, given if given_share else None)
    plain = generate_without_cache(network_of(model, variables, labels), keys, n, choice, given)
    np.testing.assert_array_equal(cached, plain)
    np.testing.assert_array_equal(np.where(is_given, cached, -1), given)
    assert (np.asarray(cached) >= 0).all()
    # The most likely tokens are a function of the class, and all others differ.
    different = len(np.unique(np.asarray(plain), axis=0))
    assert 1 < different <= 3 if choice.temperature == 0 else different == 6


@pytest.mark.parametrize(
    'shape, per_position, kernel, dtype, has_grid, error',
    [
        ((4, 6), 1, 3, 'float32', True, 1e-4),
        pytest.param((4, 6), 3, 1, 'float32', False, 1e-4, marks=pytest.mark.slow),
        ((4, 6), 1, 3, 'bfloat16', False, 0.1),
        ((24,), 3, 3, 'float32', True, 1e-4),
        ((2, 3, 4), 1, 3, 'float32', True, 1e-4),
    ],
)
def test_each_step_of_a_pixelcnn_gives_the_logits_of_the_whole(
    shape, per_position, kernel, dtype, has_grid, error
):
    """Of a whole grid, with classes, to the last position."""
    sizes = PixelCNNSizes(depth=4, channels=8, first_kernel=5, kernel=kernel, dtype=dtype)
    grid = *shape[:-1], shape[-1] // per_position
    model = PixelCNN(sizes, TOKENS, grid, per_position)
    rng = np.random.default_rng(0)
    tokens, context = rng.integers(0, TOKENS, (2, *shape)), of_classes(np.array([0, 2]))
    if has_grid:
        context = context.replace(grid=jnp.asarray(rng.normal(size=(2, *grid, 5)), jnp.float32))
    variables = jax.tree.map(lambda p: 2 * p, initialised(model.init, jax.random.key(0), tokens, context))
    whole = model.apply(variables, tokens, context).reshape(2, -1, TOKENS)

    def advance(carry, i):
        before, cache = carry
        logits, cache = model.apply(variables, before, i, cache, method='step')
        return (jnp.array(tokens.reshape(2, -1))[:, i], cache), logits

    start = jnp.zeros(2, int), model.apply(variables, 2, context, method='start')
    _, logits = jax.lax.scan(advance, start, jnp.arange(24))
    assert np.std(whole) > 10 * error
    np.testing.assert_allclose(logits.swapaxes(0, 1), whole, rtol=error, atol=error)


@pytest.mark.parametrize(
    'values, words',
    [({'temperature': -1}, 'temperature'), ({'top_k': 0}, 'top_k'), ({'top_p': 0.0}, 'top_p')],
)
def test_choices_that_make_no_sense(values, words):
    with pytest.raises(UserError, match=words):
        Choice(**values)

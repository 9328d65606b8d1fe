"""The transformer: what it sees, and that its cache changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.models.transformer import Transformer, TransformerSizes, rotate

GRID, TOKENS, CLASSES = (3, 4), 7, 2
N = GRID[0] * GRID[1]


def made(positions='learned', causal=True, num_above=0, **sizes):
    sizes = TransformerSizes(depth=2, width=16, heads=2, positions=positions, **sizes)
    model = Transformer(sizes, TOKENS, TOKENS, GRID, CLASSES, causal, num_above)
    above = [jnp.zeros((2, 1, 2), int)] if num_above else []
    tokens = jax.random.randint(jax.random.key(1), (2, N), 0, TOKENS)
    labels = jnp.array([0, CLASSES])
    variables = model.init(jax.random.key(0), tokens, labels, *above)
    # Larger than at the start of training, so that every part counts.
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    leaves = [p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return model, jax.tree.unflatten(tree, leaves), tokens, labels


@pytest.mark.parametrize('positions', ['learned', 'rotary'])
@pytest.mark.parametrize('causal', [True, False])
def test_a_change_of_a_token_reaches_what_it_may_and_nothing_else(positions, causal):
    model, variables, tokens, labels = made(positions, causal)
    network = jax.jit(lambda tokens, labels: model.apply(variables, tokens, labels))
    before = network(tokens, labels)
    for i in range(N):
        after = network(tokens.at[:, i].add(1) % TOKENS, labels)
        changed = np.abs(np.asarray(after - before)).max((0, 2)) > 0
        assert changed.tolist() == [j > i or not causal for j in range(N)]
    assert (np.abs(np.asarray(network(tokens, 1 - labels % 2) - before)) > 0).any(-1).all()


@pytest.mark.parametrize('positions, num_above', [('learned', 0), ('rotary', 0), ('rotary', 5)])
def test_steps_with_a_cache_equal_the_whole(positions, num_above):
    model, variables, tokens, labels = made(positions, num_above=num_above)
    above = [jnp.array([[[0, 3]], [[4, 2]]])] if num_above else []
    cache, logits = model.apply(variables, labels, *above, method='start'), []
    step = jax.jit(lambda *inputs: model.apply(variables, *inputs, method='step'))
    room = {0: 5, 5: N - 5}
    for i in range(N):
        cache = model.grow(cache, room[i]) if i in room else cache
        one, cache = step(tokens[:, i - 1], jnp.int32(i), cache)
        logits.append(one)
    whole = model.apply(variables, tokens, labels, *above)
    np.testing.assert_allclose(np.stack(logits, 1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('causal', [True, False])
def test_the_level_above_is_seen_from_everywhere_and_the_future_is_not(causal):
    model, variables, tokens, labels = made(causal=causal, num_above=5)
    network = jax.jit(lambda *inputs: model.apply(variables, *inputs))
    above = jnp.zeros((2, 1, 2), int)
    before = network(tokens, labels, above)
    after = network(tokens, labels, above.at[:, 0, 1].set(3))
    # The first place lies two columns from the children of the token that changed: a 3x3 field reaches it.
    assert (np.abs(np.asarray(after - before)).max(-1) > 0).all()
    for i in range(N):
        after = network(tokens.at[:, i].add(1) % TOKENS, labels, above)
        changed = np.abs(np.asarray(after - before)).max((0, 2)) > 0
        assert changed.tolist() == [j > i or not causal for j in range(N)]


def test_turned_queries_and_keys_know_only_how_far_apart_they_are():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 8))
    speeds = np.array([1.0, 0.5, 0.25, 0.125])

    def score(at_q, at_k):
        return jnp.sum(rotate(q, at_q * speeds[None]) * rotate(k, at_k * speeds[None]))

    np.testing.assert_allclose(score(3.0, 1.0), score(7.0, 5.0), rtol=1e-4)
    assert abs(score(3.0, 1.0) - score(3.0, 2.0)) > 1e-3


def test_dropout_is_by_example_and_only_with_keys():
    model, variables, tokens, labels = made(dropout=0.5)
    tokens, labels = jnp.repeat(tokens[:1], 2, 0), jnp.repeat(labels[:1], 2)
    keys = jax.random.split(jax.random.key(0), 2)
    a, b = model.apply(variables, tokens, labels, keys=keys)
    assert np.abs(a - b).max() > 0.1
    alone = model.apply(variables, tokens[1:], labels[1:], keys=keys[1:])
    np.testing.assert_allclose(alone[0], b, rtol=1e-4, atol=1e-5)
    a, b = model.apply(variables, tokens, labels)
    np.testing.assert_array_equal(a, b)


def test_bfloat16_gives_float32_logits():
    model, variables, tokens, labels = made(dtype='bfloat16')
    assert model.apply(variables, tokens, labels).dtype == jnp.float32
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))


@pytest.mark.parametrize(
    'sizes, words',
    [
        ({'heads': 3}, '3 heads'),
        ({'heads': 0}, 'config.transformer.heads is 0; give 1 or more'),
        ({'depth': -1}, 'config.transformer.depth is -1'),
        ({'dropout': 1.5}, 'config.transformer.dropout is 1.5; give a number from 0 to below 1'),
        ({'positions': 'rotary'}, 'multiple of 4'),
    ],
)
def test_sizes_that_do_not_fit(sizes, words):
    with pytest.raises(UserError, match=words):
        TransformerSizes(**{'width': 16, 'heads': 8, **sizes})

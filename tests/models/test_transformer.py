"""The transformer: what it sees, and that its cache changes nothing."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.models.conditioning_stack import ConditioningStack
from vq_jax.models.context import Context, ContextEncoder, class_vector
from vq_jax.models.transformer import Block, Transformer, TransformerSizes, rotate

GRID, TOKENS, CLASSES = (3, 4), 7, 2
N = GRID[0] * GRID[1]


def of_labels(labels):
    return Context(vector=class_vector(labels, CLASSES))


def made(positions='learned', causal=True, grid=GRID, context=None, **sizes):
    sizes = TransformerSizes(depth=2, width=24, heads=2, positions=positions, **sizes)
    model = Transformer(sizes, TOKENS, TOKENS, grid, causal)
    tokens = jax.random.randint(jax.random.key(1), (2, math.prod(grid)), 0, TOKENS)
    context = context or of_labels(jnp.array([0, CLASSES]))
    variables = initialised(model.init, jax.random.key(0), tokens, context)
    # Larger than at the start of training, so that every part counts.
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    leaves = [p + 0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return model, jax.tree.unflatten(tree, leaves), tokens, context


@pytest.mark.parametrize(
    'positions, causal, grid',
    [
        ('learned', True, GRID),
        ('learned', False, GRID),
        ('rotary', True, GRID),
        ('rotary', False, (5,)),
        ('rotary', True, (2, 1, 3)),
    ],
)
def test_a_change_of_a_token_reaches_what_it_may_and_nothing_else(positions, causal, grid):
    model, variables, tokens, context = made(positions, causal, grid)
    n = math.prod(grid)
    network = jax.jit(lambda tokens, context: model.apply(variables, tokens, context))
    before = network(tokens, context)
    for i in range(n):
        after = network(tokens.at[:, i].add(1) % TOKENS, context)
        changed = np.abs(np.asarray(after - before)).max((0, 2)) > 0
        assert changed.tolist() == [j > i or not causal for j in range(n)]
    assert (np.abs(np.asarray(network(tokens, of_labels(jnp.array([1, 1]))) - before)) > 0).any(-1).all()


@pytest.mark.parametrize(
    'positions, grid, parts, sizes',
    [
        ('learned', GRID, ('vector',), {}),
        ('rotary', GRID, ('vector',), {}),
        ('rotary', GRID, ('vector', 'grid', 'tokens', 'mask'), {}),
        ('rotary', (7,), ('tokens',), {}),
        ('rotary_tokens', GRID, ('vector',), {}),
        ('learned', (2, 2, 3), ('grid',), {}),
        ('learned', GRID, ('vector', 'tokens'), {'norm_first': False, 'head': 'tied'}),
    ],
)
def test_steps_with_a_cache_equal_the_whole(positions, grid, parts, sizes):
    """In any context: its tokens are read once, its grid step by step."""
    whole = Context(
        vector=class_vector(jnp.array([0, CLASSES]), CLASSES),
        tokens=jax.random.normal(jax.random.key(4), (2, 3, 5)),
        mask=jnp.array([[True, True, False], [False, True, False]]),
        grid=jax.random.normal(jax.random.key(5), (2, *grid, 24)),
    )
    context = Context(**{part: getattr(whole, part) for part in parts})
    model, variables, tokens, _ = made(positions, grid=grid, context=context, **sizes)
    n = math.prod(grid)
    cache, logits = model.apply(variables, 2, context, method='start'), []
    step = jax.jit(lambda *inputs: model.apply(variables, *inputs, method='step'))
    room = {0: 5, 5: n - 5}
    for i in range(n):
        cache = model.grow(cache, room[i]) if i in room else cache
        one, cache = step(tokens[:, i - 1], jnp.int32(i), cache)
        logits.append(one)
    whole = model.apply(variables, tokens, context)
    np.testing.assert_allclose(np.stack(logits, 1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('causal', [True, False])
def test_the_coarser_scale_is_seen_from_everywhere_and_the_future_is_not(causal):
    encoder = ContextEncoder(CLASSES, ConditioningStack(5, 24, GRID))
    labels, coarser = jnp.array([0, CLASSES]), jnp.zeros((2, 1, 2, 1), int)
    context, weights = encoder.init_with_output(jax.random.key(7), labels, coarser, method='encode')
    model, variables, tokens, _ = made(causal=causal, context=context)

    @jax.jit
    def network(tokens, coarser):
        return model.apply(variables, tokens, encoder.apply(weights, labels, coarser, method='encode'))

    before = network(tokens, coarser)
    after = network(tokens, coarser.at[:, 0, 1].set(3))
    # The first position lies two columns from the children of the changed token: a 3x3 field reaches it.
    assert (np.abs(np.asarray(after - before)).max(-1) > 0).all()
    for i in range(N):
        after = network(tokens.at[:, i].add(1) % TOKENS, coarser)
        changed = np.abs(np.asarray(after - before)).max((0, 2)) > 0
        assert changed.tolist() == [j > i or not causal for j in range(N)]


def test_turned_queries_and_keys_know_only_how_far_apart_they_are():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 8))
    speeds = np.array([1.0, 0.5, 0.25, 0.125])

    def turned(x, at):
        return rotate(x, (np.cos(at * speeds[None]), np.sin(at * speeds[None])))

    def score(at_q, at_k):
        return jnp.sum(turned(q, at_q) * turned(k, at_k))

    np.testing.assert_allclose(score(3.0, 1.0), score(7.0, 5.0), rtol=1e-4)
    assert abs(score(3.0, 1.0) - score(3.0, 2.0)) > 1e-3


def test_the_connected_layers_are_those_of_the_papers():
    """Beside NumPy: GELU by the error function, and SwiGLU of two thirds the width in units of 256."""
    x = np.asarray(jax.random.normal(jax.random.key(0), (1, 3, 24)), np.float64)
    for mlp in ('gelu', 'swiglu'):
        sizes = TransformerSizes(depth=1, width=24, heads=2, mlp=mlp, norm='rms', biases=False)
        block = Block(sizes)
        params = block.init(jax.random.key(1), jnp.float32(x), None, None, None, None)['params']
        params = jax.tree.map(lambda p: 10 * np.asarray(p, np.float64), params)
        found = block.apply({'params': params}, jnp.float32(x), method='_mlp')
        normal = 10 * x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6)
        h = normal @ params['widen']['kernel']
        if mlp == 'gelu':
            h = h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2
        else:
            gate = normal @ params['gate']['kernel']
            h = gate / (1 + np.exp(-gate)) * h
        assert h.shape[-1] == {'gelu': 96, 'swiglu': 256}[mlp]
        np.testing.assert_allclose(found, h @ params['narrow']['kernel'], rtol=1e-4, atol=1e-4)
        assert all(name in ('kernel', 'scale') for part in params.values() for name in part)


def test_normalisation_comes_last_and_logits_are_products_with_embeddings():
    """Beside NumPy, of what the second block gives; whole networks are in `tests.weights.test_maskgit`."""
    model, variables, tokens, context = made(causal=False, norm_first=False, head='tied')
    params = jax.tree.map(lambda p: np.asarray(p, np.float64), variables['params'])
    hidden = np.asarray(model.apply(variables, tokens, context, method='hidden'), np.float64)

    def normal(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    last, head = params['blocks_1']['after_mlp'], params['head']
    np.testing.assert_allclose(
        normal((hidden - last['bias']) / last['scale']) * last['scale'] + last['bias'], hidden, atol=1e-3
    )
    x = np.asarray(jax.nn.gelu(hidden @ head['dense']['kernel'] + head['dense']['bias']), np.float64)
    x = normal(x) * head['norm']['scale'] + head['norm']['bias']
    wanted = x @ params['token']['embedding'].T + head['bias']
    np.testing.assert_allclose(model.apply(variables, tokens, context), wanted, rtol=1e-3, atol=1e-3)


def test_a_head_of_embeddings_is_of_one_token():
    with pytest.raises(UserError, match='head is tied, which is of one token in a slot, and there are 2'):
        Transformer(TransformerSizes(head='tied'), TOKENS, TOKENS, GRID, tokens_per_slot=2)


def test_a_first_slot_that_is_not_turned_is_seen_by_all_with_the_same_score():
    """Nobody attends to it by what it holds, and it sees itself alone."""
    model, variables, tokens, context = made('rotary_tokens')
    cos, sin = model.bind(variables)._turns(jnp.arange(N))
    np.testing.assert_array_equal(np.stack([cos[0], sin[0]]), 0)
    np.testing.assert_allclose(cos**2 + sin**2, np.repeat(np.arange(N) > 0, 6).reshape(N, 6), atol=1e-6)
    block = variables['params']['blocks_0']['qkv']
    changed = jax.tree.map(lambda x: x, variables)
    changed['params']['blocks_0']['qkv'] = jax.tree.map(lambda x: x.at[..., :48].mul(2), block)
    network = jax.jit(lambda variables: model.apply(variables, tokens, context))
    before, after = network(variables), network(changed)
    np.testing.assert_allclose(before[:, 0], after[:, 0], rtol=1e-5, atol=1e-5)
    assert np.abs(before[:, 2:] - after[:, 2:]).max() > 1e-2


def test_dropout_is_by_example_and_only_with_keys():
    model, variables, tokens, _ = made(dropout=0.5)
    tokens, context = jnp.repeat(tokens[:1], 2, 0), of_labels(jnp.zeros(2, int))
    keys = jax.random.split(jax.random.key(0), 2)
    a, b = model.apply(variables, tokens, context, keys=keys)
    assert np.abs(a - b).max() > 0.1
    alone = model.apply(variables, tokens[1:], of_labels(jnp.zeros(1, int)), keys=keys[1:])
    np.testing.assert_allclose(alone[0], b, rtol=1e-4, atol=1e-5)
    a, b = model.apply(variables, tokens, context)
    np.testing.assert_array_equal(a, b)


def test_bfloat16_gives_float32_logits():
    model, variables, tokens, context = made(dtype='bfloat16')
    assert model.apply(variables, tokens, context).dtype == jnp.float32
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))


@pytest.mark.parametrize(
    'sizes, words',
    [
        ({'heads': 3}, '3 heads'),
        ({'heads': 0}, '^heads is 0; give 1 or more'),
        ({'depth': -1}, '^depth is -1'),
        ({'norm_epsilon': 0.0}, '^norm_epsilon is 0.0; give a number above 0'),
        ({'dropout': 1.5}, '^dropout is 1.5; give a number from 0 to below 1'),
        ({'positions': 'rotary'}, 'multiple of 4'),
    ],
)
def test_sizes_that_do_not_fit(sizes, words):
    with pytest.raises(UserError, match=words):
        Transformer(TransformerSizes(**{'width': 16, 'heads': 8, **sizes}), TOKENS, TOKENS, GRID)


def test_rotary_positions_are_an_equal_share_of_a_head_for_each_axis():
    """Token (i, j, k) is turned by i + 1, j + 1 and k + 1 times the speeds, the first slot by 0."""
    for grid in ((6,), (2, 3), (1, 2, 3)):
        model, variables, _, _ = made('rotary', grid=grid)
        cos, sin = model.bind(variables)._turns(jnp.arange(7))
        pairs = 6 // len(grid)
        for slot, index in enumerate(np.ndindex(grid), 1):
            wanted = [(i + 1) * 10_000 ** (-j / pairs) for i in index for j in range(pairs)]
            np.testing.assert_allclose(cos[slot], np.cos(wanted), atol=1e-6)
            np.testing.assert_allclose(sin[slot], np.sin(wanted), atol=1e-6)
        np.testing.assert_array_equal(cos[0], 1)
        np.testing.assert_array_equal(sin[0], 0)


@pytest.mark.parametrize(
    'scan, remat', [(True, False), (False, True), pytest.param(True, True, marks=pytest.mark.slow)]
)
def test_a_loop_and_recomputation_change_neither_names_nor_gradients(scan, remat):
    """With all that a context has, and dropout."""
    context = of_labels(jnp.array([0, CLASSES])).replace(
        tokens=jax.random.normal(jax.random.key(3), (2, 3, 24)), mask=jnp.array([[1, 1, 0], [1, 1, 1]], bool)
    )
    model, variables, tokens, _ = made('rotary', context=context, dropout=0.2)
    other = model.clone(sizes=dataclasses.replace(model.sizes, scan=scan, remat=remat))
    keys = jax.random.split(jax.random.key(4), 2)

    def gradient(model):
        return jax.jit(jax.grad(lambda v: jnp.sum(model.apply(v, tokens, context, keys) ** 2)))(variables)

    shapes = jax.eval_shape(other.init, jax.random.key(0), tokens, context)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)
    expected = gradient(model)
    bound = 1e-6 * max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, bound), gradient(other), expected)
    program = jax.make_jaxpr(lambda v: other.apply(v, tokens, context, keys))(variables)
    assert ('scan' in str(program), 'remat' in str(program)) == (scan, remat)

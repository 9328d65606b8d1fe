"""In which order a transformer predicts codes of several depths: what each sees, and what is sampled."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from tests.runs import run
from vq_jax.errors import UserError
from vq_jax.models.transformer import TransformerSizes
from vq_jax.spec import CodeSpec, Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.prior_config import PriorConfig, Sampling
from vq_jax.tasks.token_network import make_network

CLASSES = 2


def made(pattern, shape, k, has_coarser=False, positions='learned'):
    """A network of codes [*grid depth], with parameters that make every part count."""
    *grid, depth = shape
    sizes = {
        'transformer': TransformerSizes(depth=1, width=24, heads=2, positions=positions, dropout=0.5),
        'depth_transformer': TransformerSizes(depth=1, width=8, heads=2, positions=positions, dropout=0.5),
    }
    scales = 1 + has_coarser
    codes = CodeSpec((tuple(grid),) * scales, ((k,) * depth,) * scales)
    network = make_network(PriorConfig(pattern=pattern), sizes, codes, scales - 1, CLASSES)
    coarser = jnp.arange(math.prod(shape)).reshape(1, *shape) % k if has_coarser else None
    variables = initialised(network.init, jax.random.key(0), coarser)
    leaves, tree = jax.tree.flatten(variables)
    noise = zip(leaves, jax.random.split(jax.random.key(4), len(leaves)), strict=True)
    variables = jax.tree.unflatten(tree, [p + 0.4 * jax.random.normal(key, p.shape) for p, key in noise])
    if has_coarser:  # beside which the class would count for nothing
        of_grid = jax.tree.map(lambda p: 0.3 * p, variables['params']['conditioning'])
        variables = {'params': {**variables['params'], 'conditioning': of_grid}}
    return network, variables, coarser


def logits_of(network, variables, labels, coarser=None):
    """Codes [b n] of classes [b] to logits [b n k]."""

    @jax.jit
    def logits(codes):
        context = network.context(variables, labels, coarser)
        return network.logits(variables, codes, jnp.ones(codes.shape, bool), context)

    return logits


def sees(pattern, shape):
    """Whether the prediction of each code depends on each other one, bool [n n]."""
    *grid, depth = shape
    positions, depths = np.divmod(np.arange(math.prod(grid) * depth), depth)
    when = {'delay': positions + depths, 'depth': np.arange(len(depths))}[pattern]
    return when[:, None] > when


@pytest.mark.parametrize(
    'pattern, shape, positions',
    [
        ('delay', (4, 3), 'learned'),
        pytest.param('delay', (2, 2, 2), 'rotary', marks=pytest.mark.slow),
        ('depth', (4, 3), 'learned'),
        pytest.param('depth', (2, 2, 2), 'rotary', marks=pytest.mark.slow),
    ],
)
def test_a_change_of_a_code_reaches_what_is_predicted_later_and_nothing_else(pattern, shape, positions):
    network, variables, _ = made(pattern, shape, 5, positions=positions)
    codes = jnp.asarray(np.random.default_rng(0).integers(0, 5, (1, math.prod(shape))))
    logits, seen = logits_of(network, variables, jnp.zeros(1, int)), sees(pattern, shape)
    before = logits(codes)
    for i in range(codes.shape[1]):
        change = np.abs(np.asarray(logits(codes.at[:, i].add(1) % 5) - before)).max((0, 2))
        np.testing.assert_array_equal(change > 0, seen[:, i])


@pytest.mark.parametrize('pattern', ['delay', 'depth'])
def test_samples_are_as_frequent_as_their_probability(pattern):
    """All grids of two positions of two codes, whose probabilities sum to 1."""
    network, variables, _ = made(pattern, (2, 2), 3)
    grids = jnp.array(list(itertools.product(range(3), repeat=4)))
    logits = logits_of(network, variables, jnp.zeros(len(grids), int))(grids)
    nats = jnp.take_along_axis(jax.nn.log_softmax(logits), grids[..., None], -1)[..., 0].sum(1)
    probabilities = np.exp(np.asarray(nats, np.float64))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5) and probabilities.std() > 1e-3

    n = 10_000
    context = network.context(variables, jnp.zeros(n, int))
    sample = jax.jit(functools.partial(network.sample, sampling=Sampling()))
    drawn = sample(variables, jax.random.split(jax.random.key(1), n), context).reshape(n, 4)
    counts = np.bincount(np.asarray(drawn) @ 3 ** np.arange(4)[::-1], minlength=81)
    expected = n * probabilities
    rare = expected < 5
    assert (~rare).sum() > 20
    statistic = np.sum((counts - expected)[~rare] ** 2 / expected[~rare])
    freedom = (~rare).sum()
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    'pattern, shape, has_coarser',
    [
        ('delay', (5, 3), False),
        pytest.param('delay', (3, 3, 2), True, marks=pytest.mark.slow),
        pytest.param('depth', (5, 3), False, marks=pytest.mark.slow),
        ('depth', (3, 3, 2), True),
    ],
)
def test_the_likeliest_codes_are_those_of_a_pass_over_them(pattern, shape, has_coarser):
    """Sampled with a cache and guided, beside codes that are known."""
    network, variables, coarser = made(pattern, shape, 7, has_coarser, 'rotary')
    n, b = math.prod(shape), 6
    labels = jnp.arange(b) % CLASSES
    coarser = None if coarser is None else (jnp.arange(b)[:, None, None, None] + coarser) % 7
    is_known = jax.random.bernoulli(jax.random.key(5), 0.3, (b, n))
    known = jnp.where(is_known, jax.random.randint(jax.random.key(6), (b, n), 0, 7), -1)
    context = network.context(variables, labels, coarser)
    sampling = Sampling(temperature=0.0, guidance=9.0)
    sample = jax.jit(functools.partial(network.sample, sampling=sampling))
    found = sample(variables, jax.random.split(jax.random.key(1), b), context, known=known.reshape(b, *shape))
    found = found.reshape(b, n)
    none = jnp.full(b, CLASSES)
    conditional, unconditional = (
        logits_of(network, variables, given, coarser)(found) for given in (labels, none)
    )
    likeliest = jnp.argmax(unconditional + 9.0 * (conditional - unconditional), -1)
    np.testing.assert_array_equal(found, jnp.where(is_known, known, likeliest))
    assert (likeliest != jnp.argmax(conditional, -1)).any() and len(np.unique(likeliest)) > 3


@pytest.mark.slow
def test_dropout_is_by_example_and_only_with_keys():
    network, variables, _ = made('depth', (3, 2), 5)
    codes, keys = jnp.zeros((2, 6), int), jax.random.split(jax.random.key(0), 2)
    context = network.context(variables, jnp.zeros(2, int))
    logits = functools.partial(network.logits, variables)
    dropped = logits(codes, codes == 0, context, keys)
    assert np.abs(dropped[0] - dropped[1]).max(-1).min() > 1e-3
    one = network.context(variables, jnp.zeros(1, int))
    alone = logits(codes[1:], codes[1:] == 0, one, keys[1:])
    np.testing.assert_allclose(alone[0], dropped[1], rtol=1e-4, atol=1e-4)
    a, b = logits(codes, codes == 0, context)
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize('pattern', ['flattened', 'delay', 'depth'])
def test_eight_devices_train_and_sample_as_one_does(pattern):
    """With either engine, dropout, and classes that are hidden."""
    printed, _ = run([pattern], module='tests.tasks.patterns_on_eight_devices', devices=8)
    assert printed == f'{pattern}\n'


@pytest.mark.parametrize(
    'kind, pattern, channels, words',
    [
        ('pixelcnn', 'delay', 3, "model.pattern is 'delay', which is of the kind transformer, and kind is"),
        ('maskgit', 'depth', 3, "model.pattern is 'depth', which is of the kind transformer, and kind is"),
        ('transformer', 'delay', 1, r'one code at each position, .* leave config\.model\.pattern out'),
    ],
)
def test_patterns_that_change_nothing_are_refused(kind, pattern, channels, words):
    config = default_config('prior')
    config.model.kind, config.model.pattern = kind, pattern
    with pytest.raises(UserError, match=words):
        make_task(config, Spec('image', (4, 4, channels)), 0)

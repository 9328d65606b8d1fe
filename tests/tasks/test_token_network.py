"""Networks over grids of tokens of any rank: samples in a context, guided or not, against plain passes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.models.context import Context, class_vector
from vq_jax.models.pixelcnn import PixelCNNSizes
from vq_jax.models.transformer import TransformerSizes
from vq_jax.sampling.autoregressive import generate_without_cache
from vq_jax.sampling.masked import generate_masked
from vq_jax.spec import CodeSpec
from vq_jax.tasks.prior_config import PriorConfig, Sampling
from vq_jax.tasks.token_network import make_network

TOKENS, CLASSES, B = 5, 2, 4
SIZES = {
    'transformer': TransformerSizes(depth=1, width=12, heads=1, positions='rotary'),
    'pixelcnn': PixelCNNSizes(depth=2, channels=8, first_kernel=3),
}
CASES = [
    ('transformer', (1, 2, 3, 1), False),
    ('transformer', (2, 4, 1), True),
    ('pixelcnn', (6, 1), False),
    ('pixelcnn', (2, 2, 3, 1), False),
    ('pixelcnn', (2, 4, 2), True),
    ('maskgit', (5, 1), False),
]


def made(kind, shape, has_coarser):
    *grid, depth = shape
    scales = 2 if has_coarser else 1
    codes = CodeSpec((tuple(grid),) * scales, ((TOKENS,) * depth,) * scales)
    network = make_network(PriorConfig(kind, label_dropout=0.5), SIZES, codes, scales - 1, CLASSES)
    coarser = None
    if has_coarser:
        coarser = jnp.arange(B * math.prod(shape) // 4).reshape(B, *(n // 2 for n in shape[:-1]), shape[-1])
        coarser %= TOKENS
    variables = initialised(network.init, jax.random.key(0), None if coarser is None else coarser[:1])
    leaves, tree = jax.tree.flatten(variables)
    noise = zip(leaves, jax.random.split(jax.random.key(4), len(leaves)), strict=True)
    variables = jax.tree.unflatten(tree, [p + 0.5 * jax.random.normal(key, p.shape) for p, key in noise])
    return network, variables, coarser


@pytest.mark.parametrize('kind, shape, has_coarser', CASES)
def test_guided_samples_are_those_of_both_passes(kind, shape, has_coarser):
    """Logits with the class and of no class, on the line through both; some tokens are known already."""
    network, variables, coarser = made(kind, shape, has_coarser)
    labels, n = jnp.array([0, 1, 1, 0]), math.prod(shape)
    keys = jax.random.split(jax.random.key(1), B)
    known = jnp.full((B, n), -1).at[:, -1].set(3)
    context = network.context(variables, labels, coarser)
    none = Context(vector=class_vector(jnp.full(B, CLASSES), CLASSES), grid=context.grid)
    sampling = Sampling(guidance=6.0, steps=3)

    def logits(tokens):
        a, b = (network.logits(variables, tokens, tokens < 0, x) for x in (context, none))
        return b + 6.0 * (a - b)

    if kind == 'maskgit':
        wanted = generate_masked(logits, keys, known, steps=3, choice=sampling)
    else:
        wanted = generate_without_cache(logits, keys, n, sampling, known)
    found, plain = (
        network.sample(variables, keys, context, how, known.reshape(B, *shape))
        for how in (sampling, Sampling(steps=3))
    )
    np.testing.assert_array_equal(found, wanted.reshape(B, *shape))
    np.testing.assert_array_equal(wanted[:, -1], 3)
    assert (found != plain).any()


@pytest.mark.parametrize('has_coarser', [False, True])
def test_classes_alone_are_dropped(has_coarser):
    network, variables, coarser = made('transformer', (2, 4, 1), has_coarser)
    context = network.context(variables, jnp.zeros(B, int), coarser)
    keys = jax.random.split(jax.random.key(2), B)
    dropped = network.encoder.drop(keys, context)
    chosen = np.asarray(jax.vmap(lambda key: jax.random.bernoulli(key, 0.5))(keys))
    np.testing.assert_array_equal(dropped.vector.argmax(1), np.where(chosen, CLASSES, 0))
    assert 0 < chosen.sum() < B
    if has_coarser:
        np.testing.assert_array_equal(dropped.grid, context.grid)


@pytest.mark.parametrize('kind, columns', [('transformer', 8), ('pixelcnn', 4)])
def test_a_context_knows_the_depths_of_coarser_codes_apart(kind, columns):
    """Those of a position, which the two codes of each of its children see too."""
    network, variables, coarser = made(kind, (2, 4, 2), has_coarser=True)
    labels = jnp.zeros(B, int)
    context = network.context(variables, labels, coarser).grid
    assert context.shape[:-1] == (B, 2, columns)
    for other in (coarser[..., ::-1], coarser.at[..., 1].set(0)):
        assert (jnp.abs(network.context(variables, labels, other).grid - context) > 1e-3).any()

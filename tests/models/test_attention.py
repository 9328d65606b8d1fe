"""Attention against a plain softmax, in the forms in which it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.models.attention import (
    Attention,
    CrossAttention,
    attend,
    attend_merged,
    block_causal_mask,
    causal_mask,
)

RNG = np.random.default_rng(0)
B, HEADS, D = 2, 3, 4


def made(*lengths):
    return [RNG.normal(size=(B, n, HEADS, D)).astype(np.float32) for n in lengths]


def plain(q, k, v, seen):
    """Equation 1 of Vaswani et al. 2017, query by query: what `seen(b, i, j)` is not true of is left out."""
    out = np.zeros(q.shape, np.float64)
    for b, i, h in np.ndindex(q.shape[:3]):
        keys = [j for j in range(k.shape[1]) if seen(b, i, j)]
        if keys:
            weights = np.exp([q[b, i, h] @ k[b, j, h] / np.sqrt(q.shape[-1]) for j in keys])
            out[b, i, h] = weights @ v[b, keys, h] / weights.sum()
    return out


BLOCKS = np.array([0, 1, 1, 1, 1, 2, 2])  # as of grids of 1, 4 and 2 positions
FORMS = {
    'all': (None, lambda i, j: True),
    'causal': (causal_mask(7), lambda i, j: j <= i),
    'block-causal': (block_causal_mask(BLOCKS), lambda i, j: BLOCKS[j] <= BLOCKS[i]),
}


@pytest.mark.parametrize('form', FORMS)
def test_each_form_is_a_plain_softmax_over_what_it_shows(form):
    mask, seen = FORMS[form]
    q, k, v = made(7, 7, 7)
    wanted = plain(q, k, v, lambda b, i, j: seen(i, j))
    np.testing.assert_allclose(attend(q, k, v, mask), wanted, rtol=1e-4, atol=1e-5)

    def merged(x):
        return x.transpose(0, 2, 1, 3).reshape(B * HEADS, 7, D)

    found = attend_merged(*map(merged, (q, k, v)), mask)
    np.testing.assert_allclose(found, merged(wanted), rtol=1e-4, atol=1e-5)


def test_cross_attention_sees_the_tokens_that_are_there():
    """Two lengths of context, one of which is empty: there nothing is seen, and nothing is not a number."""
    q, k, v = made(5, 6, 6)
    mask = np.zeros((B, 6), bool)
    mask[0, :4] = True
    found = attend(q, k, v, mask[:, None, None])
    np.testing.assert_allclose(found, plain(q, k, v, lambda b, i, j: mask[b, j]), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[1], 0)
    grads = jax.grad(lambda k: jnp.sum(attend(q, k, v, mask[:, None, None]) ** 2))(k)
    assert np.isfinite(grads).all() and not grads[0, 4:].any() and grads[0, :4].any()


def test_cross_attention_as_a_layer():
    """It starts at zero; later only tokens that are there count, and each position is on its own."""
    x, tokens = RNG.normal(size=(B, 5, 12)), RNG.normal(size=(B, 6, 7))
    mask = np.arange(6) < np.array([[4], [6]])
    layer = CrossAttention(12, HEADS)
    variables = layer.init(jax.random.key(0), x, tokens)
    np.testing.assert_array_equal(layer.apply(variables, x, tokens, mask), 0)
    variables = jax.tree.map(lambda p: 0.3 * RNG.normal(size=p.shape), variables)
    out = layer.apply(variables, x, tokens, mask)
    other = np.where(mask[..., None], tokens, 9.0)
    np.testing.assert_allclose(layer.apply(variables, x, other, mask), out, atol=1e-5)
    assert np.abs(layer.apply(variables, x, tokens) - out)[0].max() > 1e-3
    part = layer.apply(variables, x[:, 2:3], tokens, mask)
    np.testing.assert_allclose(part, out[:, 2:3], atol=1e-5)


@pytest.mark.parametrize('grid', [(6,), (2, 3), (1, 2, 3)])
def test_self_attention_over_a_grid_does_not_know_its_rank(grid):
    x = RNG.normal(size=(B, *grid, 8)).astype(np.float32)
    layer = Attention(heads=2)
    variables = jax.tree.map(
        lambda p: jnp.float32(np.random.default_rng(p.size).normal(size=p.shape)),
        layer.init(jax.random.key(0), x),
    )
    flat = Attention(heads=2)
    two = jax.tree.map(lambda p: p.reshape(1, 1, *p.shape[-2:]) if p.ndim > 1 else p, variables)
    found = layer.apply(variables, x)
    wanted = flat.apply(two, x.reshape(B, 1, 6, 8))
    np.testing.assert_allclose(found.reshape(B, 1, 6, 8), wanted, rtol=1e-4, atol=1e-4)

"""Parts of a batch: what they know of the whole, on one device and on several, which `vmap` stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops.parts import Part, map_over_parts, mean_over_parts

RNG = np.random.default_rng(0)


def on_devices(function, batch, devices):
    """What the first of several devices gives, each of which has its share of a batch."""
    split = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
    results = jax.jit(jax.vmap(lambda batch: function(batch, 'data'), axis_name='data'))(split)
    for x in jax.tree.leaves(results):
        np.testing.assert_array_equal(x, np.broadcast_to(x[:1], x.shape))
    return jax.tree.map(lambda x: x[0], results)


@pytest.mark.parametrize('devices, parts', [(1, 4), (3, 1), (3, 2), (2, 6)])
def test_a_part_knows_its_examples(devices, parts):
    """Each example is in one part, and has the key, and the rows, that it has in the whole batch."""
    n = 12
    rows = RNG.normal(size=(n, 5, 2)).astype(np.float32)
    indices = RNG.integers(0, n * 5, 7)
    key = jax.random.key(3)
    whole = Part.of_device(n).keys(key)
    assert len(np.unique(jax.random.key_data(whole), axis=0)) == n

    def tell(batch, part):
        assert part.size == n and len(part.index) == n // devices // parts
        draws = jax.vmap(jax.random.uniform)(part.keys(key))
        return {
            'mean': jnp.mean(batch['x'], 0),
            'seen': jnp.zeros(n).at[batch['place']].add(1.0) * (devices * parts),
            'draws': jnp.zeros(n).at[batch['place']].add(draws) * (devices * parts),
            'rows': part.take(batch['x'].reshape(-1, 2), indices),
        }

    batch = {'x': rows, 'place': np.arange(n)}
    means = on_devices(lambda batch, axis: mean_over_parts(tell, batch, parts, axis), batch, devices)
    np.testing.assert_allclose(means['mean'], rows.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(means['seen'], 1, rtol=1e-6)
    np.testing.assert_allclose(means['draws'], jax.vmap(jax.random.uniform)(whole), rtol=1e-6)
    np.testing.assert_allclose(means['rows'], rows.reshape(-1, 2)[indices], rtol=1e-6)


def test_what_is_given_of_examples_keeps_their_order():
    x = RNG.normal(size=(12, 3)).astype(np.float32)
    for parts in (1, 4):
        found = map_over_parts(lambda x: (2 * x, x[:, 0]), x, parts)
        np.testing.assert_array_equal(found[0], 2 * x)
        np.testing.assert_array_equal(found[1], x[:, 0])


def test_memory_is_that_of_one_part():
    """A gradient that keeps much of each example, by what the compiler sets aside."""

    def learn(w, x, parts):
        def loss(w, x):
            for _ in range(8):
                x = jnp.tanh(x @ w)
            return jnp.mean(x)

        return mean_over_parts(lambda x, part: jax.grad(loss)(w, x), x, parts, None)

    def memory(parts):
        compiled = jax.jit(learn, static_argnums=2).lower(jnp.ones((64, 64)), jnp.ones((4096, 64)), parts)
        return compiled.compile().memory_analysis().temp_size_in_bytes

    assert memory(8) < memory(1) / 3

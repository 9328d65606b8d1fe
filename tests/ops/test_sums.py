"""The same values and derivatives as plain arithmetic, to the second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops import sums

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(3, 2)), RNG.normal(size=(3, 2))
GRIDS = [(192,), (7,), (4, 5), (3, 4, 5)]


@pytest.mark.parametrize('grid', GRIDS)
def test_sum_positions(grid):
    x = RNG.normal(size=(3, *grid, 2))
    np.testing.assert_allclose(sums.sum_positions(x), x.reshape(3, -1, 2).sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('grid', GRIDS)
def test_derivatives(grid):
    x = RNG.normal(size=(3, *grid, 2))

    def plain_map(x, a, b):
        a, b = (v.reshape(3, *(1,) * len(grid), 2) for v in (a, b))
        return x * a + b

    pairs = [
        (lambda x, a, b: sums.shift(x, b[0]), lambda x, a, b: x + b[0]),
        (sums.scale_and_shift, plain_map),
    ]
    for ours, plain in pairs:

        def first(f):
            return jax.grad(lambda *args: jnp.sum(jnp.sin(f(*args))), (0, 1, 2))

        def second(f):
            return jax.grad(lambda *args: sum(jnp.sum(g**2) for g in first(f)(*args)), (0, 1, 2))

        for derivative in (lambda f: f, first, second):
            found, expected = (jax.tree.leaves(jax.jit(derivative(f))(x, A, B)) for f in (ours, plain))
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

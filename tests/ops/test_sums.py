"""The same values and derivatives as plain arithmetic, to the second order."""

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.ops import places

RNG = np.random.default_rng(0)
X, A, B = RNG.normal(size=(3, 4, 5, 2)), RNG.normal(size=(3, 2)), RNG.normal(size=(3, 2))


def test_sum_places():
    np.testing.assert_allclose(places.sum_positions(X), X.sum((1, 2)), rtol=1e-5)


def test_derivatives():
    pairs = [
        (lambda x, a, b: places.shift(x, b[0]), lambda x, a, b: x + b[0]),
        (places.scale_and_shift, lambda x, a, b: x * a[:, None, None] + b[:, None, None]),
    ]
    for ours, plain in pairs:

        def first(f):
            return jax.grad(lambda *args: jnp.sum(jnp.sin(f(*args))), (0, 1, 2))

        def second(f):
            return jax.grad(lambda *args: sum(jnp.sum(g**2) for g in first(f)(*args)), (0, 1, 2))

        for derivative in (lambda f: f, first, second):
            found, expected = (jax.tree.leaves(jax.jit(derivative(f))(X, A, B)) for f in (ours, plain))
            for x, y in zip(found, expected, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)

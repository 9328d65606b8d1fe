"""Activation functions against their definition."""

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.ops.activations import snake


def test_snake_and_its_gradients():
    x = jax.random.normal(jax.random.key(0), (2, 7, 3))
    alpha = jnp.array([0.3, 1.0, 4.0])

    def plain(x, alpha):
        return x + jnp.sin(alpha * x) ** 2 / alpha

    np.testing.assert_allclose(snake(x, alpha), plain(x, alpha), rtol=1e-6, atol=1e-6)
    got, expected = (jax.grad(lambda *p, f=f: jnp.sum(f(*p) ** 3), (0, 1))(x, alpha) for f in (snake, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)

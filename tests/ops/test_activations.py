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


def test_snake_far_from_zero():
    """As from the sine in float64 of the same product, at any number of turns, and between them."""
    x = np.concatenate([np.linspace(-scale, scale, 4001) for scale in (4, 300, 1e4)]).astype(np.float32)
    alpha = np.float32(1.7)
    turned = (alpha * x).astype(np.float64)
    got, pull = jax.vjp(snake, jnp.asarray(x)[None, :, None], jnp.full(1, alpha))
    added = np.asarray(got, np.float64)[0, :, 0] - x
    assert (np.abs(added - np.sin(turned) ** 2 / alpha) <= 1e-6 + 1e-7 * np.abs(x)).all()  # rounding of x
    np.testing.assert_allclose(pull(jnp.ones_like(got))[0][0, :, 0], 1 + np.sin(2 * turned), 0, 1e-6)


def test_snake_of_huge_numbers_is_finite():
    x = jnp.array([1e8, -1e10, 1e20]).reshape(1, 3, 1)
    got, pull = jax.vjp(snake, x, jnp.ones(1))
    for values in (got - x, *pull(jnp.ones_like(got))):
        assert jnp.isfinite(values).all()

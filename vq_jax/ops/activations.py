"""Activation functions."""

import jax
import jax.numpy as jnp

from vq_jax.ops.sums import sum_positions

_TINY = 1e-9  # as DAC adds to alpha, so that nothing is divided by zero


@jax.custom_vjp
def snake(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """The snake function `x + sin(alpha x)^2 / alpha` (Ziyin et al. 2020, arXiv:2006.08195).

    Its backward pass keeps x alone.

    Args:
        x: [b *grid c].
        alpha: of each channel, not 0 [c].
    """
    return x + jnp.square(jnp.sin(alpha * x)) / (alpha + _TINY)


def _snake_fwd(x, alpha):  # noqa: ANN001, ANN202
    return snake(x, alpha), (x, alpha)


def _snake_bwd(saved, g):  # noqa: ANN001, ANN202
    x, alpha = saved
    doubled = jnp.sin(2 * alpha * x)  # the derivative of sin(y)^2 at y = alpha x
    squared = jnp.square(jnp.sin(alpha * x))
    of_alpha = g * (x * doubled - squared / (alpha + _TINY)) / (alpha + _TINY)
    dx = g * (1 + alpha / (alpha + _TINY) * doubled)
    return dx, jnp.sum(sum_positions(of_alpha), axis=0).astype(alpha.dtype)


snake.defvjp(_snake_fwd, _snake_bwd)

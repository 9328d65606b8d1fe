"""Activation functions."""

import math

import jax
import jax.numpy as jnp

from vq_jax.ops.sums import sum_positions

_TINY = 1e-9  # as DAC adds to alpha, so that nothing is divided by zero
_EXACT_PI = 201 / 64  # pi to so few bits that products with whole numbers below 65,536 are exact


@jax.custom_vjp
def snake(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """The snake function `x + sin(alpha x)^2 / alpha` (Ziyin et al. 2020, arXiv:2006.08195).

    Its backward pass keeps x alone.

    Args:
        x: [b *grid c].
        alpha: of each channel, not 0 [c].
    """
    sine, _ = _within_half_turn(alpha * x)
    return (x + jnp.square(sine) / (alpha + _TINY)).astype(x.dtype)


def _snake_fwd(x, alpha):  # noqa: ANN001, ANN202
    return snake(x, alpha), (x, alpha)


def _snake_bwd(saved, g):  # noqa: ANN001, ANN202
    x, alpha = saved
    sine, cosine = _within_half_turn(alpha * x)
    doubled = 2 * sine * cosine  # the derivative of sin(y)^2 at y = alpha x
    of_alpha = g * (x * doubled - jnp.square(sine) / (alpha + _TINY)) / (alpha + _TINY)
    dx = g * (1 + alpha / (alpha + _TINY) * doubled)
    return dx.astype(x.dtype), jnp.sum(sum_positions(of_alpha), axis=0).astype(alpha.dtype)


snake.defvjp(_snake_fwd, _snake_bwd)


def _within_half_turn(y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sine and cosine of what is left of y by the nearest multiple of pi, from -pi/2 to pi/2.

    Their squares and their product are those of y, to 1e-6 up to 10,000. On CPUs, XLA computes `jnp.sin` a
    number at a time, which took most of a codec's training step; sums of powers are vectorized.
    """
    y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    turns = jnp.round(y / math.pi)
    y = (y - turns * _EXACT_PI) - turns * (math.pi - _EXACT_PI)
    y = jnp.clip(y, -2, 2)  # of huge numbers anything may be left, by rounding
    square, sine, cosine = y * y, 0.0, 0.0
    for power in range(13, 0, -2):  # what is left out of the series is less than 1e-8
        sine = sine * square + (-1) ** (power // 2) / math.factorial(power)
        cosine = cosine * square + (-1) ** (power // 2) / math.factorial(power - 1)
    return y * sine, cosine

"""Barriers for XLA's CPU compiler change no numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.ops.barrier import cpu_barrier


def test_derivatives_of_both_modes_pass_and_gradients_are_held_apart_too():
    def f(x):
        (x,) = cpu_barrier(x)
        return jnp.sum(jnp.sin(x))

    x = jnp.arange(5.0)
    (along,) = jax.jvp(f, (x,), (jnp.ones(5),))[1:]
    np.testing.assert_allclose(along, jax.grad(f)(x).sum(), rtol=1e-6)
    program = jax.jit(jax.grad(f)).trace(x).lower(lowering_platforms=('cpu',)).as_text()
    assert program.count('optimization_barrier') == 2
    assert (
        'optimization_barrier'
        not in jax.jit(jax.grad(f)).trace(x).lower(lowering_platforms=('tpu',)).as_text()
    )

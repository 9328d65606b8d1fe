"""What keeps XLA's CPU compiler from merging operations that are faster apart."""

import jax


def cpu_barrier(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays as they are: on CPUs computed before, and apart from, what reads them."""
    return jax.lax.platform_dependent(*arrays, cpu=_together, default=lambda *arrays: arrays)


def _together(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return jax.lax.optimization_barrier(arrays)

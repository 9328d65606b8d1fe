"""What keeps XLA's CPU compiler from merging operations that are faster apart."""

import jax


def cpu_barrier(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays as they are: on CPUs computed before, and apart from, what reads them.

    So are their gradients, which matters for what several layers read, such as the input of a residual block:
    else each layer before it adds up the gradients of all layers after it again.

    XLA takes barriers away before it fuses loops, unless compiled as `vq_jax.training.parallel.JitEngine`
    compiles the training step; elsewhere they only keep equal operations from becoming one.
    """
    return jax.lax.platform_dependent(*arrays, cpu=_together, default=lambda *arrays: arrays)


def _together(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return jax.lax.optimization_barrier(arrays)

"""How much a step computes."""

from collections.abc import Callable
from typing import Any

import jax

from vq_jax.errors import UserError


def count_flops(step: Callable[..., Any], *arguments: Any) -> float:
    """Floating-point operations of a function of arrays, as XLA counts them before it optimizes.

    What a loop does is counted once.

    Args:
        step: what is counted; nothing is run.
        arguments: its arguments, or their shapes and types.

    Raises:
        UserError: JAX may not use CPUs. Of all backends, theirs alone counts before it compiles.
    """
    try:
        device = jax.devices('cpu')[0]
    except RuntimeError as error:
        raise UserError(
            f'JAX may use {jax.config.jax_platforms} alone, and operations are counted by CPUs; add cpu to '
            'JAX_PLATFORMS.'
        ) from error
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    with jax.default_device(device):
        return jax.jit(step).lower(*shapes).cost_analysis()['flops']

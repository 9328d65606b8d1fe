"""Linear maps of positions that are the rows of one matrix."""

import math
from typing import Any

import jax


def dot_by_rows(x: jax.Array, kernel: jax.Array, dimensions: Any, **options: Any) -> jax.Array:
    """The product of vectors [... d] with a kernel [d k], [... k], for `flax.linen.Dense.dot_general`.

    The gradient of the kernel is a product of two matrices, over examples and positions at once. Over two
    axes or more it takes XLA's code for CPUs longer: a fifth of a transformer's training step, and where
    vectors are narrow ten times as long.

    Args:
        x: vectors [... d].
        kernel: [d k].
        dimensions: as for `jax.lax.dot_general`, of which there is one choice here.
        **options: of `jax.lax.dot_general`.

    Raises:
        ValueError: if other dimensions are asked for than the last of `x` and the first of the kernel.
    """
    if dimensions != (((x.ndim - 1,), (0,)), ((), ())):
        raise ValueError(f'vectors are multiplied by a kernel, not contracted over {dimensions}')
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    product = jax.lax.dot_general(rows, kernel, (((1,), (0,)), ((), ())), **options)
    return product.reshape(*x.shape[:-1], kernel.shape[1])

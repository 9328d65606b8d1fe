"""The delay pattern of MusicGen: Copet et al. 2023 (arXiv:2306.05284), section 2.1."""

import jax
import jax.numpy as jnp


def delayed(codes: jax.Array, fill: int | float) -> jax.Array:
    """Delays the codes of depth d by d steps.

    Step s holds, of each depth d, the code of position s - d.

    Args:
        codes: of a sequence of n positions [b n depth ...].
        fill: stands where there is no such position, at the first steps and the last.

    Returns:
        Steps [b n+depth-1 depth ...].
    """
    depth = codes.shape[2]
    rest = [(0, 0)] * (codes.ndim - 3)
    shifted = [
        jnp.pad(codes[:, :, d], ((0, 0), (d, depth - 1 - d), *rest), constant_values=fill)
        for d in range(depth)
    ]
    return jnp.stack(shifted, axis=2)


def undelayed(steps: jax.Array) -> jax.Array:
    """The codes [b n depth ...] of steps [b n+depth-1 depth ...], as `delayed` makes them."""
    depth = steps.shape[2]
    n = steps.shape[1] - depth + 1
    return jnp.stack([steps[:, d : d + n, d] for d in range(depth)], axis=2)

"""Nearest-code search that never holds the whole table of distances when it is large."""

from typing import Any

import jax
import jax.numpy as jnp


def nearest_code(z: jax.Array, codebook: jax.Array, *, max_scores: int = 2**24) -> jax.Array:
    """The index of the code with the least Euclidean distance to each vector.

    Of several codes at the same distance the first is chosen, as `argmin` does. Since
    `||z - e||^2 = ||z||^2 - 2 (z.e - ||e||^2 / 2)`, the search is for the least `||e||^2 / 2 - z.e`, in
    float32 at the highest matrix precision of the device (TPUs and GPUs would otherwise round the
    inputs to 8 or 10 bits of mantissa and pick other codes).

    These products lose the digits in which distances differ where all codes are far from zero and near
    each other, and so vectors and codes are first moved by about the codes' mean. It is rounded to a power
    of two, no less than how far any code is from it: codes around zero are not moved, and what is exact
    in float32, such as small whole numbers with equal distances, stays exact.

    Args:
        z: vectors [n d].
        codebook: codes [k d].
        max_scores: how many scores (4 bytes each) may be held at once. A table of up to this size is
            searched directly; a larger one in blocks of positions and codes.

    Returns:
        Code indices, int32 [n].
    """
    n, d = z.shape
    k = codebook.shape[0]
    z = jax.lax.stop_gradient(z.astype(jnp.float32))
    codebook = jax.lax.stop_gradient(codebook.astype(jnp.float32))
    middle = _middle(codebook)
    z, codebook = z - middle, codebook - middle
    half_norms = 0.5 * jnp.sum(jnp.square(codebook), axis=-1)

    if n * k <= max_scores:
        return _least(z, codebook, half_norms)[1]

    # Blocks as near to square as the table allows: the matrix product then does most work per byte.
    k_block = min(k, max(1, int(max_scores**0.5) * 4))
    n_block = min(n, max(1, max_scores // k_block))
    k_pad, n_pad = -k % k_block, -n % n_block
    codes = jnp.pad(codebook, ((0, k_pad), (0, 0))).reshape(-1, k_block, d)
    norms = jnp.pad(half_norms, (0, k_pad), constant_values=jnp.inf).reshape(-1, k_block)
    first = jnp.arange(codes.shape[0], dtype=jnp.int32) * k_block

    def search(block: jax.Array) -> jax.Array:
        def step(best: Any, codes_of_step: Any) -> tuple[Any, None]:
            score, index = _least(block, *codes_of_step[:2])
            # Strictly less: at a tie the earlier block, and so the lower index, stays.
            better = score < best[0]
            index = jnp.where(better, index + codes_of_step[2], best[1])
            return (jnp.where(better, score, best[0]), index), None

        start = (jnp.full(n_block, jnp.inf, jnp.float32), jnp.zeros(n_block, jnp.int32))
        return jax.lax.scan(step, start, (codes, norms, first))[0][1]

    # A block takes every so-many-th vector: of a batch that is split over devices it has a part of each's.
    blocks = jnp.pad(z, ((0, n_pad), (0, 0))).reshape(n_block, -1, d).swapaxes(0, 1)
    return jax.lax.map(search, blocks).T.reshape(-1)[:n]


def _middle(codebook: jax.Array) -> jax.Array:
    """About the mean of the codes [k d], a multiple of a power of two [d]."""
    mean = jnp.mean(codebook, axis=0)
    _, exponent = jnp.frexp(jnp.max(jnp.abs(codebook - mean)))
    unit = jnp.ldexp(jnp.float32(1), exponent)
    return unit * jnp.round(mean / unit)


def _least(z: jax.Array, codes: jax.Array, half_norms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The least score [n] of each vector, and its first index int32 [n]."""
    products = jnp.einsum('nd,kd->nk', z, codes, precision=jax.lax.Precision.HIGHEST)
    scores = half_norms - products
    index = jnp.argmin(scores, axis=-1).astype(jnp.int32)
    return jnp.take_along_axis(scores, index[:, None], axis=-1)[:, 0], index

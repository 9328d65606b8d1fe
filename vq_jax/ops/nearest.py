"""Nearest-code search that never holds the whole table of distances when it is large."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vq_jax.ops.blocks import from_blocks, in_blocks


def nearest_code(z: jax.Array, codebook: jax.Array, *, max_scores: int | None = None) -> jax.Array:
    """The index of the code with the least Euclidean distance to each vector.

    Of several codes at the same distance the first is chosen, as `argmin` does. Since
    `||z - e||^2 = ||z||^2 - 2 (z.e - ||e||^2 / 2)`, the search is for the least `||e||^2 / 2 - z.e`, in
    float32 at the highest matrix precision of the device (TPUs and GPUs would otherwise round the
    inputs to 8 or 10 bits of mantissa and pick other codes).

    These products lose the digits in which distances differ where all codes are far from zero and near
    each other, and so vectors and codes are first moved by about the codes' mean. It is rounded to a power
    of two, no less than how far any code is from it: codes around zero are not moved, and what is exact
    in float32, such as small whole numbers with equal distances, stays exact. Dividing by that power of two
    keeps squares in the range of float32.

    Where codes lie in clusters that are far apart, no one move helps. Vectors much nearer to their code than
    to the mean are therefore searched for again, by the differences themselves. These are slower, and few
    vectors need them where codes are spread evenly.

    Args:
        z: vectors [n d].
        codebook: codes [k d].
        max_scores: how many scores (4 bytes each) may be held at once. A table of up to this size is
            searched directly; a larger one in blocks of positions and codes. None is 2^20 on CPUs, of whose
            caches that much is found again, and 2^24 elsewhere.

    Returns:
        int32 [n].
    """
    z = jax.lax.stop_gradient(z.astype(jnp.float32))
    codebook = jax.lax.stop_gradient(codebook.astype(jnp.float32))
    middle, unit = _middle(codebook)
    rounding = _ROUNDING * jnp.sum(jnp.square(z / unit), axis=-1)
    z, codebook = (z - middle) / unit, (codebook - middle) / unit
    half_norms = 0.5 * jnp.sum(jnp.square(codebook), axis=-1)
    _, codes = _search(z, codebook, half_norms, _products, max_scores)

    distance = jnp.sum(jnp.square(z - codebook[codes]), axis=-1)
    unsure = (distance < _CANCELLED * jnp.sum(jnp.square(z), axis=-1)) & (distance > rounding)
    block = min(len(z), _BLOCK)

    def search_again(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        codes, unsure = state
        (where,) = jnp.nonzero(unsure, size=block, fill_value=len(z))
        found = _search(z[where], codebook, jnp.zeros(len(codebook)), _half_distances, max_scores)[1]
        return codes.at[where].set(found, mode='drop'), unsure.at[where].set(False, mode='drop')

    return jax.lax.while_loop(lambda state: jnp.any(state[1]), search_again, (codes, unsure))[0]


def largest_product(z: jax.Array, codebook: jax.Array, *, max_scores: int | None = None) -> jax.Array:
    """The index of the code [k d] with the largest product `z.e` with each vector [n d], int32 [n].

    Of several with the same product the first is chosen. See `nearest_code` for `max_scores`.
    """
    z = jax.lax.stop_gradient(z.astype(jnp.float32))
    codebook = jax.lax.stop_gradient(codebook.astype(jnp.float32))
    return _search(z, codebook, jnp.zeros(len(codebook)), _products, max_scores)[1]


# With squared distances of less than this share of the squared distance from the mean, scores, which err by
# up to about 2^-23 of the latter, may mistake codes for others that are farther away by some percent.
_CANCELLED = 2**-15
# With less than this share of the squared length, a vector is its code but for the rounding of its numbers.
_ROUNDING = 2**-42
_BLOCK = 64  # how many vectors are searched for again at once
_GROUP = 32  # how many codes are a group of `_least_by_groups`


def _search(
    z: jax.Array,
    codebook: jax.Array,
    summands: jax.Array,
    scores: Callable[[jax.Array, jax.Array], jax.Array],
    max_scores: int | None,
) -> tuple[jax.Array, jax.Array]:
    """The least score of each vector [n], and the first code that has it, int32 [n].

    Scores are `scores` of vectors [n d] and codes [k d], [n k], with a summand for each code [k].
    """
    ways = {
        'cpu': functools.partial(_search_blocks, scores, _least_by_groups, max_scores or 2**20),
        'default': functools.partial(_search_blocks, scores, _least, max_scores or 2**24),
    }
    return jax.lax.platform_dependent(z, codebook, summands, **ways)


def _search_blocks(
    scores: Callable[[jax.Array, jax.Array], jax.Array],
    least: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
    max_scores: int,
    z: jax.Array,
    codebook: jax.Array,
    summands: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """See `_search`; `least` is what finds the least of a block's scores."""
    n, d = z.shape
    k = len(codebook)
    if n * k <= max_scores:
        return least(scores(z, codebook), summands)

    # Blocks as near to square as the table allows: the matrix product then does most work per byte.
    k_block = min(k, max(1, int(max_scores**0.5) * 4))
    n_block = min(n, max(1, max_scores // k_block))
    k_pad = -k % k_block
    codes = jnp.pad(codebook, ((0, k_pad), (0, 0))).reshape(-1, k_block, d)
    summands = jnp.pad(summands, (0, k_pad), constant_values=jnp.inf).reshape(-1, k_block)
    first = jnp.arange(codes.shape[0], dtype=jnp.int32) * k_block

    def search(block: jax.Array) -> jax.Array:
        def step(best: Any, codes_of_step: Any) -> tuple[Any, None]:
            codes, summands, first = codes_of_step
            score, index = least(scores(block, codes), summands)
            # Strictly less: at a tie the earlier block, and so the lower index, stays.
            better = score < best[0]
            return (jnp.where(better, score, best[0]), jnp.where(better, index + first, best[1])), None

        start = (jnp.full(n_block, jnp.inf, jnp.float32), jnp.zeros(n_block, jnp.int32))
        return jax.lax.scan(step, start, (codes, summands, first))[0]

    found = jax.lax.map(search, in_blocks(z, n_block))
    return jax.tree.map(lambda x: from_blocks(x, n), found)


def _least(table: jax.Array, summands: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The least of `table + summands` [n k] in each row [n], and the first column that has it, int32 [n]."""
    table += summands
    index = jnp.argmin(table, axis=-1).astype(jnp.int32)
    return jnp.take_along_axis(table, index[:, None], axis=-1)[:, 0], index


def _least_by_groups(table: jax.Array, summands: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same, faster on CPUs, where XLA makes of `argmin` a loop over single numbers, and not of `min`.

    So of groups of columns the least are found first, and of the first group that has the least of all, which
    column it is.
    """
    k = len(summands)
    if k % _GROUP:
        pad = -k % _GROUP
        table = jnp.pad(table, ((0, 0), (0, pad)))
        summands = jnp.pad(summands, (0, pad), constant_values=jnp.inf)
    groups, summands = table.reshape(len(table), -1, _GROUP), summands.reshape(-1, _GROUP)
    # Table and summands are added up twice, so that XLA does not keep their sum too.
    group = jnp.argmin(jnp.min(groups + summands, axis=-1), axis=-1)
    row = jnp.take_along_axis(groups, group[:, None, None], axis=1)[:, 0] + summands[group]
    column = jnp.argmin(row, axis=-1)
    index = (group * _GROUP + column).astype(jnp.int32)
    return jnp.take_along_axis(row, column[:, None], axis=-1)[:, 0], index


def _middle(codebook: jax.Array) -> tuple[jax.Array, jax.Array]:
    """About the mean of the codes [k d], a multiple of a power of two [d], and that power of two."""
    mean = jnp.mean(codebook, axis=0)
    _, exponent = jnp.frexp(jnp.max(jnp.abs(codebook - mean)))
    # Up to where float32 has the reciprocal, and down to where squares are in its range even of smaller
    # codes: vectors that are divided by less could overflow.
    unit = jnp.ldexp(jnp.float32(1), jnp.clip(exponent, -62, 126))
    return unit * jnp.round(mean / unit), unit


def _products(z: jax.Array, codes: jax.Array) -> jax.Array:
    """`-z.e` of vectors [n d] and codes [k d], [n k]."""
    return jnp.einsum('nd,kd->nk', z, -codes, precision=jax.lax.Precision.HIGHEST)


def _half_distances(z: jax.Array, codes: jax.Array) -> jax.Array:
    """`||z - e||^2 / 2` of vectors [n d] and codes [k d], [n k]."""
    return 0.5 * jnp.sum(jnp.square(z[:, None] - codes), axis=-1)

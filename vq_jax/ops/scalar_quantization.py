"""Quantization without a codebook, as pure functions: numbers are quantized one by one.

A code is a number in mixed radix. Its digits, one for each dimension, are from 0 to one less than the levels
of that dimension; the digit of the first dimension counts least.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.ops.collectives import pmean

Levels = tuple[int, ...]  # of each dimension, at least 2
MOST_LEVELS = 1_000  # beyond, `bound` does not reach the outermost ones

_MARGIN = 1e-3  # epsilon of Mentzer et al. 2023


def bound(z: jax.Array, levels: Levels) -> jax.Array:
    """Presses numbers, float32 [... d], into the range of the levels of their dimension, up to `MOST_LEVELS`.

    Mentzer et al. 2023 (arXiv:2309.15505), appendix A.1. An odd number of levels is symmetric about 0; an
    even one, L, has levels from -1 to 1 - 2/L, and numbers are shifted so that 0 stays near 0. The result, in
    about [-1, 1], is to be taken to the nearest of `level_values`.
    """
    counts = np.asarray(levels)
    reach = (counts - 1) * (1 - _MARGIN) / 2
    offset = np.where(counts % 2, 0, 0.5)
    # The tangent, as the paper has it, not the inverse of tanh, which two levels would send to infinity.
    shift = np.tan(offset / reach)
    bounded = jnp.tanh(z + jnp.float32(shift)) * jnp.float32(reach) - jnp.float32(offset)
    return bounded / jnp.float32(counts // 2)


def nearest_digits(x: jax.Array, levels: Levels) -> jax.Array:
    """The digits, int32 [... d], whose `level_values` are nearest to numbers [... d] of any size."""
    counts = np.asarray(levels)
    digits = jnp.round(x * jnp.float32(counts // 2)).astype(jnp.int32) + jnp.int32(counts // 2)
    return jnp.clip(digits, 0, jnp.int32(counts - 1))


def level_values(digits: jax.Array, levels: Levels) -> jax.Array:
    """The numbers in [-1, 1], float32 [... d], that digits, int32 [... d], stand for."""
    half = np.asarray(levels) // 2
    return (digits - jnp.int32(half)) / jnp.float32(half)


def to_codes(digits: jax.Array, levels: Levels) -> jax.Array:
    """The codes, int32 [...], that have digits, int32 [... d]."""
    return jnp.sum(digits * _places(levels), axis=-1, dtype=jnp.int32)


def to_digits(codes: jax.Array, levels: Levels) -> jax.Array:
    """The digits, int32 [... d], of codes, int32 [...]."""
    return codes[..., None] // _places(levels) % jnp.int32(np.asarray(levels))


def bit_entropy(logits: jax.Array) -> jax.Array:
    """The entropy, in nats [...], of a bit that is 1 with the probability sigmoid(logits) [...]."""
    return -sum(jax.nn.sigmoid(x) * jax.nn.log_sigmoid(x) for x in (logits, -logits))


def mean_code_probabilities(logits: jax.Array, axis_name: str | None = None) -> jax.Array:
    """The mean over positions of the probability of each code whose bits are independent at each position.

    Exact, and without a table of positions and codes: at each position a code's probability is that of its
    lower bits times that of its upper ones, so that the sum over positions is the product of two matrices
    of n rows, with 2^(bits/2) columns each.

    Args:
        logits: of the bits; each is 1 with the probability sigmoid(logits) [n bits].
        axis_name: the device axis to take the mean over too.

    Returns:
        [2^bits].
    """
    n, bits = logits.shape
    lower, upper = (_pattern_probabilities(part) for part in (logits[:, : bits // 2], logits[:, bits // 2 :]))
    sums = jnp.einsum('nu,nl->ul', upper, lower, precision=jax.lax.Precision.HIGHEST)
    return pmean(sums.reshape(-1) / n, axis_name)


def _pattern_probabilities(logits: jax.Array) -> jax.Array:
    """The probability of each pattern of bits [n 2^bits], by logits [n bits]; the first counts least."""
    table = jnp.ones((len(logits), 1), jnp.float32)
    for bit in logits.T:
        # Not one minus the other, which would lose small probabilities.
        zero, one = jax.nn.sigmoid(-bit)[:, None], jax.nn.sigmoid(bit)[:, None]
        table = jnp.concatenate([zero * table, one * table], axis=1)
    return table


def _places(levels: Levels) -> jax.Array:
    """What each digit counts in a code, int32 [d]."""
    return jnp.asarray(np.cumprod((1, *levels[:-1])), jnp.int32)

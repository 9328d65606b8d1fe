"""Vector quantization as pure functions: gradients, losses, codebook statistics."""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from vq_jax.ops.blocks import in_blocks
from vq_jax.ops.losses import mean_square

Estimator = Literal['straight_through', 'rotation']  # names of `ESTIMATORS`


def straight_through(z: jax.Array, e: jax.Array) -> jax.Array:
    """The value of `e`, the vectors of codes [... d], with the gradient of `z`, what was quantized [... d].

    Bengio et al. 2013 (arXiv:1308.3432).
    """
    return z + jax.lax.stop_gradient(e - z)


def rotation(z: jax.Array, e: jax.Array) -> jax.Array:
    """The value of `e`, the vectors of codes [... d], with the gradient of `z` turned towards them.

    The rotation trick of Fifty et al. 2024 (arXiv:2410.06424), section 4.2. Around `z`, the vector that is
    quantized [... d], the code is `|e| / |z| R z` with the rotation `R = I - 2 w w' + 2 e^ z^'`, where z^ and
    e^ are directions and `w = (z^ + e^) / |z^ + e^|`; scale and R have no gradient. Angles between gradient
    and vector are thus the same before and after. The value is that of `e` to the last bit.

    In float32, all is finite. Nearly opposite directions (`|z^ + e^| < 1e-3`) lie in no one plane: there w is
    shortened towards 0, at which R is the reflection that turns z^ around. A vector or code shorter than 1e-6
    has no direction, and the gradient is that of `straight_through`.
    """
    z, e = z.astype(jnp.float32), jax.lax.stop_gradient(e.astype(jnp.float32))
    fixed = jax.lax.stop_gradient(z)
    lengths = [jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (fixed, e)]
    directed = (lengths[0] >= 1e-6) & (lengths[1] >= 1e-6)
    ratio = lengths[1] / jnp.where(directed, lengths[0], 1)
    from_z, to_e = normalise(fixed), normalise(e)
    w = normalise(from_z + to_e, 1e-6)

    def along(direction: jax.Array) -> jax.Array:
        return jnp.sum(direction * z, axis=-1, keepdims=True)

    moved = jnp.where(directed, ratio * (z - 2 * along(w) * w + 2 * along(from_z) * to_e), z)
    return e + (moved - jax.lax.stop_gradient(moved))


# What passes on the value of a code with a gradient for what was quantized.
ESTIMATORS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    'straight_through': straight_through,
    'rotation': rotation,
}


def codebook_loss(z: jax.Array, e: jax.Array) -> jax.Array:
    """`||sg(z) - e||^2`: moves the codes' vectors [b ... d] to the encoder's outputs [b ... d].

    The second term of van den Oord et al. 2017 (arXiv:1711.00937), equation 3, as the mean over positions and
    dimensions for each example [b].
    """
    return mean_square(jax.lax.stop_gradient(z), e)


def commitment_loss(z: jax.Array, e: jax.Array) -> jax.Array:
    """`||z - sg(e)||^2`: keeps the encoder's outputs [b ... d] near their codes' vectors [b ... d].

    The third term of the same equation, without its weight, for each example [b].
    """
    return mean_square(z, jax.lax.stop_gradient(e))


def orthogonality_loss(codebook: jax.Array) -> jax.Array:
    """The mean squared cosine between codes [k d], without those between a code and itself: a scalar.

    Shin et al. 2021 (arXiv:2112.00384), equation 2: `|C C' - I|^2 / k^2` with codes C at unit length. It is
    computed from the matrix `C' C` [d d], whose squares have the same sum, and so of all codes, however
    many; 0 if all are at right angles.
    """
    codes = normalise(codebook.astype(jnp.float32))
    products = jnp.einsum('ki,kj->ij', codes, codes, precision=jax.lax.Precision.HIGHEST)
    of_themselves = jnp.sum(jnp.square(jnp.sum(jnp.square(codes), axis=-1)))
    return (jnp.sum(jnp.square(products)) - of_themselves) / len(codes) ** 2


def normalise(x: jax.Array, epsilon: float = 1e-12) -> jax.Array:
    """Vectors [... d] at unit Euclidean length (zero stays zero), with a finite gradient at zero."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), -1, keepdims=True), epsilon))


def code_shares(codes: jax.Array, k: int) -> jax.Array:
    """The share of all positions that chose each of k codes, int32 of any shape: float32 [k]."""
    return jnp.zeros(k, jnp.int32).at[codes.reshape(-1)].add(1) / codes.size


def code_sums(z: jax.Array, codes: jax.Array, k: int, *, max_scores: int = 2**24) -> jax.Array:
    """For each of k codes the sum of the vectors [n d] that chose it, int32 [n], by n: float32 [k d].

    A scatter on CPUs. Elsewhere a product with one-hot rows: a scatter of floats adds in no fixed order on a
    GPU, and a run could not be repeated bit for bit. Many positions are then taken in blocks, so that the
    one-hot table has at most `max_scores` elements at once.
    """
    product = functools.partial(_sums_by_product, k=k, max_scores=max_scores)
    sums = jax.lax.platform_dependent(
        z.astype(jnp.float32), codes, cpu=functools.partial(_sums_by_scatter, k=k), default=product
    )
    return sums / len(z)


def _sums_by_scatter(z: jax.Array, codes: jax.Array, *, k: int) -> jax.Array:
    return jnp.zeros((k, z.shape[-1]), jnp.float32).at[codes].add(z, mode='drop')


def _sums_by_product(z: jax.Array, codes: jax.Array, *, k: int, max_scores: int) -> jax.Array:
    n, d = z.shape

    def block_sums(z: jax.Array, codes: jax.Array) -> jax.Array:
        chosen = jax.nn.one_hot(codes, k, dtype=jnp.float32)
        return jnp.einsum('nk,nd->kd', chosen, z, precision=jax.lax.Precision.HIGHEST)

    block = min(n, max(1, max_scores // k))
    if block == n:
        return block_sums(z, codes)
    # A code of -1 has an all-zero row.
    blocks = in_blocks(z, block), in_blocks(codes, block, fill=-1)
    return jax.lax.scan(
        lambda total, b: (total + block_sums(*b), None), jnp.zeros((k, d), jnp.float32), blocks
    )[0]


def entropy(shares: jax.Array) -> jax.Array:
    """`-sum p log p` of shares [... k] in nats, from 0 to log k, with a finite gradient where a share is 0.

    Shannon 1948 (A Mathematical Theory of Communication), section 6.
    """
    # The logarithm alone has no gradient at 0.
    return -jnp.sum(jax.scipy.special.xlogy(shares, jnp.where(shares > 0, shares, 1)), axis=-1)


def perplexity(shares: jax.Array) -> jax.Array:
    """How many codes would be in use if they were used evenly: the exponential of the entropy, from 1 to k.

    Jelinek et al. 1977 (Perplexity, a measure of the difficulty of speech recognition tasks).
    """
    return jnp.exp(entropy(shares))

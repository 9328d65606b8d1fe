"""Softmaxes over the codes of a codebook, through which gradients reach all of them."""

import chex
import jax
import jax.numpy as jnp

from vq_jax.ops.blocks import from_blocks, in_blocks


@chex.dataclass(frozen=True)
class SoftCodes:
    """What codes chosen at random would be, with probabilities in proportion to `exp(z.e)`.

    Attributes:
        means: the mean vector at each position, by constant codes [n d].
        entropy: of each position's code, in nats [n].
        shares: the mean over positions of the probability of each code [k].
    """

    means: jax.Array
    entropy: jax.Array
    shares: jax.Array


def soft_codes(
    z: jax.Array, codebook: jax.Array, temperature: float = 1.0, *, max_scores: int = 2**24
) -> SoftCodes:
    """The softmax over the products of vectors with all codes, as what is made of it.

    Positions are taken in blocks, of each of which the products are computed again in the backward pass:
    memory is that of one block, whatever the number of positions.

    Args:
        z: vectors [n d].
        codebook: codes [k d].
        temperature: by which products are divided before the softmax whose `entropy` and `shares` are given;
            that of `means` has a temperature of 1.
        max_scores: how many products (4 bytes each) may be held at once, of one position at least.
    """
    n, k = len(z), len(codebook)
    block = min(n, max(1, max_scores // k))

    def of_block(z: jax.Array, real: jax.Array, codebook: jax.Array) -> tuple[jax.Array, ...]:
        products = jnp.einsum('nd,kd->nk', z, codebook, precision=jax.lax.Precision.HIGHEST)
        mixture, constant = jax.nn.softmax(products), jax.lax.stop_gradient(codebook)
        means = jnp.einsum('nk,kd->nd', mixture, constant, precision=jax.lax.Precision.HIGHEST)
        # Moved before it is divided: of large products the compiler may round one quotient and not the other
        # that is subtracted from it, and what should be 0 or less was in the thousands.
        products -= jax.lax.stop_gradient(jnp.max(products, axis=-1, keepdims=True))
        log_p = jax.nn.log_softmax(products / temperature)
        p = jnp.exp(log_p)
        return means, -jnp.sum(p * log_p, axis=-1), real @ p

    def add(shares: jax.Array, block: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        means, entropy, more = jax.checkpoint(of_block)(*block, codebook)
        return shares + more, (means, entropy)

    blocks = in_blocks(z, block), in_blocks(jnp.ones(n, jnp.float32), block)
    shares, found = jax.lax.scan(add, jnp.zeros(k, jnp.float32), blocks)
    means, entropy = (from_blocks(x, n) for x in found)
    return SoftCodes(means=means, entropy=entropy, shares=shares / n)


def gumbel_softmax(
    logits: jax.Array, noise: jax.Array, temperature: float | jax.Array, hard: bool = True
) -> jax.Array:
    """The softmax of logits with Gumbel noise, both [... k], by temperature: a sample that has a gradient.

    Jang et al. 2016 (arXiv:1611.01144), equation 2. If it is hard, 1 for the largest and 0 for others, with
    the gradient of the softmax (their section 2.2).
    """
    noisy = logits + noise
    soft = jax.nn.softmax(noisy / temperature)
    if not hard:
        return soft
    sampled = jax.nn.one_hot(jnp.argmax(noisy, axis=-1), noisy.shape[-1], dtype=soft.dtype)
    return sampled + (soft - jax.lax.stop_gradient(soft))

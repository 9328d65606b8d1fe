"""Tokens sampled many at a time: Chang et al. 2022 (MaskGIT, arXiv:2202.04200), section 3.2."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vq_jax.ops.keys import fold_in
from vq_jax.ops.logits import sample_categorical
from vq_jax.ops.masking import Schedule, masked_share
from vq_jax.sampling.autoregressive import Choice


def generate_masked(
    network: Callable[[jax.Array], jax.Array],
    keys: jax.Array,
    known: jax.Array,
    *,
    steps: int,
    choice: Choice,
    schedule: Schedule = 'cosine',
    confidence_temperature: float | jax.Array = 4.5,
) -> jax.Array:
    """Samples grids of tokens, of any rank as one sequence, in a few steps of one compiled loop.

    In each step all missing tokens are sampled, and those that the network is least confident of are taken
    back.

    Args:
        network: tokens int [b n], -1 where one is missing, to logits [b n k].
        keys: a random key for each grid [b].
        known: tokens that stay as they are, int [b n]; -1 where one is to be sampled.
        steps: how many.
        choice: how tokens are chosen.
        schedule: the share of the missing tokens that is still missing after a share of the steps.
        confidence_temperature: of the Gumbel noise on the confidence (on log probabilities), times
            `1 - i / steps` in step i, counted from 1, as in their published code: it falls linearly and is
            0 in the last step. 0 is greedy, and gives samples that are all alike.

    Returns:
        Tokens, int32 [b n].
    """
    missing = jnp.sum(known < 0, axis=1)  # [b]

    def advance(i: jax.Array, tokens: jax.Array) -> jax.Array:
        pairs = jax.vmap(jax.random.split)(fold_in(keys, i))
        logits = network(tokens)
        sampled = sample_categorical(pairs[:, 0], choice.filtered(logits))
        log_p = jax.nn.log_softmax(logits)
        confidence = jnp.take_along_axis(log_p, sampled[..., None], axis=-1)[..., 0]
        done = (i + 1) / steps
        noise = jax.vmap(lambda key: jax.random.gumbel(key, confidence.shape[1:]))(pairs[:, 1])
        confidence = confidence + confidence_temperature * (1 - done) * noise
        there = tokens >= 0
        # At least one token a step is kept for good, and none is taken back after the last.
        left = jnp.floor(missing * masked_share(schedule, done)).astype(jnp.int32)
        left = jnp.clip(left, 0, jnp.maximum(jnp.sum(~there, axis=1) - 1, 0))
        left = jnp.where(i + 1 == steps, 0, left)
        # Tokens that are there come last, even where noise made a confidence infinite.
        rank = jnp.argsort(jnp.lexsort((confidence, there), axis=1), axis=1)
        tokens = jnp.where(there, tokens, sampled)
        return jnp.where(rank < left[:, None], -1, tokens).astype(jnp.int32)

    return jax.lax.fori_loop(0, steps, advance, known.astype(jnp.int32))

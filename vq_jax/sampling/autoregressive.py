"""Sequences sampled token by token; of a grid of any rank, in row-major order.

Every example has a random key of its own, so that its sample does not depend on the batch.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError, check_least, on_device
from vq_jax.ops import logits as ops
from vq_jax.ops.keys import fold_in
from vq_jax.ops.traced import differs

# Of the tokens before those of step i, int [b ...], i and a cache, what the step predicts and the next cache.
Step = Callable[[jax.Array, jax.Array, Any], tuple[Any, Any]]

# Of random keys [b], what a step predicts, and the tokens that are known already, to all tokens of the step;
# see `Choice.__call__`.
Choose = Callable[[jax.Array, Any, jax.Array], jax.Array]

_SHORTEST_STRETCH = 64  # tokens: each stretch is compiled apart, and short caches cost little


@dataclasses.dataclass(frozen=True)
class Choice:
    """How a token is chosen from logits.

    Attributes:
        temperature: logits are divided by it; 0 takes the most likely token, one of them where several are.
        top_k: sample from the k most likely tokens alone; None from all.
        top_p: sample from the fewest tokens whose probabilities reach p, after `top_k`; None from all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not on_device('temperature', self.temperature) >= 0:
            raise UserError(f'temperature is {self.temperature}; give 0 or more.')
        check_least(1, self, 'top_k')
        if self.top_p is not None and not 0 < on_device('top_p', self.top_p) <= 1:
            raise UserError(f'top_p is {self.top_p}; give a share above 0, up to 1.')

    def filtered(self, logits: jax.Array) -> jax.Array:
        """The logits [... n] to sample from."""
        if not differs(self.temperature, 0):
            return ops.top_k(logits, 1)
        # Where the temperature is so low that the greatest would become infinite, 0 is put in its place.
        most = jnp.max(logits, axis=-1, keepdims=True)
        logits = (logits - jnp.where(jnp.isfinite(most / self.temperature), 0, most)) / self.temperature
        if self.top_k is not None:
            logits = ops.top_k(logits, self.top_k)
        return logits if self.top_p is None else ops.top_p(logits, self.top_p)

    def __call__(self, keys: jax.Array, logits: jax.Array, known: jax.Array) -> jax.Array:
        """Chooses tokens, int32 [b ...].

        Args:
            keys: a random key for each example [b].
            logits: [b ... k].
            known: tokens that stay as they are, int [b ...]; -1 where one is to be sampled.
        """
        sampled = ops.sample_categorical(keys, self.filtered(logits))
        return jnp.where(known >= 0, known, sampled).astype(jnp.int32)


def generate(
    step: Step,
    cache: Any,
    keys: jax.Array,
    length: int,
    choose: Choose,
    known: jax.Array | None = None,
    grow: Callable[[Any, int], Any] | None = None,
) -> jax.Array:
    """Samples sequences, in compiled loops.

    A cache that grows with the sequence does so in up to four stretches, each with a cache that ends where
    it ends: steps read the whole of it, which is then 5/8 of the last one's on average.

    Args:
        step: of the tokens before token number i, int [b], i and a cache, returns what `choose` is given of
            that token, such as its logits [b k], and the next cache; see `Transformer.step` and
            `PixelCNN.step` in `vq_jax.models`.
        cache: of the first token.
        keys: a random key for each sequence [b].
        length: tokens of a sequence, n.
        choose: samples each: a `Choice`, if `step` returns logits.
        known: tokens that are there already, int [b n], or [b n ...] where several are sampled in one step;
            -1 where one is to be sampled.
        grow: a cache and a number to a cache with room for so many more tokens, of which `cache` has none;
            None where the cache is of one size.

    Returns:
        Tokens, int32 [b n], or [b n ...].
    """
    known = jnp.full((keys.shape[0], length), -1) if known is None else known
    known = known.swapaxes(0, 1)

    def advance(carry: tuple[jax.Array, Any], at: tuple[jax.Array, jax.Array]) -> Any:
        before, cache = carry
        i, fixed = at
        predicted, cache = step(before, i, cache)
        tokens = choose(fold_in(keys, i), predicted, fixed)
        return (tokens, cache), tokens

    before, sampled = jnp.zeros(known.shape[1:], jnp.int32), []
    for start, end in stretches(length) if grow else [(0, length)]:
        cache = grow(cache, end - start) if grow else cache
        at = jnp.arange(start, end), known[start:end]
        (before, cache), tokens = jax.lax.scan(advance, (before, cache), at)
        sampled.append(tokens)
    return jnp.concatenate(sampled).swapaxes(0, 1)


def stretches(length: int) -> list[tuple[int, int]]:
    """Where the stretches of so many tokens start and end, if their cache grows; see `generate`."""
    number = max(1, min(4, length // _SHORTEST_STRETCH))
    return list(itertools.pairwise(length * i // number for i in range(number + 1)))


def generate_without_cache(
    network: Callable[[jax.Array], jax.Array],
    keys: jax.Array,
    length: int,
    choice: Choice,
    known: jax.Array | None = None,
) -> jax.Array:
    """Samples sequences from a network that keeps no cache: all logits are computed anew for each token.

    Tests and benchmarks compare `generate` with it, whose arguments it has. The network maps tokens int [b n]
    to logits [b n k], of which those at i depend on tokens before i alone.
    """
    known = jnp.full((keys.shape[0], length), -1) if known is None else known

    def advance(i: jax.Array, tokens: jax.Array) -> jax.Array:
        logits = jax.lax.dynamic_index_in_dim(network(tokens), i, axis=1, keepdims=False)
        fixed = jax.lax.dynamic_index_in_dim(known, i, axis=1, keepdims=False)
        return tokens.at[:, i].set(choice(fold_in(keys, i), logits, fixed))

    return jax.lax.fori_loop(0, length, advance, jnp.zeros_like(known, jnp.int32))

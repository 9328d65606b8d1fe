"""What is masked of tokens (Chang et al. 2022, MaskGIT, arXiv:2202.04200, section 3.3) and of examples."""

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from vq_jax.ops.keys import fold_in

Schedule = Literal['cosine', 'linear', 'square', 'cubic', 'sqrt']


def masked_share(schedule: Schedule, r: jax.Array) -> jax.Array:
    """The share of tokens, from 1 to 0, that are masked when a share r [...] of the steps is done, 0 to 1.

    'cosine', 'square' and 'cubic' begin slowly, 'sqrt' fast.
    """
    return {
        'cosine': lambda r: jnp.cos(0.5 * jnp.pi * r),
        'linear': lambda r: 1 - r,
        'square': lambda r: 1 - r**2,
        'cubic': lambda r: 1 - r**3,
        'sqrt': lambda r: 1 - jnp.sqrt(r),
    }[schedule](r)


def random_mask(keys: jax.Array, among: jax.Array, schedule: Schedule) -> jax.Array:
    """Masks to train on, True where a token is masked, bool [b n].

    The share of the tokens of an example is what the schedule makes of a uniform number of its own key [b],
    of those `among` which they are, bool [b n]; at least one is masked.
    """

    def mask(key: jax.Array, among: jax.Array) -> jax.Array:
        share_key, order_key = jax.random.split(key)
        share = masked_share(schedule, jax.random.uniform(share_key))
        count = jnp.maximum(1, jnp.ceil(share * jnp.sum(among))).astype(jnp.int32)
        order = jax.random.permutation(order_key, len(among))
        # Their ranks, before those of all others.
        return jnp.argsort(jnp.lexsort((order, ~among))) < count

    return jax.vmap(mask)(keys, among)


def training_holes(keys: jax.Array, share: float, grid: Sequence[int]) -> jax.Array:
    """What is hidden of training examples: part of a share of them, and all of the others.

    Arguments are those of `random_holes`, and so is the result.
    """
    some = jax.vmap(lambda key: jax.random.bernoulli(key, share))(fold_in(keys, 0))
    return random_holes(fold_in(keys, 1), grid) | ~some.reshape(-1, *(1 for _ in grid))


def random_holes(keys: jax.Array, grid: Sequence[int]) -> jax.Array:
    """Holes in examples, to learn to fill: True in the hole, bool [b *grid].

    A third of them are all that follows on the first axis, which of video and sound is time; a third are
    between the first and the last on it; and the others are boxes.

    Args:
        keys: a random key for each example [b].
        grid: sizes of its axes.
    """

    def within(first: jax.Array, last: jax.Array, n: int) -> jax.Array:
        index = jnp.arange(n)
        return (first <= index) & (index <= last)

    n, least = grid[0], min(1, grid[0] - 1)

    def hole(key: jax.Array) -> jax.Array:
        kind_key, start_key, ends_key, *own = jax.random.split(key, 3 + len(grid))
        kind = jax.random.randint(kind_key, (), 0, 3)
        start = jax.random.randint(start_key, (), least, max(least + 1, n))
        ends = jnp.sort(jax.random.randint(ends_key, (2,), least, max(least + 1, n - 1)))
        whole = [jnp.ones(size, bool) for size in grid[1:]]
        box = [
            within(*jnp.sort(jax.random.randint(key, (2,), 0, size)), size)
            for key, size in zip(own, grid, strict=True)
        ]
        holes = [within(start, n - 1, n), *whole], [within(*ends, n), *whole], box
        return jnp.stack([functools.reduce(lambda a, b: a[..., None] & b, axes) for axes in holes])[kind]

    return jax.vmap(hole)(keys)

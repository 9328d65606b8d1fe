"""How much of a grid of tokens is masked: Chang et al. 2022 (MaskGIT, arXiv:2202.04200), section 3.3."""

from typing import Literal

import jax
import jax.numpy as jnp

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


def random_mask(keys: jax.Array, n: int, schedule: Schedule) -> jax.Array:
    """Masks to train on, True where a token is masked, bool [b n].

    The share of the tokens of an example is what the schedule makes of a uniform number of its own key [b];
    at least one is masked.
    """

    def mask(key: jax.Array) -> jax.Array:
        share_key, order_key = jax.random.split(key)
        share = masked_share(schedule, jax.random.uniform(share_key))
        count = jnp.maximum(1, jnp.ceil(share * n)).astype(jnp.int32)
        return jax.random.permutation(order_key, n) < count

    return jax.vmap(mask)(keys)

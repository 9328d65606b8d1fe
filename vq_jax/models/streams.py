"""Causal networks, applied to one chunk of an example after the other.

Where the collection `STREAM` is mutable, each layer leaves there what the next chunk needs of this one, and
goes on from what it finds there.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

STREAM = 'stream'  # the collection of what causal layers keep of the chunks before
_PAST = 'past'


def is_streaming(module: nn.Module) -> bool:
    """Whether what comes in is a chunk, and the next one will follow."""
    return module.is_mutable_collection(STREAM) and not module.is_initializing()


def is_continued(module: nn.Module) -> bool:
    """Whether what comes in follows a chunk that the layer was given before."""
    return is_streaming(module) and module.has_variable(STREAM, _PAST)


def after_past(module: nn.Module, x: jax.Array, start: jax.Array) -> jax.Array:
    """Puts x [b t ...] behind the last positions of the chunks before it, of which as many are kept.

    The first chunk, and what is no chunk but a whole, is put behind `start` [b n ...], whose n says how many
    positions that is.
    """
    n = start.shape[1]
    if not is_streaming(module):
        return jnp.concatenate([start, x], axis=1)
    x = jnp.concatenate([module.get_variable(STREAM, _PAST, start), x], axis=1)
    module.put_variable(STREAM, _PAST, x[:, x.shape[1] - n :])
    return x

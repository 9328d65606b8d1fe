"""Embeddings of the codes of several depths, in one table."""

import jax
import jax.numpy as jnp
from flax import linen as nn


def embed_codes(table: nn.Embed, codes: jax.Array) -> jax.Array:
    """The sum of the embeddings of the codes of each position, of which each depth has its own.

    Args:
        table: of the codes of all depths, equally many of each, one depth after the other.
        codes: int [... depth].

    Returns:
        Vectors [... width].
    """
    depth = codes.shape[-1]
    return table(codes + table.num_embeddings // depth * jnp.arange(depth)).sum(-2)

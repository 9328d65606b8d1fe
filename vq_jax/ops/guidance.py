"""Classifier-free guidance: Ho and Salimans 2022 (arXiv:2207.12598).

A network learns with and without its context, because training drops the context of some examples. Where
examples are sampled, both predictions are made in one pass over twice the batch, and the difference between
them is exaggerated. A context is any tree of arrays [b ...]; what it holds does not matter here.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar('Tree')


def drop(keys: jax.Array, rate: float, context: Tree, unconditional: Tree) -> Tree:
    """Replaces the context [b ...] of a share of the examples by what stands for none, for training.

    The rate is from 0 to 1. With the same keys [b], the examples of a lower one are among those of a higher
    one, so that parts with rates of their own are dropped together.
    """
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(keys)

    def replaced(x: jax.Array, none: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(-1, *[1] * (x.ndim - 1)), none, x)

    return jax.tree.map(replaced, context, unconditional)


def pair(conditional: Tree, unconditional: Tree) -> Tree:
    """Both as one batch, the conditional half first: trees of arrays [b ...] to one of arrays [2b ...]."""
    return jax.tree.map(lambda *halves: jnp.concatenate(halves), conditional, unconditional)


def twice(x: Tree) -> Tree:
    """What both halves of a `pair` are given alike: arrays [b ...] to [2b ...]."""
    return pair(x, x)


def halves(x: Tree) -> tuple[Tree, Tree]:
    """Conditional and unconditional predictions [b ...] of the two halves of a batch [2b ...]."""
    return tuple(jax.tree.map(lambda x, i=i: jnp.split(x, 2)[i], x) for i in (0, 1))


def guide(conditional: jax.Array, unconditional: jax.Array, guidance: float | jax.Array) -> jax.Array:
    """Leans from one prediction, such as logits [...], to the other and beyond (equation 6, with w + 1 here).

    A guidance of 1 is the conditional prediction, 0 the unconditional one; more exaggerates the context.
    """
    return unconditional + guidance * (conditional - unconditional)

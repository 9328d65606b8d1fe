"""Parts of the batch of a step: what each device has of it, and what is computed of that one after another.

A step is a function of its whole batch, whatever the number of devices and parts. What is needed of the
whole is a mean over parts; each part knows which examples it has.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vq_jax.ops.collectives import gather, global_size, pmean
from vq_jax.ops.keys import content_words


@struct.dataclass
class Part:
    """The examples that a computation sees, as a part of the batch of a whole step.

    Attributes:
        index: where each stands in the whole batch, int32 [b].
        size: examples in the whole batch.
        axis_name: the device axis; None where one device, or a compiler, sees all.
    """

    index: jax.Array
    size: int = struct.field(pytree_node=False)
    axis_name: str | None = struct.field(pytree_node=False, default=None)

    @classmethod
    def of_device(cls, n: int, axis_name: str | None = None) -> 'Part':
        """All that a device has: examples i*n to (i+1)*n of the whole for device i, or the whole."""
        first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * n
        return cls(index=first + jnp.arange(n), size=global_size(n, axis_name), axis_name=axis_name)

    @classmethod
    def of_contents(cls, items: jax.Array) -> 'Part':
        """A whole batch, integers [b ...], where the keys of an example depend on its content alone.

        So evaluation samples (see `content_keys`). Where examples stand is not known, so `take` has no use.
        """
        return cls(index=content_words(items), size=len(items))

    def keys(self, key: jax.Array) -> jax.Array:
        """A random key for each example [b], the same in whatever part it is; `key` is equal in all."""
        return jax.vmap(lambda i: jax.random.fold_in(key, i))(self.index)

    def take(self, rows: jax.Array, indices: jax.Array) -> jax.Array:
        """Picks rows of the whole batch; the mean over all parts of what comes out is those rows.

        Args:
            rows: of the examples at hand, equally many of each, one after another [b*n ...].
            indices: rows of the whole [m], equal in all parts.

        Returns:
            [m ...]: zero where the row is in another part, else the row times the number of parts.
        """
        n = rows.shape[0] // len(self.index)
        here = (indices // n)[:, None] == self.index
        picked = rows[jnp.argmax(here, axis=1) * n + indices % n]
        mine = jnp.any(here, axis=1).reshape(-1, *[1] * (rows.ndim - 1))
        return jnp.where(mine, picked, 0) * (self.size // len(self.index))


def mean_over_parts(
    function: Callable[[Any, Part], Any], batch: Any, parts: int, axis_name: str | None
) -> Any:
    """The mean over the whole batch of what a function gives for each part of it; see `over_parts`."""
    return over_parts(lambda batch, part: (function(batch, part), ()), batch, parts, axis_name)[0]


def over_parts(
    function: Callable[[Any, Part], tuple[Any, Any]], batch: Any, parts: int, axis_name: str | None
) -> tuple[Any, Any]:
    """What a function gives for each part of the batch: the mean of some, all rows of the rest.

    Parts follow each other in a loop, so that memory is that of one. A part has every so-many-th example: of
    a batch that is split over devices a part of each's, so that none has to be moved.

    Args:
        function: takes arrays of a part [b/parts ...] and which it is; returns floats, such as means over its
            examples and gradients of these, of which the mean is taken, and arrays [b/parts ...] that are
            kept.
        batch: arrays of this device's examples [b ...].
        parts: how many; b must be a multiple.
        axis_name: the device axis.

    Returns:
        The means, and what was kept of all examples on all devices [b ...], in an order of its own.
    """
    n = len(jax.tree.leaves(batch)[0])
    given = batch, Part.of_device(n, axis_name)
    if parts == 1:
        means, kept = function(*given)
        return pmean(means, axis_name), gather(kept, axis_name)
    split = _split(given, parts)
    floats, _ = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], split))

    def add(sums: Any, part: Any) -> tuple[Any, Any]:
        means, kept = function(*part)
        return jax.tree.map(jnp.add, sums, means), kept

    sums, kept = jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), floats), split)
    kept = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), kept)
    return pmean(jax.tree.map(lambda x: x / parts, sums), axis_name), gather(kept, axis_name)


def map_over_parts(function: Callable[[Any], Any], batch: Any, parts: int) -> Any:
    """What a function gives for arrays [b ...], of each example by itself, in parts one after another.

    The number of parts divides b.
    """
    if parts == 1:
        return function(batch)
    results = jax.lax.map(function, _split(batch, parts))
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), results)


def _split(tree: Any, parts: int) -> Any:
    """Arrays [b ...] as [parts b/parts ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), tree)

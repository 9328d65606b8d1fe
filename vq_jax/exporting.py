"""Functions of a trained run as StableHLO, with its weights, which JAX runs without vq_jax."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import jax
import jax.export

from vq_jax.errors import UserError

PLATFORMS = ('cpu', 'cuda', 'tpu')
_MOST_BYTES = 2**31 - 2**24  # of weights: a FlatBuffer has fewer than 2^31 bytes, some of them the program's


def check_exportable(platforms: Sequence[str], weights: Any) -> None:
    """Raises `UserError` unless a function can be written for such platforms, with the arrays of a tree.

    Of weights that functions do not read none are written; they count here all the same.
    """
    if find_spec('flatbuffers') is None:
        raise UserError("export needs the package flatbuffers; install it by pip install 'vq_jax[export]'.")
    if isinstance(platforms, str) or not platforms or not set(platforms) <= set(PLATFORMS):
        raise UserError(f'platforms is {platforms!r}; give some of {PLATFORMS}.')
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(weights))
    if size > _MOST_BYTES:
        raise UserError(
            f'the weights have {size / 2**30:.1f} GiB, and a file of jax.export holds less than 2.'
        )


def serialized(
    function: Callable[..., Any], name: str, arguments: Sequence[Any], platforms: Sequence[str]
) -> bytes:
    """A function of examples, each by itself, as `jax.export` serializes it.

    How many examples there are is symbolic, so that the file is called with any number of them. The function
    is mapped over them, and need not know: what it sees is a batch of one.

    Args:
        function: of trees of arrays to a tree of arrays, all of them [1 ...]. Arrays that it closes over
            become part of the file.
        name: what it is called in the file.
        arguments: shapes and types of its arguments, [1 ...]; or [] of one that all examples share.
        platforms: some of `PLATFORMS`, for which it is lowered.
    """
    (b,) = jax.export.symbolic_shape('b')
    likes = tuple(arguments)

    def of_one(*given: Any) -> Any:
        alone = jax.tree.map(lambda x, like: x.reshape(like.shape), given, likes)
        return jax.tree.map(lambda x: x[0], function(*alone))

    def of_several(*given: Any) -> Any:
        axes = jax.tree.map(lambda like: 0 if like.shape else None, likes)
        return jax.vmap(of_one, axes)(*given)

    def symbolic(like: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((b, *like.shape[1:]) if like.shape else (), like.dtype)

    of_several.__name__ = name
    exported = jax.export.export(jax.jit(of_several), platforms=tuple(platforms))
    return bytes(exported(*jax.tree.map(symbolic, likes)).serialize())

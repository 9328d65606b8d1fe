"""Variables of Flax modules by the names and in the layout that PyTorch's files have them.

Of modules whose submodules have the names of the published arrays.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vq_jax.errors import UserError

# What published files call the arrays that Flax calls so.
_PUBLISHED = {
    'kernel': 'weight',
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
}


def published_shapes(variables: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every published array, by its name such as 'Mixed_5b.branch1x1.conv.weight'.

    Of the shapes of all variables of a module. Kernels of convolutions are [d c *size], those of connected
    layers [d c].
    """
    arrays, _ = jax.tree_util.tree_flatten_with_path(variables)
    shapes = {}
    for path, array in arrays:
        _, *modules, name = (key.key for key in path)
        shape = array.shape if array.ndim == 1 else (*array.shape[:-3:-1], *array.shape[:-2])
        shapes['.'.join([*modules, _PUBLISHED[name]])] = tuple(shape)
    return shapes


def variables_from_published(
    variables: Any, weights: Mapping[str, np.ndarray], network: str, file: str
) -> Any:
    """The variables of a module from arrays by their published names; others are left out.

    Args:
        variables: the shapes of all of them.
        weights: the arrays.
        network: what to call it.
        file: which file has its arrays, for messages.

    Raises:
        UserError: naming an array that is missing, or of the wrong shape.
    """
    arrays = []
    for name, shape in published_shapes(variables).items():
        if name not in weights:
            raise UserError(f'the weights of {network} have no {name}; give the file that {file}.')
        array = np.asarray(weights[name], np.float32)
        if array.shape != shape:
            raise UserError(
                f'the weight {name} of {network} has shape {array.shape}, not {shape}; give the file that '
                f'{file}.'
            )
        arrays.append(array if array.ndim == 1 else array.transpose(*range(2, array.ndim), 1, 0))
    return jax.tree.unflatten(jax.tree.structure(variables), arrays)

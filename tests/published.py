"""Random weights under the names of published files, the same whenever they are made."""

import zlib

import numpy as np

from vq_jax.models.inception import published_shapes


def inception_weights():
    """Each array of Inception-v3 from a seed of its own, so that activations keep their size."""
    weights = {}
    for name, shape in published_shapes().items():
        normal = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if len(shape) > 1:
            array = normal * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(('running_var', 'bn.weight')):
            array = np.exp(normal / 5)
        else:
            array = normal / 5
        weights[name] = array.astype('float32')
    return weights

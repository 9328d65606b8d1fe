"""Random weights under the names of published files, the same whenever they are made."""

import zlib

import numpy as np

from vq_jax.models import i3d, inception
from vq_jax.models.lpips import STAGES


def inception_weights():
    """Those of Inception-v3."""
    return _weights(inception.published_shapes())


def i3d_weights():
    """Those of I3D."""
    return _weights(i3d.published_shapes())


def _weights(shapes):
    """Each array from a seed of its own, so that activations keep their size."""
    weights = {}
    for name, shape in shapes.items():
        normal = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if len(shape) > 1:
            array = normal * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(('running_var', 'bn.weight')):
            array = np.exp(normal / 5)
        else:
            array = normal / 5
        weights[name] = array.astype('float32')
    return weights


def lpips_weights():
    """Those of VGG-16's convolutions and of the heads of LPIPS."""
    weights, channels, index = {}, 3, 0
    for k, widths in enumerate(STAGES):
        for width in widths:
            rng = np.random.RandomState(index)
            kernel = rng.standard_normal((width, channels, 3, 3)) * np.sqrt(2 / (9 * channels))
            weights[f'features.{index}.weight'] = kernel.astype('float32')
            weights[f'features.{index}.bias'] = (rng.standard_normal(width) * 0.01).astype('float32')
            channels, index = width, index + 2
        index += 1
        head = np.random.RandomState(100 + k).uniform(size=(1, channels, 1, 1))
        weights[f'lin{k}.model.1.weight'] = head.astype('float32')
    return weights

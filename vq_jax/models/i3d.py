"""I3D, the network of videos in which the Fréchet video distance is computed."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.models import published
from vq_jax.models.classifier import Classified
from vq_jax.models.convolution import Conv
from vq_jax.ops.images import to_float

SIZE = 224  # pixels, height and width of what the network sees
CLASSES = 400
LEAST_FRAMES = 9  # of fewer, its last pool has no two positions of time
# Channels of the blocks between two pools (see `_Block`).
_BLOCKS = {
    'Mixed_3b': (64, 96, 128, 16, 32, 32),
    'Mixed_3c': (128, 128, 192, 32, 96, 64),
    'Mixed_4b': (192, 96, 208, 16, 48, 64),
    'Mixed_4c': (160, 112, 224, 24, 64, 64),
    'Mixed_4d': (128, 128, 256, 24, 64, 64),
    'Mixed_4e': (112, 144, 288, 32, 64, 64),
    'Mixed_4f': (256, 160, 320, 32, 128, 128),
    'Mixed_5b': (256, 160, 320, 32, 128, 128),
    'Mixed_5c': (384, 192, 384, 48, 128, 128),
}
# The pools before some of them: their sizes and strides.
_POOLS = {
    'Mixed_3b': ((1, 3, 3), (1, 2, 2)),
    'Mixed_4b': ((3, 3, 3), (2, 2, 2)),
    'Mixed_5b': ((2, 2, 2), (2, 2, 2)),
}


class I3D(nn.Module):
    """The network of Carreira and Zisserman 2017 (arXiv:1705.07750), figure 3, of colour.

    Unterthiner et al. 2018 (arXiv:1812.01717) and most after them compute the Fréchet video distance in the
    means over time of its 400 logits, with weights for Kinetics-400. Frames, whatever their aspect, are
    brought to 224x224 pixels by two neighbours along each axis, also when reducing, as by PyTorch's bilinear
    interpolation, and to [-1, 1]. Submodules have the names of the arrays in the conversion to PyTorch by
    piergiaj (pytorch-i3d).
    """

    @nn.compact
    def __call__(self, videos: jax.Array) -> Classified:
        """Classifies videos [b t h w c], t 9 or more, c 1 or 3, bytes or numbers in [-1, 1].

        Returns:
            The means of logits over time, both as features and as logits [b 400].
        """
        # By default, accelerators round the factors of products to fewer bits, and distances change with it.
        with jax.default_matmul_precision('highest'):
            x = _Unit(64, 7, 2, name='Conv3d_1a_7x7')(resized(videos))
            x = _max_pool(x, (1, 3, 3), (1, 2, 2))
            x = _Unit(64, name='Conv3d_2b_1x1')(x)
            x = _Unit(192, 3, name='Conv3d_2c_3x3')(x)
            for name, channels in _BLOCKS.items():
                if name in _POOLS:
                    x = _max_pool(x, *_POOLS[name])
                x = _Block(*channels, name=name)(x)
            x = nn.avg_pool(x, (2, *x.shape[2:4]))
            logits = jnp.mean(_Logits(name='logits')(x), (1, 2, 3))
            return Classified(features=logits, logits=logits)


class _Unit(nn.Module):
    """A convolution, batch normalisation with its running statistics, and a ReLU."""

    features: int
    kernel_size: int = 1
    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = Conv(self.features, self.kernel_size, self.strides, use_bias=False, name='conv3d')
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=0.001, name='bn')(conv(x)))


class _Block(nn.Module):
    """Four branches beside each other: of size 1, of size 3 twice, and of a pool; the channels of each."""

    b0: int
    b1a: int
    b1b: int
    b2a: int
    b2b: int
    b3b: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        a = _Unit(self.b0, name='b0')(x)
        b = _Unit(self.b1b, 3, name='b1b')(_Unit(self.b1a, name='b1a')(x))
        c = _Unit(self.b2b, 3, name='b2b')(_Unit(self.b2a, name='b2a')(x))
        d = _Unit(self.b3b, name='b3b')(_max_pool(x, (3, 3, 3), (1, 1, 1)))
        return jnp.concatenate([a, b, c, d], -1)


class _Logits(nn.Module):
    """The last layer, under the name of its array."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Conv(CLASSES, 1, name='conv3d')(x)


def resized(videos: jax.Array) -> jax.Array:
    """Videos [b t h w c], as `I3D` is given them, as its layers take them, float32 [b t 224 224 3]."""
    x = to_float(videos) if videos.dtype == jnp.uint8 else videos
    x = jax.image.resize(x, (*x.shape[:2], SIZE, SIZE, x.shape[4]), 'linear', antialias=False)
    return jnp.broadcast_to(x, (*x.shape[:4], 3))


def published_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of every array of the published file, by its name (`Mixed_3b.b0.conv3d.weight`)."""
    return published.published_shapes(_shapes())


def variables_from_published(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The variables of `I3D` from arrays by their published names (see `published`)."""
    return published.variables_from_published(_shapes(), weights, 'I3D', 'is published for FVD')


@functools.cache
def _shapes() -> Any:
    return jax.eval_shape(I3D().init, jax.random.key(0), jnp.zeros((1, LEAST_FRAMES, SIZE, SIZE, 3)))


def _max_pool(x: jax.Array, size: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
    return nn.max_pool(x, size, strides, 'SAME')

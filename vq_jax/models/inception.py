"""Inception-v3 as the Fréchet Inception distance uses it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.models import published
from vq_jax.models.classifier import Classified
from vq_jax.models.convolution import Conv
from vq_jax.ops.images import to_float

SIZE = 299  # pixels, height and width of what the network sees
CLASSES = 1008
Resize = Literal['bilinear', 'clean']


class InceptionV3(nn.Module):
    """The network of Szegedy et al. 2015 (arXiv:1512.00567), section 6, of TensorFlow's file of 2015-12-05.

    Heusel et al. 2017 (arXiv:1706.08500) and most after them compute FID with its weights, which
    pytorch-fid ported to PyTorch. It differs from the Inception-v3 of other libraries: average pools leave
    their padding out of the count, the pool of the last block takes maxima, and there are 1,008 classes.
    Submodules have the names of the published arrays.

    Attributes:
        resize: how images become 299x299. 'bilinear' is pytorch-fid's: bytes to [-1, 1], two neighbours
            along each axis, also when reducing. 'clean' is that of Parmar et al. 2022
            (arXiv:2104.11222): Pillow's bicubic filter, widened by the scale when reducing, not rounded,
            and bytes to [-1, 127/128]. Numbers of the two do not compare.
    """

    resize: Resize = 'bilinear'

    @nn.compact
    def __call__(self, images: jax.Array) -> Classified:
        """Classifies images [b h w c], c 1 or 3, bytes or numbers in [-1, 1].

        Returns:
            The means over positions of the last activations [b 2048], and logits [b 1008].
        """
        # By default, accelerators round the factors of products to fewer bits, and distances change with it.
        with jax.default_matmul_precision('highest'):
            x = resized(images, self.resize)
            x = _Unit(32, (3, 3), 2, 'VALID', name='Conv2d_1a_3x3')(x)
            x = _Unit(32, (3, 3), padding='VALID', name='Conv2d_2a_3x3')(x)
            x = _Unit(64, (3, 3), name='Conv2d_2b_3x3')(x)
            x = _max_pool(x)
            x = _Unit(80, name='Conv2d_3b_1x1')(x)
            x = _Unit(192, (3, 3), padding='VALID', name='Conv2d_4a_3x3')(x)
            x = _max_pool(x)
            for name, pooled in (('5b', 32), ('5c', 64), ('5d', 64)):
                x = _Block35(pooled, name=f'Mixed_{name}')(x)
            x = _Reduction17(name='Mixed_6a')(x)
            for name, width in (('6b', 128), ('6c', 160), ('6d', 160), ('6e', 192)):
                x = _Block17(width, name=f'Mixed_{name}')(x)
            x = _Reduction8(name='Mixed_7a')(x)
            x = _Block8(_mean_pool, name='Mixed_7b')(x)
            x = _Block8(functools.partial(_max_pool, stride=1, padding='SAME'), name='Mixed_7c')(x)
            features = jnp.mean(x, (1, 2))
            return Classified(features=features, logits=nn.Dense(CLASSES, name='fc')(features))


class _Unit(nn.Module):
    """A convolution, batch normalisation with its running statistics, and a ReLU."""

    features: int
    kernel_size: tuple[int, int] = (1, 1)
    strides: int = 1
    padding: Literal['SAME', 'VALID'] = 'SAME'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = Conv(self.features, self.kernel_size, self.strides, self.padding, use_bias=False, name='conv')
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=0.001, name='bn')(conv(x)))


def _units(x: jax.Array, name: str, *units: tuple) -> jax.Array:
    """Units one after another, by their attributes; called inside a module's compact method."""
    for number, attributes in enumerate(units, 1):
        x = _Unit(*attributes, name=f'{name}_{number}')(x)
    return x


class _Block35(nn.Module):
    """Of maps of 35x35; `pooled` channels come from the pool."""

    pooled: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        a = _Unit(64, name='branch1x1')(x)
        b = _units(x, 'branch5x5', (48,), (64, (5, 5)))
        c = _units(x, 'branch3x3dbl', (64,), (96, (3, 3)), (96, (3, 3)))
        d = _Unit(self.pooled, name='branch_pool')(_mean_pool(x))
        return jnp.concatenate([a, b, c, d], -1)


class _Reduction17(nn.Module):
    """From maps of 35x35 to 17x17."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        a = _Unit(384, (3, 3), 2, 'VALID', name='branch3x3')(x)
        b = _units(x, 'branch3x3dbl', (64,), (96, (3, 3)), (96, (3, 3), 2, 'VALID'))
        return jnp.concatenate([a, b, _max_pool(x)], -1)


class _Block17(nn.Module):
    """Of maps of 17x17; `width` channels lie between the convolutions of 1x7 and 7x1."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        w = self.width
        a = _Unit(192, name='branch1x1')(x)
        b = _units(x, 'branch7x7', (w,), (w, (1, 7)), (192, (7, 1)))
        c = _units(x, 'branch7x7dbl', (w,), (w, (7, 1)), (w, (1, 7)), (w, (7, 1)), (192, (1, 7)))
        d = _Unit(192, name='branch_pool')(_mean_pool(x))
        return jnp.concatenate([a, b, c, d], -1)


class _Reduction8(nn.Module):
    """From maps of 17x17 to 8x8."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        a = _units(x, 'branch3x3', (192,), (320, (3, 3), 2, 'VALID'))
        b = _units(x, 'branch7x7x3', (192,), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), 2, 'VALID'))
        return jnp.concatenate([a, b, _max_pool(x)], -1)


class _Block8(nn.Module):
    """Of maps of 8x8; `pool` is that of its last branch."""

    pool: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        a = _Unit(320, name='branch1x1')(x)
        b = _Unit(384, name='branch3x3_1')(x)
        b1 = _Unit(384, (1, 3), name='branch3x3_2a')(b)
        b2 = _Unit(384, (3, 1), name='branch3x3_2b')(b)
        c = _units(x, 'branch3x3dbl', (448,), (384, (3, 3)))
        c1 = _Unit(384, (1, 3), name='branch3x3dbl_3a')(c)
        c2 = _Unit(384, (3, 1), name='branch3x3dbl_3b')(c)
        d = _Unit(192, name='branch_pool')(self.pool(x))
        return jnp.concatenate([a, b1, b2, c1, c2, d], -1)


def resized(images: jax.Array, resize: Resize) -> jax.Array:
    """Images [b h w c], as `InceptionV3` is given them, as its layers take them, float32 [b 299 299 3]."""
    x = to_float(images) if images.dtype == jnp.uint8 else images
    shape = (x.shape[0], SIZE, SIZE, x.shape[3])
    if resize == 'bilinear':
        x = jax.image.resize(x, shape, 'linear', antialias=False)
    else:
        x = jnp.clip(jax.image.resize(x, shape, 'cubic', antialias=True), -1, 1)
        x = (127.5 * x - 0.5) / 128  # of bytes: (x - 128) / 128
    return jnp.broadcast_to(x, (*shape[:3], 3))


def published_shapes() -> dict[str, tuple[int, ...]]:
    """The shape of every array of the published file, by its name (`Mixed_5b.branch1x1.conv.weight`)."""
    return published.published_shapes(_shapes())


def variables_from_published(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The variables of `InceptionV3` from arrays by their published names (see `published`)."""
    return published.variables_from_published(_shapes(), weights, 'Inception-v3', 'is published for FID')


@functools.cache
def _shapes() -> Any:
    return jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))


def _max_pool(x: jax.Array, stride: int = 2, padding: Literal['SAME', 'VALID'] = 'VALID') -> jax.Array:
    return nn.max_pool(x, (3, 3), (stride, stride), padding)


def _mean_pool(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3), padding='SAME', count_include_pad=False)

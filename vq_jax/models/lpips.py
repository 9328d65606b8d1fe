"""LPIPS: how different two images look, by the features of VGG-16."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.models.convolution import Conv

# VGG-16 of Simonyan and Zisserman 2015 (arXiv:1409.1556), table 1, column D: the channels of the
# convolutions of each stage. A stage's last activation is compared; pooling lies between stages.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
LEAST_SIZE = 2 ** (len(STAGES) - 1)  # pixels, of which the last stage sees one
# The mean and deviation of ImageNet's pixels in [0, 1], brought to [-1, 1], as LPIPS has them.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class VGG16(nn.Module):
    """The convolutions of VGG-16.

    Attributes:
        dtype: what is computed in.
    """

    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Maps normalised images [b h w 3] to the last activations of the five stages."""
        activations = []
        for i, widths in enumerate(STAGES):
            if i:
                x = nn.max_pool(x, (2, 2), (2, 2))
            for j, width in enumerate(widths):
                # He et al. 2015 (arXiv:1502.01852), equation 10: random features keep their size.
                start = nn.initializers.he_normal()
                conv = Conv(width, dtype=self.dtype, kernel_init=start, name=f'stage{i}_conv{j}')
                x = nn.relu(conv(x))
            activations.append(x)
        return activations


class LPIPS(nn.Module):
    """The distance of Zhang et al. 2018 (arXiv:1801.03924), equation 1, version 0.1, with VGG-16.

    Attributes:
        dtype: what VGG-16 computes in; distances are float32.
    """

    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Maps pairs of images [b h w c] in [-1, 1], c 1 or 3, to distances [b]."""
        vgg = VGG16(self.dtype, name='vgg')
        # One after the other, so that a gradient to one of them costs nothing for the other.
        stages = zip(vgg(_normalised(x)), vgg(_normalised(y)), strict=True)
        total = jnp.zeros(x.shape[0], jnp.float32)
        for i, (a, b) in enumerate(stages):
            # Without learned weights, channels count alike.
            width = a.shape[-1]
            weight = self.param(f'weight{i}', nn.initializers.constant(1 / width), (width,))
            total += jnp.mean(jnp.square(_unit(a) - _unit(b)) @ weight, axis=(1, 2))
        return total


def params_from_published(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The parameters of `LPIPS` from the published files, which may be read together.

    Args:
        weights: arrays by name, as torchvision's VGG-16 names them (`features.0.weight`) and the
            heads of LPIPS (`lin0.model.1.weight`), or a whole LPIPS network
            (`net.slice1.0.weight`). Other names are left out.

    Raises:
        UserError: naming an array that is missing, or of the wrong shape.
    """
    vgg: dict[str, dict[str, np.ndarray]] = {}
    params: dict[str, Any] = {'vgg': vgg}
    index, channels = 0, 3
    for i, widths in enumerate(STAGES):
        for j, width in enumerate(widths):
            names = [f'features.{index}', f'net.slice{i + 1}.{index}']
            kernel = _find(weights, [f'{n}.weight' for n in names], (width, channels, 3, 3))
            bias = _find(weights, [f'{n}.bias' for n in names], (width,))
            vgg[f'stage{i}_conv{j}'] = {'kernel': kernel.transpose(2, 3, 1, 0), 'bias': bias}
            index, channels = index + 2, width  # a ReLU follows each
        index += 1  # and a pooling each stage
        heads = [f'lin{i}.model.1.weight', f'lins.{i}.model.1.weight']
        params[f'weight{i}'] = _find(weights, heads, (1, channels, 1, 1)).reshape(-1)
    return params


def _find(weights: Mapping[str, np.ndarray], names: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    for name in names:
        if name in weights:
            if weights[name].shape != shape:
                raise UserError(
                    f'the perceptual weight {name} has shape {weights[name].shape}, not {shape}; give the '
                    'published files of VGG-16 and LPIPS.'
                )
            return np.asarray(weights[name], np.float32)
    which = 'LPIPS heads' if re.match('lin', names[0]) else 'VGG-16'
    raise UserError(f'the perceptual weights have no {names[0]}; name a file of {which} too.')


def _normalised(x: jax.Array) -> jax.Array:
    x = jnp.broadcast_to(x, (*x.shape[:3], 3))
    return (x - jnp.array(_SHIFT)) / jnp.array(_SCALE)


def _unit(x: jax.Array) -> jax.Array:
    """Unit length over channels, with the constant of the published code, and no NaN in gradients at 0."""
    x = x.astype(jnp.float32)
    squares = jnp.sum(jnp.square(x), -1, keepdims=True)
    length = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return x / (length + 1e-10)

"""Convolutions with the parameters of Flax's own, computed by `vq_jax.ops.conv`."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.ops.conv import Padding, conv2d, conv2d_transpose
from vq_jax.ops.sums import shift

Initializer = Callable[..., jax.Array]


class Conv(nn.Module):
    """`flax.linen.Conv` over images: the same parameters and the same result.

    Attributes:
        features: channels of the result.
        kernel_size: height and width of the kernel.
        strides: step in both directions.
        padding: 'SAME', 'VALID', or the zeros before and after height and width.
        use_bias: add a learned number to each channel.
        dtype: what is computed in; parameters are float32.
        kernel_init: how the kernel starts.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: int = 1
    padding: Padding = 'SAME'
    use_bias: bool = True
    dtype: str = 'float32'
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images [b h w c] to [b h' w' features]."""
        x, kernel, bias = _inputs(self, x)
        x = conv2d(x, kernel, self.strides, self.padding)
        return x if bias is None else shift(x, bias)


class ConvTranspose(nn.Module):
    """`flax.linen.ConvTranspose` over images: the same parameters and the same result.

    Attributes:
        features: channels of the result.
        kernel_size: height and width of the kernel.
        strides: how much larger the result is.
        padding: 'SAME' or 'VALID'.
        use_bias: add a learned number to each channel.
        dtype: what is computed in; parameters are float32.
        kernel_init: how the kernel starts.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: int = 1
    padding: Literal['SAME', 'VALID'] = 'SAME'
    use_bias: bool = True
    dtype: str = 'float32'
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images [b h w c] to [b h*strides w*strides features] (with 'SAME' padding)."""
        x, kernel, bias = _inputs(self, x)
        x = conv2d_transpose(x, kernel, self.strides, self.padding)
        return x if bias is None else shift(x, bias)


def _inputs(module: Conv | ConvTranspose, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Input, kernel and bias in the type to compute in."""
    if module.features < 1 or min(module.kernel_size) < 1:
        raise UserError(
            f'a layer has {module.features} channels and a kernel of {module.kernel_size}; give 1 or more to '
            'the sizes in the config sections of the model.'
        )
    shape = (*module.kernel_size, x.shape[-1], module.features)
    kernel = module.param('kernel', module.kernel_init, shape, jnp.float32).astype(module.dtype)
    bias = None
    if module.use_bias:
        zeros = nn.initializers.zeros_init()
        bias = module.param('bias', zeros, (module.features,), jnp.float32).astype(module.dtype)
    return x.astype(module.dtype), kernel, bias

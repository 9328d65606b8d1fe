"""Convolutions with the parameters of Flax's own, computed by `vq_jax.ops.conv`, over 1 to 3 axes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.ops.conv import Padding, conv, conv_transpose
from vq_jax.ops.grids import per_axis
from vq_jax.ops.sums import shift

Initializer = Callable[..., jax.Array]
_MOST_STRIDE = 16  # so that a slip of the finger makes no kernel that fills the memory


class Conv(nn.Module):
    """`flax.linen.Conv`: the same parameters and the same result.

    Attributes:
        features: channels of the result.
        kernel_size: of the kernel along each axis, one size for all or one for each.
        strides: step along each axis, one for all or one for each.
        padding: 'SAME', 'VALID', or the zeros before and after each axis, one pair for all or one for each.
        dilation: distance between the inputs that neighbouring weights are for, along all axes or each.
        weight_norm: learn the length of the weights of each channel, `scale`, apart from their direction,
            `kernel` (Salimans and Kingma 2016, arXiv:1602.07868), as `torch.nn.utils.weight_norm` does: of
            each channel of the result, or where a convolution is transposed, of each that comes in. Lengths
            begin as those of the kernel, unlike `flax.linen.WeightNorm`'s, which are 1.
        use_bias: add a learned number to each channel.
        dtype: what is computed in; parameters are float32.
        kernel_init: how the kernel starts.
    """

    features: int
    kernel_size: int | tuple[int, ...] = 3
    strides: int | tuple[int, ...] = 1
    padding: Padding = 'SAME'
    dilation: int | tuple[int, ...] = 1
    weight_norm: bool = False
    use_bias: bool = True
    dtype: str = 'float32'
    kernel_init: Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid' features]."""
        x, kernel, bias = layer_inputs(self, x, normed=-1)
        x = conv(x, kernel, self.strides, self.padding, self.dilation)
        return x if bias is None else shift(x, bias)


class ConvTranspose(Conv):
    """`flax.linen.ConvTranspose`: the same parameters and the same result.

    Its attributes are those of `Conv`, but that strides say how much larger the result is along each axis,
    padding is 'SAME' or 'VALID', and dilation is 1.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid*strides features] (with 'SAME' padding)."""
        x, kernel, bias = layer_inputs(self, x, normed=-2)
        x = conv_transpose(x, kernel, self.strides, self.padding)
        return x if bias is None else shift(x, bias)


def check_strides(strides: tuple[int, ...], name: str = 'strides') -> None:
    """Raises `UserError` unless each stride of a model is from 1 to 16, and there are any."""
    if not strides or not all(1 <= stride <= _MOST_STRIDE for stride in strides):
        raise UserError(
            f'{name} is {strides}; give numbers from 1 to {_MOST_STRIDE}, one for all axes of the grid or '
            'one for each of them.'
        )


def strided_sizes(strides: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of kernels that change the resolution: twice the stride, and 3 where the stride is 1."""
    return tuple(max(3, 2 * stride) for stride in strides)


def fold_weight_norm(params: Any) -> Any:
    """Parameters of a network with those of weight normalisation folded into its kernels.

    The network computes the same of them, and need not normalise them at every call.
    """
    if not isinstance(params, Mapping):
        return params
    if {'kernel', 'scale'} <= set(params) and params['kernel'].ndim == params['scale'].ndim:
        kernel, scale = params['kernel'], params['scale']
        others = tuple(axis for axis in range(kernel.ndim) if scale.shape[axis] == 1)
        rest = {name: value for name, value in params.items() if name != 'scale'}
        return {**rest, 'kernel': kernel * (scale / _length(kernel, others))}
    return {name: fold_weight_norm(inner) for name, inner in params.items()}


def _length(kernel: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(kernel), axes, keepdims=True))


def layer_inputs(module: Conv, x: jax.Array, *, normed: int) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Input, kernel and bias of a layer in the type to compute in; called inside its compact method.

    The axis `normed` of the kernel is that of the channels whose lengths weight normalisation learns.
    """
    size = per_axis(module.kernel_size, x.ndim - 2, 'kernel_size')
    strides = per_axis(module.strides, x.ndim - 2, 'strides')
    if min(module.features, *size, *strides) < 1:
        raise UserError(
            f'a layer has {module.features} channels, a kernel of {size} and strides of {strides}; give 1 or '
            'more to each.'
        )
    shape = (*size, x.shape[-1], module.features)
    kernel, bias = module.param('kernel', module.kernel_init, shape, jnp.float32), None
    if module.weight_norm and (module.is_initializing() or module.has_variable('params', 'scale')):
        others = tuple(axis for axis in range(kernel.ndim) if axis != kernel.ndim + normed)
        length = _length(kernel, others)
        kernel = kernel * (module.param('scale', lambda _: length) / length)
    if module.use_bias:
        zeros = nn.initializers.zeros_init()
        bias = module.param('bias', zeros, (module.features,), jnp.float32).astype(module.dtype)
    return x.astype(module.dtype), kernel.astype(module.dtype), bias

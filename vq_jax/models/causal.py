"""Convolutions of video that see no later frame, as MAGVIT-v2 has them.

Yu et al. 2023 (arXiv:2310.05737), section 3.2. Before the first frame there are copies of it. Where time is
divided by s, clips of 1 + k*s frames become 1 + k positions, the first of which is of the first frame alone;
so an image is a clip of one frame.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.convolution import Conv, layer_inputs
from vq_jax.models.streams import after_past, is_continued
from vq_jax.ops.conv import conv, conv_transpose
from vq_jax.ops.grids import per_axis
from vq_jax.ops.sums import shift


class CausalConv(Conv):
    """A convolution over video, in whose time all padding is before the first frame.

    Its attributes are those of `Conv`, but that along time the padding is not read and the kernel is no
    smaller than the stride, and that the dilation is 1. Of a stream (see `vq_jax.models.streams`) the first
    chunk has 1 + k*stride frames, and each further one k*stride.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b t h w c] to [b 1+(t-1)/stride h' w' features]."""
        rank = x.ndim - 2
        sizes = per_axis(self.kernel_size, rank, 'kernel_size')
        strides = per_axis(self.strides, rank, 'strides')
        around = self.padding
        if isinstance(around, str):
            around = jax.lax.padtype_to_pads(x.shape[1:-1], sizes, strides, around)
        around = per_axis(around, rank, 'padding')
        if not is_continued(self):  # the first frame becomes a whole step
            x = jnp.concatenate([copies(x, strides[0] - 1), x], axis=1)
        x = after_past(self, x, copies(x, sizes[0] - strides[0]))
        x, kernel, bias = layer_inputs(self, x, normed=-1)
        x = conv(x, kernel, strides, ((0, 0), *around[1:]))
        return x if bias is None else shift(x, bias)


def causal_transpose(
    module: nn.Module, x: jax.Array, kernel: jax.Array, strides: tuple[int, ...]
) -> jax.Array:
    """A transposed convolution over video that sees no later frame; called inside a compact method.

    Args:
        module: the layer, which keeps what the next chunk of a stream needs.
        x: [b t h w c], of the type to compute in.
        kernel: weights [*size c d], each size 2 larger than the stride.
        strides: how much larger the result is along each axis.

    Returns:
        [b 1+(t-1)*stride h' w' d], or of a further chunk of a stream [b t*stride h' w' d].
    """
    stride = strides[0]
    lead = 0 if is_continued(module) else stride - 1  # frames that the first one becomes, but for one
    before = -(-2 // stride)  # positions that hold two frames
    x = after_past(module, x, copies(x, before))
    # What such a layer makes of a frame and both neighbours stands here one frame later.
    return conv_transpose(x, kernel, strides)[:, before * stride + lead - 1 : -1]


def copies(x: jax.Array, n: int) -> jax.Array:
    """So many copies of the first frame of videos [b t h w c]: [b n h w c]."""
    return jnp.repeat(x[:, :1], n, axis=1)

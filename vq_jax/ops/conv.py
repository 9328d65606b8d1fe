"""Two-dimensional convolutions whose backward passes are fast on CPUs too.

A strided convolution `down(x, k)`, its transpose `up(y, k)` and its kernel gradient `correlate(x, y)` are
the three partial derivatives of one trilinear form, `<down(x, k), y> = <x, up(y, k)> = <k, correlate(x, y)>`.
Each is written once, and the derivatives of each are the other two, to any order. What this gains over
differentiating `jax.lax.conv_transpose`: XLA's kernel gradient of a transposed convolution spreads the
input over a grid of zeros, while `correlate` does not; and on CPUs, where spreading costs real work, `up`
regroups its kernel instead. Measured on two cores (batch 64, 16x16x256 to 8x8x256, 4x4, stride 2): see
`benchmarks/README.md`.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal

from vq_jax.ops.barrier import cpu_barrier

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')

Padding = Literal['SAME', 'VALID'] | Sequence[tuple[int, int]]
_Pads = tuple[tuple[int, int], tuple[int, int]]


def conv2d(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: Padding = 'SAME') -> jax.Array:
    """A convolution, as `jax.lax.conv_general_dilated` computes it.

    Args:
        x: images [b h w c].
        kernel: weights [kh kw c d].
        stride: step in both directions.
        padding: 'SAME' (h' = ceil(h / stride)), 'VALID', or the zeros before and after each axis.

    Returns:
        Images [b h' w' d].
    """
    if kernel.shape[:2] == (1, 1) and stride == 1 and padding in ('SAME', 'VALID'):
        return jnp.einsum('bhwc,cd->bhwd', x, kernel[0, 0])  # a matrix product is faster on CPUs
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
    return _down(x, kernel, stride, _as_pads(padding))


def conv2d_transpose(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: Literal['SAME', 'VALID'] = 'SAME'
) -> jax.Array:
    """A transposed convolution, as `jax.lax.conv_transpose` computes it.

    Args:
        x: images [b h w c].
        kernel: weights [kh kw c d], not flipped.
        stride: how much larger the result is.
        padding: 'SAME' (h' = h * stride) or 'VALID' (h' = h * stride + max(kh - stride, 0)).

    Returns:
        Images [b h' w' d].
    """
    sizes, pads = [], []
    for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True):
        # How many zeros come before the first element in the form that spreads the input.
        if padding == 'SAME':
            before = k - 1 if stride > k - 1 else -(-(k + stride - 2) // 2)
            sizes.append(n * stride)
        else:
            before = k - 1
            sizes.append(n * stride + max(k - stride, 0))
        low = k - 1 - before
        pads.append((low, stride * (n - 1) + k - sizes[-1] - low))
    adjoint = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return _up(x, adjoint, stride, _as_pads(pads), tuple(sizes))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _down(x: jax.Array, kernel: jax.Array, stride: int, pads: _Pads) -> jax.Array:
    """X [b h w c], kernel [kh kw c d] -> y [b h' w' d]."""
    return _plain_down(x, kernel, stride=stride, pads=pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _up(y: jax.Array, kernel: jax.Array, stride: int, pads: _Pads, size: tuple[int, int]) -> jax.Array:
    """Y [b h' w' d], kernel [kh kw c d] -> x [b h w c] with (h, w) = size."""
    spread = functools.partial(_up_by_spreading, stride=stride, pads=pads, size=size)
    if stride == 1:
        return spread(y, kernel)
    regroup = functools.partial(_up_by_regrouping, stride=stride, pads=pads, size=size)
    return lax.platform_dependent(y, kernel, cpu=regroup, default=spread)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _correlate(x: jax.Array, y: jax.Array, stride: int, pads: _Pads, size: tuple[int, int]) -> jax.Array:
    """X [b h w c], y [b h' w' d] -> kernel [kh kw c d] with (kh, kw) = size."""
    # Else what x and y are computed from is computed again where they are read, transposed.
    x, y = cpu_barrier(x, y)
    transposed = functools.partial(_correlate_by_transposing, stride=stride, pads=pads, size=size)
    plain = functools.partial(_plain_correlate, stride=stride, pads=pads, size=size)
    return lax.platform_dependent(x, y, cpu=transposed, default=plain)


def _plain_correlate(
    x: jax.Array, y: jax.Array, *, stride: int, pads: _Pads, size: tuple[int, int]
) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((*size, x.shape[-1], y.shape[-1]), x.dtype)
    down = functools.partial(_plain_down, x, stride=stride, pads=pads)
    return jax.linear_transpose(down, kernel)(y)[0]


def _correlate_by_transposing(
    x: jax.Array, y: jax.Array, *, stride: int, pads: _Pads, size: tuple[int, int]
) -> jax.Array:
    """A convolution of channels as examples, in the usual layout.

    XLA's CPU compiler brings others into it, but not inside a loop, where they take seventy times as long.
    """
    around = []
    for n, m, k, (low, _) in zip(x.shape[1:3], y.shape[1:3], size, pads, strict=True):
        around.append((low, k + stride * (m - 1) - n - low))
    kernel = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        y.transpose(1, 2, 0, 3),
        (1, 1),
        around,
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return kernel.transpose(1, 2, 0, 3)


def _plain_down(x: jax.Array, kernel: jax.Array, *, stride: int, pads: _Pads) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=_LAYOUT)


def _up_by_spreading(
    y: jax.Array, kernel: jax.Array, *, stride: int, pads: _Pads, size: tuple[int, int]
) -> jax.Array:
    """A convolution of the elements of y spread `stride` apart, with zeros between."""
    around = []
    for n, k, (low, _), out in zip(y.shape[1:3], kernel.shape[:2], pads, size, strict=True):
        before = k - 1 - low
        around.append((before, out + k - 2 - (n - 1) * stride - before))
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return lax.conv_general_dilated(
        y, flipped, (1, 1), around, lhs_dilation=(stride, stride), dimension_numbers=_LAYOUT
    )


def _up_by_regrouping(
    y: jax.Array, kernel: jax.Array, *, stride: int, pads: _Pads, size: tuple[int, int]
) -> jax.Array:
    """A convolution with stride 1 that gives each block of stride x stride results at once.

    Along one axis, result s*m + r is the sum over a of y[m - a] k[s*a + r]: for each r a convolution
    with every s-th element of the kernel.
    """
    s = stride
    kh, kw, c, d = kernel.shape
    qh, qw = -(-kh // s), -(-kw // s)
    kernel = jnp.pad(kernel, ((0, qh * s - kh), (0, qw * s - kw), (0, 0), (0, 0)))
    kernel = jnp.flip(kernel.reshape(qh, s, qw, s, c, d), (0, 2)).transpose(0, 2, 5, 1, 3, 4)
    blocks = lax.conv_general_dilated(
        y,
        kernel.reshape(qh, qw, d, s * s * c),
        (1, 1),
        ((qh - 1, qh - 1), (qw - 1, qw - 1)),
        dimension_numbers=_LAYOUT,
    )
    b, h, w, _ = blocks.shape
    blocks = blocks.reshape(b, h, w, s, s, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h * s, w * s, c)
    # Cut the padding of `down` off; where that left rows of its input unread, zeros are added.
    crop = [(-low, low + out - n) for (low, _), out, n in zip(pads, size, (h * s, w * s), strict=True)]
    zero = jnp.zeros((), blocks.dtype)
    return lax.pad(blocks, zero, [(0, 0, 0), *((*edge, 0) for edge in crop), (0, 0, 0)])


def _down_fwd(x, kernel, stride, pads):  # noqa: ANN001, ANN202
    return _down(x.value, kernel.value, stride, pads), _saved(x, kernel)


def _down_bwd(stride, pads, saved, g):  # noqa: ANN001, ANN202
    (x, kernel), wanted = saved
    return _wanted_in_order(
        wanted,
        lambda: _up(g, kernel, stride, pads, x.shape[1:3]),
        lambda: _correlate(x, g, stride, pads, kernel.shape[:2]),
    )


def _up_fwd(y, kernel, stride, pads, size):  # noqa: ANN001, ANN202
    return _up(y.value, kernel.value, stride, pads, size), _saved(y, kernel)


def _up_bwd(stride, pads, size, saved, g):  # noqa: ANN001, ANN202
    (y, kernel), wanted = saved
    return _wanted_in_order(
        wanted,
        lambda: _down(g, kernel, stride, pads),
        lambda: _correlate(g, y, stride, pads, kernel.shape[:2]),
    )


def _correlate_fwd(x, y, stride, pads, size):  # noqa: ANN001, ANN202
    return _correlate(x, y, stride, pads, size), (x, y)


def _correlate_bwd(stride, pads, size, saved, g):  # noqa: ANN001, ANN202
    x, y = saved
    return _up(y, g, stride, pads, x.shape[1:3]), _down(x, g, stride, pads)


def _saved(x: CustomVJPPrimal, kernel: CustomVJPPrimal):  # noqa: ANN202
    """Both values, and whose gradient is wanted: `()` or None, which as trees without leaves are static."""
    return (x.value, kernel.value), tuple(() if side.perturbed else None for side in (x, kernel))


def _wanted_in_order(wanted, of_input, of_kernel):  # noqa: ANN001, ANN202
    """The gradients that are wanted, that of the kernel first.

    Another would be computed even if nothing read it, since `_after` reads both.
    """
    dx, dk = (None if side is None else f() for side, f in zip(wanted, (of_input, of_kernel), strict=True))
    return (dx if dx is None or dk is None else _after(dx, dk)), dk


_down.defvjp(_down_fwd, _down_bwd, symbolic_zeros=True)
_up.defvjp(_up_fwd, _up_bwd, symbolic_zeros=True)
_correlate.defvjp(_correlate_fwd, _correlate_bwd)


def _after(x: jax.Array, other: jax.Array) -> jax.Array:
    """X, but on CPUs not before the first element of `other` is known.

    Nothing waits for the gradient of a kernel, and XLA's CPU scheduler, which knows no barriers, may put
    them all off to the end of the backward pass, and until then keep what they are made of.
    """
    first = other[(0,) * other.ndim]
    return lax.platform_dependent(x, first, cpu=lambda x, y: x + 0 * y, default=lambda x, y: x)


def _as_pads(padding: Sequence[tuple[int, int]]) -> _Pads:
    (top, bottom), (left, right) = padding
    return (int(top), int(bottom)), (int(left), int(right))

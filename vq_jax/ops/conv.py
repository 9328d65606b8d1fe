"""Convolutions over grids of one, two or three axes whose backward passes are fast on CPUs too.

A strided convolution `down(x, k)`, its transpose `up(y, k)` and its kernel gradient `correlate(x, y)` are
the three partial derivatives of one trilinear form, `<down(x, k), y> = <x, up(y, k)> = <k, correlate(x, y)>`.
Each is written once, and the derivatives of each are the other two, to any order. What this gains over
differentiating `jax.lax.conv_transpose`: XLA's kernel gradient of a transposed convolution spreads the
input over a grid of zeros, while `correlate` does not; and on CPUs, where spreading costs real work, `up`
regroups its kernel instead. Measured on two cores (batch 64, 16x16x256 to 8x8x256, 4x4, stride 2): see
`benchmarks/README.md`.

The rank of the grid is that of the kernel, and strides are one for each axis.
"""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal

from vq_jax.ops.barrier import cpu_barrier
from vq_jax.ops.grids import from_patches, per_axis

Padding = Literal['SAME', 'VALID'] | Sequence[tuple[int, int]]
_Sizes = tuple[int, ...]  # one for each axis of the grid
_Pads = tuple[tuple[int, int], ...]


def conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int] = 1,
    padding: Padding = 'SAME',
    dilation: int | Sequence[int] = 1,
) -> jax.Array:
    """A convolution, as `jax.lax.conv_general_dilated` computes it.

    Args:
        x: [b *grid c].
        kernel: weights [*size c d], with a size for each axis of the grid.
        strides: step along each axis, one for all or one for each.
        padding: 'SAME' (a size n becomes ceil(n / stride)), 'VALID', or the zeros before and after each
            axis, one pair for all or one for each.
        dilation: distance between the inputs that neighbouring weights are for, along all axes or each.

    Returns:
        [b *grid' d].
    """
    rank = kernel.ndim - 2
    strides, apart = per_axis(strides, rank, 'strides'), per_axis(dilation, rank, 'dilation')
    if isinstance(padding, str):
        reach = [d * (k - 1) + 1 for k, d in zip(kernel.shape[:rank], apart, strict=True)]
        padding = lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)
    return _down(x, kernel, strides, apart, _as_pads(per_axis(padding, rank, 'padding')))


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | Sequence[int] = 1,
    padding: Literal['SAME', 'VALID'] = 'SAME',
) -> jax.Array:
    """A transposed convolution, as `jax.lax.conv_transpose` computes it.

    Args:
        x: [b *grid c].
        kernel: weights [*size c d], not flipped, with a size for each axis of the grid.
        strides: how much larger the result is along each axis, one for all or one for each.
        padding: 'SAME' (a size n becomes n * stride) or 'VALID' (n * stride + max(k - stride, 0), with a
            kernel of size k).

    Returns:
        [b *grid' d].
    """
    rank = kernel.ndim - 2
    strides = per_axis(strides, rank, 'strides')
    sizes, pads = [], []
    for n, k, s in zip(x.shape[1:-1], kernel.shape[:rank], strides, strict=True):
        # How many zeros come before the first element in the form that spreads the input.
        if padding == 'SAME':
            before = k - 1 if s > k - 1 else -(-(k + s - 2) // 2)
            sizes.append(n * s)
        else:
            before = k - 1
            sizes.append(n * s + max(k - s, 0))
        low = k - 1 - before
        pads.append((low, s * (n - 1) + k - sizes[-1] - low))
    return _up(x, _adjoint(kernel), strides, (1,) * rank, _as_pads(pads), tuple(sizes))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _down(x: jax.Array, kernel: jax.Array, strides: _Sizes, apart: _Sizes, pads: _Pads) -> jax.Array:
    """X [b *grid c], kernel [*size c d] -> y [b *grid' d]."""
    return _plain_down(x, kernel, strides=strides, apart=apart, pads=pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _up(
    y: jax.Array, kernel: jax.Array, strides: _Sizes, apart: _Sizes, pads: _Pads, size: _Sizes
) -> jax.Array:
    """Y [b *grid' d], kernel [*size c d] -> x [b *grid c] with the given grid."""
    spread = functools.partial(_up_by_spreading, strides=strides, apart=apart, pads=pads, size=size)
    if math.prod(strides) == 1 or math.prod(apart) > 1:
        return spread(y, kernel)
    regroup = functools.partial(_up_by_regrouping, strides=strides, pads=pads, size=size)
    return lax.platform_dependent(y, kernel, cpu=regroup, default=spread)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _correlate(
    x: jax.Array, y: jax.Array, strides: _Sizes, apart: _Sizes, pads: _Pads, size: _Sizes
) -> jax.Array:
    """X [b *grid c], y [b *grid' d] -> kernel [*size c d]."""
    # Else what x and y are computed from is computed again where they are read, transposed.
    x, y = cpu_barrier(x, y)
    if _is_product(size, strides, pads):
        c, d = x.shape[-1], y.shape[-1]
        return (x.reshape(-1, c).T @ y.reshape(-1, d)).reshape(*size, c, d)
    options = {'strides': strides, 'apart': apart, 'pads': pads, 'size': size}
    transposed = functools.partial(_correlate_by_transposing, **options)
    plain = functools.partial(_plain_correlate, **options)
    return lax.platform_dependent(x, y, cpu=transposed, default=plain)


def _plain_correlate(
    x: jax.Array, y: jax.Array, *, strides: _Sizes, apart: _Sizes, pads: _Pads, size: _Sizes
) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((*size, x.shape[-1], y.shape[-1]), x.dtype)
    down = functools.partial(_plain_down, x, strides=strides, apart=apart, pads=pads)
    return jax.linear_transpose(down, kernel)(y)[0]


def _correlate_by_transposing(
    x: jax.Array, y: jax.Array, *, strides: _Sizes, apart: _Sizes, pads: _Pads, size: _Sizes
) -> jax.Array:
    """A convolution of channels as examples, in the usual layout.

    XLA's CPU compiler brings others into it, but not inside a loop, where they take seventy times as long.
    """
    if math.prod(strides) == 1 and x.shape[-1] > y.shape[-1]:
        # Patches are made of the first of the two: fewer, if it has fewer channels.
        mirrored = tuple((a * (k - 1) - low, 0) for k, a, (low, _) in zip(size, apart, pads, strict=True))
        swapped = _correlate_by_transposing(y, x, strides=strides, apart=apart, pads=mirrored, size=size)
        return _adjoint(swapped)
    rank, axes = len(size), zip(x.shape[1:-1], y.shape[1:-1], size, strides, apart, pads, strict=True)
    around = [(low, a * (k - 1) + 1 + s * (m - 1) - n - low) for n, m, k, s, a, (low, _) in axes]
    grid = range(1, rank + 1)
    kernel = lax.conv_general_dilated(
        x.transpose(rank + 1, *grid, 0),
        y.transpose(*grid, 0, rank + 1),
        apart,
        around,
        rhs_dilation=strides,
        dimension_numbers=_layout(rank),
    )
    return kernel.transpose(*grid, 0, rank + 1)


def _plain_down(x: jax.Array, kernel: jax.Array, *, strides: _Sizes, apart: _Sizes, pads: _Pads) -> jax.Array:
    size = kernel.shape[:-2]
    if _is_product(size, strides, pads):
        return x @ kernel[(0,) * len(size)]
    return lax.conv_general_dilated(
        x, kernel, strides, pads, rhs_dilation=apart, dimension_numbers=_layout(len(strides))
    )


def _up_by_spreading(
    y: jax.Array, kernel: jax.Array, *, strides: _Sizes, apart: _Sizes, pads: _Pads, size: _Sizes
) -> jax.Array:
    """A convolution of the elements of y spread `strides` apart, with zeros between."""
    rank, around = len(size), []
    if _is_product(kernel.shape[:rank], strides, pads):
        return y @ kernel[(0,) * rank].T
    axes = zip(y.shape[1:-1], kernel.shape[:rank], strides, apart, pads, size, strict=True)
    for n, k, s, a, (low, _), out in axes:
        before = a * (k - 1) - low
        around.append((before, out + a * (k - 1) - 1 - (n - 1) * s - before))
    return lax.conv_general_dilated(
        y,
        _adjoint(kernel),
        (1,) * rank,
        around,
        lhs_dilation=strides,
        rhs_dilation=apart,
        dimension_numbers=_layout(rank),
    )


def _up_by_regrouping(
    y: jax.Array, kernel: jax.Array, *, strides: _Sizes, pads: _Pads, size: _Sizes
) -> jax.Array:
    """A convolution with stride 1 that gives each block of `strides` results at once.

    Along one axis, result s*m + r is the sum over a of y[m - a] k[s*a + r]: for each r a convolution
    with every s-th element of the kernel.
    """
    rank, (c, d) = len(size), kernel.shape[-2:]
    q = [-(-k // s) for k, s in zip(kernel.shape[:rank], strides, strict=True)]
    rest = [(0, n * s - k) for n, s, k in zip(q, strides, kernel.shape[:rank], strict=True)]
    pairs = [n for pair in zip(q, strides, strict=True) for n in pair]
    firsts, seconds = range(0, 2 * rank, 2), range(1, 2 * rank, 2)
    kernel = jnp.pad(kernel, (*rest, (0, 0), (0, 0)))
    kernel = jnp.flip(kernel.reshape(*pairs, c, d), tuple(firsts))
    kernel = kernel.transpose(*firsts, 2 * rank + 1, *seconds, 2 * rank)
    blocks = lax.conv_general_dilated(
        y,
        kernel.reshape(*q, d, math.prod(strides) * c),
        (1,) * rank,
        [(n - 1, n - 1) for n in q],
        dimension_numbers=_layout(rank),
    )
    blocks = from_patches(blocks, strides)
    # Cut the padding of `down` off; where that left rows of its input unread, zeros are added.
    crop = [(-low, low + out - n) for (low, _), out, n in zip(pads, size, blocks.shape[1:-1], strict=True)]
    zero = jnp.zeros((), blocks.dtype)
    return lax.pad(blocks, zero, [(0, 0, 0), *((*edge, 0) for edge in crop), (0, 0, 0)])


def _is_product(size: _Sizes, strides: _Sizes, pads: _Pads) -> bool:
    """Whether a convolution is a matrix product, which is faster on CPUs."""
    return math.prod(size) == math.prod(strides) == 1 and not any(map(any, pads))


def _adjoint(kernel: jax.Array) -> jax.Array:
    """[*size c d] to [*size d c], flipped along each axis of the grid."""
    return jnp.flip(kernel, tuple(range(kernel.ndim - 2))).swapaxes(-2, -1)


def _layout(rank: int) -> tuple[str, str, str]:
    """Channels last, in the words of `jax.lax`."""
    grid = 'DHW'[3 - rank :]
    return f'N{grid}C', f'{grid}IO', f'N{grid}C'


def _down_fwd(x, kernel, strides, apart, pads):  # noqa: ANN001, ANN202
    return _down(x.value, kernel.value, strides, apart, pads), _saved(x, kernel)


def _down_bwd(strides, apart, pads, saved, g):  # noqa: ANN001, ANN202
    (x, kernel), wanted = saved
    return _wanted_in_order(
        wanted,
        lambda: _up(g, kernel, strides, apart, pads, x.shape[1:-1]),
        lambda: _correlate(x, g, strides, apart, pads, kernel.shape[:-2]),
    )


def _up_fwd(y, kernel, strides, apart, pads, size):  # noqa: ANN001, ANN202
    return _up(y.value, kernel.value, strides, apart, pads, size), _saved(y, kernel)


def _up_bwd(strides, apart, pads, size, saved, g):  # noqa: ANN001, ANN202
    (y, kernel), wanted = saved
    return _wanted_in_order(
        wanted,
        lambda: _down(g, kernel, strides, apart, pads),
        lambda: _correlate(g, y, strides, apart, pads, kernel.shape[:-2]),
    )


def _correlate_fwd(x, y, strides, apart, pads, size):  # noqa: ANN001, ANN202
    return _correlate(x, y, strides, apart, pads, size), (x, y)


def _correlate_bwd(strides, apart, pads, size, saved, g):  # noqa: ANN001, ANN202
    x, y = saved
    return _up(y, g, strides, apart, pads, x.shape[1:-1]), _down(x, g, strides, apart, pads)


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
    return tuple((int(before), int(after)) for before, after in padding)

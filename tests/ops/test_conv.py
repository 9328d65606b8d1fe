"""Convolutions against `jax.lax`: values, gradients, and gradients of gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vq_jax.errors import UserError
from vq_jax.ops import conv

LAYOUTS = {1: ('NWC', 'WIO', 'NWC'), 2: ('NHWC', 'HWIO', 'NHWC'), 3: ('NDHWC', 'DHWIO', 'NDHWC')}


def lax_conv(x, kernel, strides, padding):
    layout, strides = LAYOUTS[x.ndim - 2], np.broadcast_to(strides, x.ndim - 2)
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


def lax_transpose(x, kernel, strides, padding):
    layout, strides = LAYOUTS[x.ndim - 2], np.broadcast_to(strides, x.ndim - 2)
    return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=layout)


CASES = [
    # grid, kernel, strides, padding
    ((8, 8), (4, 4), 2, 'SAME'),
    ((9, 7), (3, 4), 2, 'SAME'),
    ((9, 10), (4, 3), 2, 'VALID'),
    ((8, 8), (3, 3), 1, 'SAME'),
    ((7, 6), (4, 2), 1, 'SAME'),
    ((7, 6), (3, 2), 1, 'VALID'),
    ((7, 7), (2, 2), 3, 'VALID'),
    ((8, 8), (1, 1), 1, 'SAME'),
    ((8, 8), (1, 1), 2, 'SAME'),
    ((6, 5), (5, 5), 3, 'SAME'),
    ((9, 8), (3, 4), (1, 2), 'SAME'),
    ((13,), (8,), 4, 'SAME'),
    ((13,), (3,), 2, 'VALID'),
    ((5,), (1,), 1, 'SAME'),
    ((4, 5, 6), (3, 4, 4), (1, 2, 2), 'SAME'),
    ((5, 4, 7), (2, 3, 1), (2, 1, 3), 'VALID'),
    ((3, 2, 4), (1, 1, 1), 1, 'SAME'),
]


@pytest.mark.parametrize('grid, size, strides, padding', CASES)
@pytest.mark.parametrize('ours, reference', [(conv.conv, lax_conv), (conv.conv_transpose, lax_transpose)])
def test_values_and_two_orders_of_gradients(ours, reference, grid, size, strides, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *grid, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*size, 3, 4)) * 0.3, jnp.float32)

    def everything(f):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(f(x, kernel, strides, padding)))

        def penalty(x, kernel):
            return jnp.sum(jnp.square(jax.grad(loss)(x, kernel)))

        return jax.jit(
            lambda x, k: (
                f(x, k, strides, padding),
                jax.grad(loss, (0, 1))(x, k),
                jax.grad(penalty, (0, 1))(x, k),
            )
        )(x, kernel)

    for got, expected in zip(
        jax.tree.leaves(everything(ours)), jax.tree.leaves(everything(reference)), strict=True
    ):
        assert got.shape == expected.shape
        scale = float(jnp.max(jnp.abs(expected)))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * max(scale, 1))


@pytest.mark.parametrize(
    'grid, size, strides, dilation, padding, channels',
    [
        ((17,), (7,), (1,), (3,), 'SAME', (3, 4)),
        ((17,), (3,), (1,), (9,), ((18, 0),), (4, 3)),
        ((9, 8), (3, 4), (2, 1), (2, 3), 'SAME', (3, 4)),
    ],
)
def test_dilation(grid, size, strides, dilation, padding, channels):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *grid, channels[0])), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*size, *channels)) * 0.3, jnp.float32)

    def reference(x, kernel):
        layout = LAYOUTS[len(grid)]
        return lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=layout
        )

    def everything(f):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(f(x, kernel)))

        def penalty(x, kernel):
            return jnp.sum(jnp.square(jax.grad(loss)(x, kernel)))

        return jax.jit(lambda x, k: (f(x, k), jax.grad(loss, (0, 1))(x, k), jax.grad(penalty, 1)(x, k)))

    got = everything(lambda x, kernel: conv.conv(x, kernel, strides, padding, dilation))(x, kernel)
    expected = everything(reference)(x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, expected)


def test_explicit_padding():
    x = jnp.arange(2 * 5 * 6 * 2, dtype=jnp.float32).reshape(2, 5, 6, 2) / 100
    kernel = jnp.linspace(-1, 1, 3 * 2 * 2 * 3).reshape(3, 2, 2, 3)
    for padding, same in ((((0, 2), (1, 0)),) * 2, (((0, 2),), ((0, 2),) * 2)):
        np.testing.assert_allclose(
            conv.conv(x, kernel, 2, padding), lax_conv(x, kernel, 2, same), rtol=1e-5, atol=1e-5
        )


def test_strides_for_another_number_of_axes_are_a_mistake():
    with pytest.raises(UserError, match=r'strides is \(1, 2\); .* all 3 axes'):
        conv.conv(jnp.zeros((1, 4, 4, 4, 2)), jnp.zeros((3, 3, 3, 2, 2)), (1, 2))


@pytest.mark.parametrize(
    'grid, size, strides',
    [
        ((8, 8), (4, 4), (2, 2)),
        ((9, 9), (3, 3), (2, 2)),
        ((10, 10), (2, 2), (3, 3)),
        ((11,), (5,), (4,)),
        ((4, 5, 6), (3, 4, 3), (1, 2, 3)),
    ],
)
def test_both_forms_of_the_transpose_are_the_adjoint(grid, size, strides):
    """`<down(x), y> = <x, up(y)>` for the form that spreads and the form that regroups."""
    rng = np.random.default_rng(1)
    pads = ((1, 1), (0, 1), (0, 0))[: len(grid)]
    x = jnp.asarray(rng.normal(size=(2, *grid, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*size, 3, 4)), jnp.float32)
    down = lax_conv(x, kernel, strides, pads)
    y = jnp.asarray(rng.normal(size=down.shape), jnp.float32)
    for up in (conv._up_by_spreading, conv._up_by_regrouping):
        spread = {'apart': (1,) * len(grid)} if up is conv._up_by_spreading else {}
        back = up(y, kernel, strides=strides, pads=pads, size=grid, **spread)
        np.testing.assert_allclose(jnp.vdot(down, y), jnp.vdot(x, back), rtol=1e-4)


def test_bfloat16_stays_bfloat16():
    x = jnp.ones((1, 8, 8, 4), jnp.bfloat16)
    kernel = jnp.ones((4, 4, 4, 4), jnp.bfloat16) / 64
    for f in (conv.conv, conv.conv_transpose):
        value, gradient = jax.value_and_grad(lambda k, f=f: f(x, k, 2).astype(jnp.float32).sum())(kernel)
        assert f(x, kernel, 2).dtype == gradient.dtype == jnp.bfloat16
        assert np.isfinite(value)


@pytest.mark.parametrize('f', [conv.conv, conv.conv_transpose])
def test_only_the_gradients_that_are_asked_for_are_computed(f):
    """Of a frozen kernel or of images that are data none is, on CPUs, where one waits for the other."""
    x, kernel = jnp.ones((2, 8, 8, 16)), jnp.ones((3, 3, 16, 16))

    def flops(of):
        step = jax.jit(jax.grad(lambda x, kernel: jnp.sum(jnp.sin(f(x, kernel, 2))), of))
        return step.lower(x, kernel).compile().cost_analysis()['flops']

    forward = jax.jit(lambda x, kernel: f(x, kernel, 2)).lower(x, kernel).compile().cost_analysis()['flops']
    assert max(flops(0), flops(1)) < flops((0, 1)) - 0.5 * forward


def test_loops_keep_the_layout_that_is_fast_on_cpus():
    """XLA brings other layouts into it everywhere but in loops, where they take seventy times as long."""

    def gradients(x, kernel):
        def body(total, x):
            def loss(x, kernel):
                y = conv.conv_transpose(conv.conv(x, kernel, 2), kernel.swapaxes(2, 3), 2)
                return jnp.sum(jnp.square(y))

            return jax.tree.map(jnp.add, total, jax.grad(loss, (0, 1))(x, kernel)), None

        return lax.scan(body, (x[0], kernel), x)[0]

    compiled = jax.jit(gradients).lower(jnp.ones((3, 2, 8, 8, 3)), jnp.ones((4, 4, 3, 5))).compile()
    layouts = re.findall(r'dim_labels=(\S+?),? ', compiled.as_text())
    assert len(layouts) >= 6 and set(layouts) == {'b01f_01io->b01f'}


@pytest.mark.parametrize('platform', ['cpu', 'cuda', 'tpu'])
@pytest.mark.parametrize('f', [conv.conv, conv.conv_transpose])
def test_what_cpus_need_is_in_no_program_for_others(f, platform):
    """Programs are also made for devices that are not there, by a process whose own are CPUs."""

    def gradients(x, kernel):
        return jax.vjp(lambda x, kernel: f(x, kernel, 2), x, kernel)[1](f(x, kernel, 2))

    traced = jax.jit(gradients).trace(jnp.ones((2, 8, 8, 3)), jnp.ones((4, 4, 3, 5)))
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert program.count('stablehlo.convolution') == 3
    assert ('optimization_barrier' in program) == ('stablehlo.pad' in program) == (platform == 'cpu')

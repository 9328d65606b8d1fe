# ruff: noqa: E501 (lines of programs are as long as they are)
"""What is read in the text of compiled programs, against numbers counted by hand."""

import pytest

from vq_jax.training.hlo import Collective, collectives, hbm_bytes, loops, repeated_flops

# Of the program of libtpu 0.0.42.1 for a v5e:2x2, in which 8 products with a matrix that is split over the
# chips follow each other in a loop; shortened.
IN_A_LOOP = """HloModule jit_f, is_scheduled=true

%wide.region_0.1_spmd.sunk (wide.param.2: (s32[], f32[1024,1024], bf16[1024,256])) -> (s32[], f32[1024,1024]) {
  %wide.param.2 = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)S(1)}, bf16[1024,256]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %get-tuple-element.52 = bf16[1024,256]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%wide.param.2), index=2
  %all-gather.8 = bf16[1024,1024]{1,0:T(8,128)(2,1)S(1)} all-gather(%get-tuple-element.52), channel_id=2, dimensions={1}
  %get-tuple-element.53 = s32[]{:T(128)} get-tuple-element(%wide.param.2), index=0
  %copy.4 = s32[]{:T(128)} copy(%get-tuple-element.53)
  %constant.5 = s32[]{:T(128)} constant(1)
  %add.6 = s32[]{:T(128)} add(%copy.4, %constant.5)
  ROOT %tuple.1 = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)S(1)}) tuple(%add.6, %all-gather.8)
}

%wide.region_1.2_spmd (wide.param.1: (s32[], f32[1024,1024])) -> pred[] {
  %constant.4.clone.1 = s32[]{:T(128)} constant(8)
  %wide.param.1 = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)S(1)}) parameter(0)
  %get-tuple-element.26 = s32[]{:T(128)} get-tuple-element(%wide.param.1), index=0
  ROOT %lt.3 = pred[]{:T(512)} compare(%get-tuple-element.26, %constant.4.clone.1), direction=LT
}

%region_2.3.clone (reduce_sum.8: f32[], reduce_sum.9: f32[]) -> f32[] {
  %reduce_sum.8 = f32[] parameter(0)
  %reduce_sum.9 = f32[] parameter(1)
  ROOT %reduce_sum.10 = f32[] add(%reduce_sum.8, %reduce_sum.9)
}

ENTRY %main.4_spmd (param.3: f32[1024,256], param.2: f32[1024,1024]) -> f32[1024] {
  %tuple.15 = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)S(1)}) tuple(%param.2)
  %while.9 = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)S(1)}) while(%tuple.15), condition=%wide.region_1.2_spmd, body=%wide.region_0.1_spmd.sunk
  %reduce = f32[1024]{0:T(1024)S(1)} fusion(%while.9), kind=kLoop, calls=%region_2.3.clone
  ROOT %all-reduce = f32[1024]{0:T(1024)} all-reduce(%reduce), channel_id=3, to_apply=%region_2.3.clone
}
"""

IN_PIECES = """HloModule jit_g

%first (param_0.72: bf16[32,512]) -> bf16[512,512] {
  %param_0.72 = bf16[32,512]{1,0} parameter(0)
  ROOT %all-gather.25 = bf16[512,512]{1,0} all-gather(%param_0.72), channel_id=3, dimensions={0}
}

%second (param_0.75: bf16[32,512]) -> bf16[512,512] {
  %param_0.75 = bf16[32,512]{1,0} parameter(0)
  ROOT %all-gather.27 = bf16[512,512]{1,0} all-gather(%param_0.75), channel_id=3, dimensions={0}
}

ENTRY %main (p: bf16[32,512], q: f32[7]) -> bf16[512,512] {
  %p = bf16[32,512]{1,0} parameter(0)
  %q = f32[7]{0} parameter(1)
  %start = (bf16[32,512]{1,0}, bf16[512,512]{1,0}) all-gather-start(%p), channel_id=5, dimensions={0}
  %done = bf16[512,512]{1,0} all-gather-done(%start)
  %summed = (f32[7]{0}, bf16[32,512]{1,0}) all-reduce(%q, /*index=1*/%p), channel_id=6
  %one = bf16[512,512]{1,0} fusion(%p), kind=kCustom, calls=%first
  ROOT %two = bf16[512,512]{1,0} fusion(%p), kind=kCustom, calls=%second
}
"""

# Six examples fill eight places of a tile, and what has S(1) lies in vector memory.
THROUGH_HBM = """HloModule jit_h, is_scheduled=true

%normalised (param_0: bf16[6,256,128], param_1: bf16[6,256,128], param_2: f32[16,8,128]) -> (f32[6,128], bf16[6,256,128]) {
  %param_0 = bf16[6,256,128]{2,0,1:T(8,128)(2,1)} parameter(0)
  %param_1 = bf16[6,256,128]{2,0,1:T(8,128)(2,1)} parameter(1)
  %param_2 = f32[16,8,128]{2,1,0:T(8,128)} parameter(2)
  %row = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%param_2), dynamic_slice_sizes={1,8,128}
  %sums = f32[6,128]{1,0:T(8,128)} reduce(%param_0, %row), to_apply=%add
  %product = bf16[6,256,128]{2,0,1:T(8,128)(2,1)} multiply(%param_0, %param_1)
  ROOT %tuple.1 = (f32[6,128]{1,0:T(8,128)}, bf16[6,256,128]{2,0,1:T(8,128)(2,1)}) tuple(%sums, %product)
}

%kept (param_0.1: f32[16,8,128], param_1.1: f32[1,8,128]) -> f32[16,8,128] {
  %param_0.1 = f32[16,8,128]{2,1,0:T(8,128)} parameter(0)
  %param_1.1 = f32[1,8,128]{2,1,0:T(8,128)} parameter(1)
  ROOT %updated = f32[16,8,128]{2,1,0:T(8,128)} dynamic-update-slice(%param_0.1, %param_1.1)
}

%body (state: (f32[16,8,128], f32[1,8,128])) -> (f32[16,8,128], f32[1,8,128]) {
  %state = (f32[16,8,128]{2,1,0:T(8,128)}, f32[1,8,128]{2,1,0:T(8,128)S(1)}) parameter(0)
  %table = f32[16,8,128]{2,1,0:T(8,128)} get-tuple-element(%state), index=0
  %new = f32[1,8,128]{2,1,0:T(8,128)S(1)} get-tuple-element(%state), index=1
  %next = f32[16,8,128]{2,1,0:T(8,128)} fusion(%table, %new), kind=kLoop, calls=%kept
  ROOT %tuple.2 = (f32[16,8,128]{2,1,0:T(8,128)}, f32[1,8,128]{2,1,0:T(8,128)S(1)}) tuple(%next, %new)
}

%condition (state.1: (f32[16,8,128], f32[1,8,128])) -> pred[] {
  %state.1 = (f32[16,8,128]{2,1,0:T(8,128)}, f32[1,8,128]{2,1,0:T(8,128)S(1)}) parameter(0)
  ROOT %true = pred[]{:T(512)} constant(true)
}

ENTRY %main (x: bf16[6,256,128], table: f32[16,8,128]) -> f32[16,8,128] {
  %x = bf16[6,256,128]{2,0,1:T(8,128)(2,1)} parameter(0)
  %table.1 = f32[16,8,128]{2,1,0:T(8,128)} parameter(1)
  %copy-start = (bf16[6,256,128]{2,0,1:T(8,128)(2,1)S(1)}, bf16[6,256,128]{2,0,1:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%x)
  %copy-done = bf16[6,256,128]{2,0,1:T(8,128)(2,1)S(1)} copy-done(%copy-start)
  %fusion = (f32[6,128]{1,0:T(8,128)S(1)}, bf16[6,256,128]{2,0,1:T(8,128)(2,1)}) fusion(%x, %copy-done, %table.1), kind=kOutput, calls=%normalised
  %sums.1 = f32[6,128]{1,0:T(8,128)S(1)} get-tuple-element(%fusion), index=0
  %first = f32[1,8,128]{2,1,0:T(8,128)S(1)} slice(%table.1), slice={[0:1], [0:8], [0:128]}
  %tuple.3 = (f32[16,8,128]{2,1,0:T(8,128)}, f32[1,8,128]{2,1,0:T(8,128)S(1)}) tuple(%table.1, %first)
  %while = (f32[16,8,128]{2,1,0:T(8,128)}, f32[1,8,128]{2,1,0:T(8,128)S(1)}) while(%tuple.3), condition=%condition, body=%body
  ROOT %result = f32[16,8,128]{2,1,0:T(8,128)} get-tuple-element(%while), index=0
}
"""


def test_bytes_of_hbm_are_those_that_move():
    examples, row = 8 * 256 * 128 * 2, 8 * 128 * 4
    copied, fused = examples, examples + row + examples  # read; read, of the table a row, and written
    sliced, updated = row, row
    assert hbm_bytes(THROUGH_HBM) == copied + fused + sliced + updated
    five = THROUGH_HBM.replace('body=%body', 'body=%body, backend_config={"known_trip_count":{"n":"5"}}')
    assert hbm_bytes(five) == copied + fused + sliced + 5 * updated


def test_collectives_in_a_loop_count_as_often_as_it_runs():
    assert collectives(IN_A_LOOP) == (
        Collective('all-gather', 8, 8 * 1024 * 1024 * 2),
        Collective('all-reduce', 1, 1024 * 4),
    )
    assert loops(IN_A_LOOP) == (8,)
    assert loops(IN_A_LOOP.replace('constant(1)', 'constant(3)')) == (3,)  # counted 0, 3, 6
    for unknown in ('multiply(%copy.4', 'add(%copy.4, %copy.4', 'add(%constant.5'):
        assert loops(IN_A_LOOP.replace('add(%copy.4', unknown)) == ()
    assert loops(IN_A_LOOP.replace('tuple(%add.6', 'opt-barrier(%add.6')) == ()


def test_a_collective_in_pieces_counts_once_and_a_start_without_what_it_is_given():
    assert collectives(IN_PIECES) == (
        Collective('all-gather', 2, 2 * 512 * 512 * 2),
        Collective('all-reduce', 1, 7 * 4 + 32 * 512 * 2),
    )
    assert loops(IN_PIECES) == ()


def of_a_loop(product):
    """A program in which a loop runs a product 6 times that a fusion does, and another that it does itself."""
    return f"""HloModule jit_p, is_scheduled=true

%product (a: bf16[4,128,4,64], b: bf16[4,128,4,64]) -> bf16[4,4,128,128] {{
  %a = bf16[4,128,4,64]{{3,1,2,0}} parameter(0)
  %b = bf16[4,128,4,64]{{3,1,2,0}} parameter(1)
  ROOT %inside = bf16[4,4,128,128]{{3,2,1,0}} convolution(%a, %b), window={{size=4x4 stride=3x3 lhs_dilate=4x4}}, dim_labels=0b1f_0o1i->01bf
}}

%body (state: (s32[], bf16[4,128,4,64])) -> (s32[], bf16[4,128,4,64]) {{
  %state = (s32[], bf16[4,128,4,64]{{3,1,2,0}}) parameter(0)
  %x = bf16[4,128,4,64]{{3,1,2,0}} get-tuple-element(%state), index=1
  %scores = bf16[4,4,128,128]{{3,2,1,0}} fusion(%x, %x), kind=kOutput, calls=%product
  {product}
  ROOT %tuple = (s32[], bf16[4,128,4,64]{{3,1,2,0}}) tuple(%x)
}}

%condition (state.1: (s32[], bf16[4,128,4,64])) -> pred[] {{
  %state.1 = (s32[], bf16[4,128,4,64]{{3,1,2,0}}) parameter(0)
  ROOT %true = pred[] constant(true)
}}

ENTRY %main (y: bf16[4,128,4,64]) -> bf16[4,4,128,128] {{
  %y = bf16[4,128,4,64]{{3,1,2,0}} parameter(0)
  %images = bf16[6,16,8,32]{{3,2,1,0}} parameter(1)
  %kernel = bf16[3,3,32,64]{{3,2,1,0}} parameter(2)
  %once = bf16[4,4,128,128]{{3,2,1,0}} fusion(%y, %y), kind=kOutput, calls=%product
  %while = (s32[], bf16[4,128,4,64]{{3,1,2,0}}) while(%y), condition=%condition, body=%body, backend_config={{"known_trip_count":{{"n":"6"}}}}
  ROOT %also = bf16[4,4,128,128]{{3,2,1,0}} copy(%once)
}}
"""


SCORES = 2 * 4 * 4 * 128 * 128 * 64  # examples, heads, queries, keys, features


def test_products_of_a_loop_count_as_often_as_it_runs_beyond_the_first():
    assert repeated_flops(of_a_loop('')) == 5 * SCORES
    assert repeated_flops(IN_A_LOOP) == 0  # without products


@pytest.mark.parametrize(
    ('convolution', 'shape', 'operations'),
    [
        # A product [4 128 256] by [256 4 64], with the heads as a spatial axis that is otherwise padding.
        (
            'bf16[4,128,4,64] convolution(%p, %w), window={size=1x4 pad=0_0x3_3 rhs_reversal=0x1}, dim_labels=0bf1_i1o0->0b1f',
            {'p': '4,128,256,1', 'w': '256,4,64,1'},
            2 * 4 * 128 * 256 * 256,
        ),
        # Stride 2, with padding after the last row and column: 23 of 24 and 11 of 12 taps are no padding.
        (
            'bf16[6,8,4,64] convolution(%p, %w), window={size=3x3 stride=2x2 pad=0_1x0_1}, dim_labels=b01f_01io->b01f',
            {'p': '6,16,8,32', 'w': '3,3,32,64'},
            2 * 6 * 23 * 11 * 32 * 64,
        ),
        # The gradient of that for its input: as many.
        (
            'bf16[6,16,8,32] convolution(%p, %w), window={size=3x3 pad=2_1x2_1 lhs_dilate=2x2 rhs_reversal=1x1}, dim_labels=b01f_01oi->b01f',
            {'p': '6,8,4,64', 'w': '3,3,32,64'},
            2 * 6 * 23 * 11 * 32 * 64,
        ),
        # Each channel by itself.
        (
            'bf16[6,14,32] convolution(%p, %w), window={size=3}, dim_labels=b0f_0io->b0f, feature_group_count=32',
            {'p': '6,16,32', 'w': '3,1,32'},
            2 * 6 * 14 * 3 * 32,
        ),
        # The gradient of that for its kernel: examples are features, in 32 groups of the batch.
        (
            'bf16[3,1,32] convolution(%p, %w), window={size=14}, dim_labels=f0b_i0o->0bf, batch_group_count=32',
            {'p': '6,16,32', 'w': '6,14,32'},
            2 * 6 * 14 * 3 * 32,
        ),
    ],
)
def test_operations_of_products_are_counted_without_padding(convolution, shape, operations):
    given = [f'%{name} = bf16[{sizes}] parameter(0)' for name, sizes in shape.items()]
    text = of_a_loop('\n  '.join([*given, f'%own = {convolution}']))
    assert repeated_flops(text) == 5 * (SCORES + operations)

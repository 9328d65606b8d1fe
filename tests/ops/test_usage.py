"""Use of codes, on devices and on the host, against its definition."""

import jax
import numpy as np
import pytest

from vq_jax.ops.usage import CodeCounts, usage


@pytest.mark.parametrize('largest', [5, 2**31 - 1])
def test_both_equal_the_definition(largest):
    draw = np.random.default_rng(0)
    codes = draw.choice(np.linspace(0, largest, 6, dtype=np.int64), (3, 7, 5), p=[0.5, 0.2, 0.1, 0.1, 0.1, 0])
    p = np.unique(codes, return_counts=True)[1] / codes.size
    expected = {
        'perplexity': np.exp(-np.sum(p * np.log(p))),
        'code_entropy_bits': -np.sum(p * np.log2(p)),
        'codebook_usage': len(p) / (largest + 1),
    }
    found = jax.jit(usage, static_argnums=1)(codes.astype(np.int32), largest + 1)
    assert found == pytest.approx(expected, rel=1e-5)
    halves = CodeCounts.of(codes[:1]) + CodeCounts.of(codes[1:])
    expected['dead_codes'] = largest + 1 - len(p)
    assert halves.usage(largest + 1) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(halves.shares, np.sort(p)[::-1])


def test_the_most_used_codes_come_first():
    counts = CodeCounts.of(np.array([7, 2, 2, 2, 9, 9, 4]))
    # Of equally many, that of the smaller number is.
    assert list(counts.by_use.items()) == [(2, 3 / 7), (9, 2 / 7), (4, 1 / 7), (7, 1 / 7)]


def test_one_code_alone():
    assert usage(np.full((2, 3), 4, np.int32), 8) == pytest.approx(
        {'perplexity': 1, 'code_entropy_bits': 0, 'codebook_usage': 1 / 8}, abs=1e-6
    )

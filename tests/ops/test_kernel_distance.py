"""Against the double sums of the paper."""

import numpy as np
import pytest

from vq_jax.ops import kernel_distance as module
from vq_jax.ops.kernel_distance import kernel_distance


def by_hand(a, b):
    def k(x, y):
        return (np.dot(x, y) / len(x) + 1) ** 3

    within = [np.mean([k(x, y) for i, x in enumerate(z) for j, y in enumerate(z) if i != j]) for z in (a, b)]
    return sum(within) - 2 * np.mean([k(x, y) for x in a for y in b])


def test_equals_the_sums_of_the_paper(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((23, 6)), rng.standard_normal((17, 6)) + 0.3
    expected = by_hand(a, b)
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr(module, '_ENTRIES', 60)  # several blocks
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_is_unbiased():
    """The mean over many pairs of sets of one distribution is zero."""
    rng = np.random.default_rng(1)
    values = [kernel_distance(*rng.standard_normal((2, 20, 4))) for _ in range(500)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(500)

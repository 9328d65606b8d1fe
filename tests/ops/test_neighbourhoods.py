"""Against loops written from the papers, and sets whose answer is known."""

import numpy as np
import pytest

from vq_jax.ops import neighbourhoods
from vq_jax.ops.neighbourhoods import density_and_coverage, precision_and_recall


def radius(points, i, k):
    others = [np.linalg.norm(points[i] - y) for j, y in enumerate(points) if j != i]
    return sorted(others)[k - 1]


def inside(point, points, k):
    """Whether a point is in the ball of each of the points."""
    return [np.linalg.norm(point - x) <= radius(points, i, k) for i, x in enumerate(points)]


@pytest.mark.parametrize('entries', [2**24, 100])
def test_equal_the_definitions(entries, monkeypatch):
    monkeypatch.setattr(neighbourhoods, '_ENTRIES', entries)
    rng = np.random.default_rng(0)
    real, made = rng.standard_normal((40, 3)), 0.7 * rng.standard_normal((31, 3)) + 1.0
    precision = np.mean([any(inside(y, real, 3)) for y in made])
    recall = np.mean([any(inside(x, made, 3)) for x in real])
    assert 0 < precision < 1 and 0 < recall < 1
    assert precision_and_recall(real, made, 3) == pytest.approx((precision, recall))
    table = np.array([inside(y, real, 5) for y in made])
    expected = table.sum() / (5 * len(made)), table.any(0).mean()
    assert density_and_coverage(real, made, 5) == pytest.approx(expected)


def test_equal_sets_and_sets_far_apart():
    """A point of an equal set is in its own ball and, counting both ends, in k others on average."""
    x = np.random.default_rng(1).standard_normal((200, 16)).astype('float32') + 100
    assert precision_and_recall(x, x) == (1.0, 1.0)
    assert density_and_coverage(x, x) == pytest.approx((6 / 5, 1.0))
    assert precision_and_recall(x, x + 50) == (0.0, 0.0)
    assert density_and_coverage(x, x + 50) == (0.0, 0.0)


def test_points_that_are_many_times_there():
    x = np.repeat(np.random.default_rng(2).standard_normal((10, 8)), 7, axis=0)
    assert precision_and_recall(x, x) == (1.0, 1.0)


def test_too_few_points():
    with pytest.raises(ValueError, match='no neighbour number 3'):
        precision_and_recall(np.eye(3), np.eye(3))

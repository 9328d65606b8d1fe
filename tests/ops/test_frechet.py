"""Against closed forms and SciPy's matrix root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from vq_jax.ops.frechet import frechet_distance


def test_diagonal_covariances_have_a_closed_form():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 3, (2, 20))
    m, n = rng.standard_normal((2, 20))
    expected = np.sum((m - n) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert frechet_distance(m, np.diag(a), n, np.diag(b)) == pytest.approx(expected, rel=1e-9)


def test_full_covariances_equal_the_formula_with_scipys_root():
    rng = np.random.default_rng(1)
    x, y = (
        rng.standard_normal((200, 30)) @ rng.standard_normal((30, 30)),
        rng.standard_normal((150, 30)) + 0.5,
    )
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    m, n = x.mean(0), y.mean(0)
    expected = np.sum((m - n) ** 2) + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(m, a, n, b) == pytest.approx(expected, rel=1e-6)


def test_a_point_has_no_spread():
    """As when all samples are one image."""
    covariance = np.diag(np.arange(1.0, 5))
    zero = np.zeros((4, 4))
    assert frechet_distance(np.ones(4), zero, np.zeros(4), covariance) == pytest.approx(4 + 10)
    assert frechet_distance(np.ones(4), zero, np.zeros(4), zero) == pytest.approx(4)


def test_fewer_vectors_than_dimensions():
    """Two singular covariances in planes that are at right angles have nothing in common."""
    x = np.random.default_rng(2).standard_normal((10, 40))
    a, b = x.copy(), x.copy()
    a[:, 20:], b[:, :20] = 0, 0
    a, b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    zero = np.zeros(40)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(np.trace(a + b), rel=1e-6)
    assert frechet_distance(zero, a, zero, a) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize('place', [(0, 0), (2, 2), (1, 3)])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_what_is_not_finite_shows(place, value):
    covariance = np.eye(4)
    covariance[place] = covariance[place[::-1]] = value
    assert np.isnan(frechet_distance(np.zeros(4), covariance, np.zeros(4), np.eye(4)))
    assert np.isnan(frechet_distance(np.full(4, value), np.eye(4), np.zeros(4), np.eye(4)))

"""The Fréchet distance between normal distributions, on the host in float64."""

import numpy as np


def frechet_distance(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """The squared Fréchet (2-Wasserstein) distance between two normal distributions.

    `|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^(1/2) C_b C_a^(1/2))^(1/2))`: Dowson and Landau 1982; of
    Inception's features, the FID of Heusel et al. 2017 (arXiv:1706.08500, equation 6).

    The trace of the root is the sum of the singular values of `C_b^(1/2) C_a^(1/2)`. Roots of symmetric
    matrices come from their eigenvectors, so that nothing is complex, and singular covariances (of fewer
    vectors than dimensions) need no correction. Taking singular values, and not the roots of the
    eigenvalues of the product's square, keeps rounding from being magnified by a root.

    Args:
        mean_a: [d].
        covariance_a: symmetric, without negative eigenvalues but for rounding [d d].
        mean_b: [d].
        covariance_b: likewise [d d].

    Returns:
        0 or more.
    """
    mean_a, mean_b = np.float64(mean_a), np.float64(mean_b)
    root = _root(covariance_b) @ _root(covariance_a)
    overlap = np.linalg.svd(root, compute_uv=False).sum()
    distance = np.sum(np.square(mean_a - mean_b)) + np.trace(covariance_a) + np.trace(covariance_b)
    return max(0.0, float(distance - 2 * overlap))


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root; eigenvalues below zero, which are rounding, count as zero."""
    values, vectors = np.linalg.eigh(np.float64(matrix))
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T

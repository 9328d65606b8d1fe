"""The Fréchet distance between normal distributions, on the host in float64."""

import numpy as np
from scipy.linalg.lapack import dpstrf


def frechet_distance(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """The squared Fréchet (2-Wasserstein) distance between two normal distributions.

    `|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^(1/2) C_b C_a^(1/2))^(1/2))`: Dowson and Landau 1982; of
    Inception's features, the FID of Heusel et al. 2017 (arXiv:1706.08500, equation 6).

    The trace of the root is the sum of the singular values of `F_b^T F_a`, for any factors with
    `C = F F^T`. Cholesky factors with pivots need no eigenvectors, and singular covariances (of fewer
    vectors than dimensions) no correction: their factors are narrow. Taking singular values, and not the
    roots of the eigenvalues of the product's square, keeps rounding from being magnified by a root.

    Of means [d] and covariances [d d], which are symmetric, without negative eigenvalues but for rounding; 0
    or more, or NaN if any of them is not finite.
    """
    mean_a, mean_b = np.float64(mean_a), np.float64(mean_b)
    covariance_a, covariance_b = np.float64(covariance_a), np.float64(covariance_b)
    if not all(np.isfinite(x).all() for x in (mean_a, covariance_a, mean_b, covariance_b)):
        return float('nan')
    overlap = np.linalg.svd(_factor(covariance_b).T @ _factor(covariance_a), compute_uv=False).sum()
    distance = np.sum(np.square(mean_a - mean_b)) + np.trace(covariance_a) + np.trace(covariance_b)
    return float(np.maximum(distance - 2 * overlap, 0))


def _factor(matrix: np.ndarray) -> np.ndarray:
    """F [d r] with `F F^T` the matrix of rank r (Higham 2002, "Accuracy and Stability", section 10.3)."""
    lower, order, rank, _ = dpstrf(matrix, lower=1, tol=0)  # until a pivot is not above 0
    factor = np.zeros((len(matrix), rank))
    factor[order - 1] = np.tril(lower)[:, :rank]
    return factor

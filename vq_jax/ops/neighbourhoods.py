"""How samples and images cover each other, by balls around their features; on the host in float64.

The ball around a point reaches to its k-th nearest neighbour in its own set, the point itself not counted,
and holds its border.
"""

from collections.abc import Iterator

import numpy as np

_ENTRIES = 2**24  # of the distance matrix that are held at once
# Squared distances come from squared norms; what is within this share of the largest norm is rounding.
_ROUNDING = 1e-12


def precision_and_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """How much of what is generated is like the real, and how much of the real is generated.

    Kynkäänniemi et al. 2019 (arXiv:1904.06991), equations 1 and 2: the share of generated points in the
    ball of any real one, and the share of real points in the ball of any generated one. Of features [n d] and
    [m d], more than k of each; the paper has m = n.
    """
    real, generated = _centred(real, generated)
    around_real, around_generated = (_squared_radii(x, k) for x in (real, generated))
    covered, inside = 0, np.zeros(len(generated), bool)
    for rows, distances in _squared_distances(real, generated):
        covered += np.sum(np.any(distances <= around_generated, axis=1))
        inside |= np.any(distances <= around_real[rows, None], axis=0)
    return float(inside.mean()), float(covered / len(real))


def density_and_coverage(real: np.ndarray, generated: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Like precision and recall, but less moved by outliers.

    Naeem et al. 2020 (arXiv:2002.09797), equations 4 and 5: how many balls of real points a generated
    point is in, on average and divided by k; and the share of real points whose ball holds any generated
    one. Of features [n d], more than k, and [m d]. A density of 1 is expected of samples from the
    distribution of the real.
    """
    real, generated = _centred(real, generated)
    around_real = _squared_radii(real, k)
    held = covered = 0
    for rows, distances in _squared_distances(real, generated):
        inside = distances <= around_real[rows, None]
        held += np.sum(inside)
        covered += np.sum(np.any(inside, axis=1))
    return float(held / (k * len(generated))), float(covered / len(real))


def _centred(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both around the mean of the real, where distances lose the fewest digits."""
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    mean = real.mean(0)
    return real - mean, generated - mean


def _squared_radii(x: np.ndarray, k: int) -> np.ndarray:
    """Of the balls around all points [n], with what rounding may take from a distance."""
    if len(x) <= k:
        raise ValueError(f'{len(x)} points have no neighbour number {k} each; give more.')
    # The nearest is the point itself.
    reach = [np.partition(distances, k, axis=1)[:, k] for _, distances in _squared_distances(x, x)]
    return np.concatenate(reach) + _ROUNDING * np.max(np.sum(x * x, axis=1))


def _squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows of x after others, with their squared distances from all of y."""
    step = max(1, _ENTRIES // len(y))
    norms = np.sum(y * y, axis=1)
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        some = x[rows]
        yield rows, np.sum(some * some, axis=1)[:, None] + norms - 2 * some @ y.T

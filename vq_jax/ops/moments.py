"""Mean and covariance of vectors that come in batches, on the host in float64."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """The first two moments of a set of vectors; those of two sets merge into those of both.

    Attributes:
        count: how many vectors.
        mean: float64 [d].
        scatter: the sum of outer products of their differences from the mean, float64 [d d].
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> 'Moments':
        """Those of vectors [n d], of which there may be none."""
        vectors = np.asarray(vectors, np.float64)
        n, d = vectors.shape
        mean = vectors.mean(0) if n else np.zeros(d)
        centred = vectors - mean
        return cls(n, mean, centred.T @ centred)

    def merge(self, other: 'Moments') -> 'Moments':
        """Those of the vectors of both (Chan et al. 1979, "Updating formulae", equations 2.1)."""
        count = self.count + other.count
        if not count:
            return self
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = np.outer(difference, difference) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased estimate, float64 [d d]; there must be two vectors or more."""
        return self.scatter / (self.count - 1)

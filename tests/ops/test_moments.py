"""Moments of batches equal NumPy's of the whole, however it is cut."""

import numpy as np
import pytest

from vq_jax.ops.moments import Moments


@pytest.mark.parametrize('cuts', [(), (1,), (0, 0, 7), (3, 50, 51, 100), range(1, 101)])
def test_any_chunks(cuts):
    x = np.random.default_rng(0).standard_normal((101, 5)) * [1, 2, 3, 4, 5] + 1e6
    whole = Moments.of(x[:0])
    for part in np.split(x, cuts):
        whole = whole.merge(Moments.of(part))
    assert whole.count == 101
    np.testing.assert_allclose(whole.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(whole.covariance, np.cov(x, rowvar=False), rtol=1e-8, atol=1e-8)

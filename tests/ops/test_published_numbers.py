"""Distances between sets of features against the code that published numbers are computed with.

Expected numbers were printed by pytorch-fid 0.3.0 (`calculate_frechet_distance`) and torch-fidelity 0.4.0
(`kid_features_to_metric` with one subset of all 500, `isc_features_to_metric` without shuffling,
`prc_features_to_metric`) for the features below. Density and coverage of the same features are those of prdc
0.2, the code of Naeem et al. 2020 on PyPI (`compute_prdc` with `nearest_k=5`).
"""

import numpy as np
import pytest

from vq_jax.ops.frechet import frechet_distance
from vq_jax.ops.inception_score import inception_score
from vq_jax.ops.kernel_distance import kernel_distance
from vq_jax.ops.neighbourhoods import density_and_coverage, precision_and_recall


@pytest.fixture(scope='module')
def features():
    rng = np.random.RandomState(0)
    mix = rng.standard_normal((64, 64)) / 8
    real = rng.standard_normal((500, 64)) @ mix
    made = rng.standard_normal((500, 64)) @ mix * 1.1 + 0.1
    return [np.maximum(x, 0).astype('float32') for x in (real, made)]


def test_frechet_distance(features):
    real, made = ((np.float64(x).mean(0), np.cov(np.float64(x), rowvar=False)) for x in features)
    assert frechet_distance(*real, *made) == pytest.approx(2.5896249674935, rel=1e-9)


def test_kernel_distance(features):
    assert kernel_distance(*features) == pytest.approx(0.05778503004121305, rel=1e-9)


def test_inception_score(features):
    scores = inception_score(3 * features[0], splits=10)
    found = np.mean(scores), np.std(scores)
    np.testing.assert_allclose(found, (7.530507039488991, 0.7084565028101614), rtol=1e-6)


def test_precision_and_recall(features):
    assert precision_and_recall(*features) == pytest.approx((0.372, 0.934), abs=1e-6)


def test_density_and_coverage(features):
    assert density_and_coverage(*features) == pytest.approx((0.2992, 0.678), abs=1e-9)

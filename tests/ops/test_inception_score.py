"""Against the definition and its extremes."""

import numpy as np
import pytest

from vq_jax.ops.inception_score import inception_score


def test_equals_the_definition_in_each_split():
    logits = np.random.default_rng(0).standard_normal((60, 7))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = [np.exp(np.mean(np.sum(q * np.log(q / q.mean(0)), axis=1))) for q in (p[:30], p[30:])]
    np.testing.assert_allclose(inception_score(logits, 2), expected, rtol=1e-12)


def test_extremes():
    sure = 1000 * np.eye(10)
    assert inception_score(sure) == pytest.approx(10)
    assert inception_score(np.repeat(sure[:1], 5, axis=0)) == pytest.approx(1)  # one class only
    assert inception_score(np.zeros((5, 10))) == pytest.approx(1)  # never sure
    with pytest.raises(ValueError, match='splits'):
        inception_score(sure, 11)

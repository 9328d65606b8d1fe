"""The delay pattern, as MusicGen has it."""

import jax.numpy as jnp
import numpy as np

from vq_jax.ops.delay import delayed, undelayed


def test_steps_are_those_of_the_published_pattern():
    """Four positions of three codes, the example of audiocraft's `DelayedPatternProvider`; 0 stands for none.

    Which leaves out the first column, where nothing is predicted, and goes on to the last code.
    """
    codes = jnp.array([[1, 11, 21], [2, 12, 22], [3, 13, 23], [4, 14, 24]])[None]
    steps = delayed(codes, 0)
    expected = [[1, 2, 3, 4, 0, 0], [0, 11, 12, 13, 14, 0], [0, 0, 21, 22, 23, 24]]
    np.testing.assert_array_equal(steps[0].T, expected)
    np.testing.assert_array_equal(undelayed(steps), codes)


def test_vectors_are_delayed_as_codes_are():
    vectors = np.random.default_rng(0).normal(size=(2, 3, 2, 4)).astype(np.float32)
    steps = delayed(jnp.asarray(vectors), jnp.nan)
    assert steps.shape == (2, 4, 2, 4)
    np.testing.assert_array_equal(steps[:, 1:, 1], vectors[:, :, 1])
    assert np.isnan(steps[:, 0, 1]).all() and np.isnan(steps[:, -1, 0]).all()
    np.testing.assert_array_equal(undelayed(steps), vectors)

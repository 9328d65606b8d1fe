"""Dropout, and classes that are kept from a network, with a random key for each example."""

import jax
import numpy as np
import pytest

from vq_jax.ops.dropout import hide_labels

KEYS = jax.random.split(jax.random.key(5), 4000)
CLASSES = np.arange(4000, dtype=np.int32) % 7


@pytest.mark.parametrize('share', [0.0, 0.1, 0.7, 1.0])
def test_a_share_of_the_classes_is_hidden(share):
    found = np.asarray(hide_labels(KEYS, CLASSES, share, 7))
    hidden = found == 7
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found[~hidden], CLASSES[~hidden])
    # Of each class alike, within five standard errors.
    for label in range(7):
        of_class = hidden[label == CLASSES]
        error = 5 * np.sqrt(share * (1 - share) / len(of_class))
        assert of_class.mean() == pytest.approx(share, abs=error)


def test_what_is_hidden_depends_on_the_key_of_each_example_alone():
    whole = np.asarray(hide_labels(KEYS, CLASSES, 0.5, 7))
    np.testing.assert_array_equal(hide_labels(KEYS[100:103], CLASSES[100:103], 0.5, 7), whole[100:103])
    other = np.asarray(hide_labels(KEYS, (CLASSES + 1) % 7, 0.5, 9))
    np.testing.assert_array_equal(other == 9, whole == 7)

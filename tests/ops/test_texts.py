"""Texts with ends and holes, by hand."""

import numpy as np

from vq_jax.ops.texts import fill_text, known_to_go_on, up_to_end

TEXTS = np.array([[5, 6, 7, 8, -1, -1], [5, 6, -1, -1, -1, -1], [5, 6, 7, 8, 9, 4]])
HOLE = np.array([[0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [1, 1, 0, 0, 1, 1]], bool)


def test_a_hole_is_filled_as_far_as_the_text_is_known_to_go_on():
    goes_on = [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0]]
    np.testing.assert_array_equal(known_to_go_on(TEXTS, HOLE), np.array(goes_on, bool))
    filled = [[5, 5, 5, 8, -1, -1], [5, 6, -1, -1, -1, -1], [7, 7, 7, 8, -1, -1]]
    np.testing.assert_array_equal(fill_text(TEXTS, HOLE), filled)
    # Of what is in the hole nothing is seen, and where there is nothing else there is no text.
    np.testing.assert_array_equal(fill_text(np.where(HOLE, 3, TEXTS), HOLE), filled)
    np.testing.assert_array_equal(fill_text(TEXTS, np.ones_like(HOLE)), np.full((3, 6), -1))


def test_an_end_where_a_text_goes_on_is_a_missing_token():
    codes = np.array([[0, 3, 1, 2, 3, 1]])
    np.testing.assert_array_equal(up_to_end(codes, 3), [[0, -1, -1, -1, -1, -1]])
    goes_on = np.arange(6)[None] < 4
    np.testing.assert_array_equal(up_to_end(codes, 3, goes_on), [[0, -1, 1, 2, -1, -1]])

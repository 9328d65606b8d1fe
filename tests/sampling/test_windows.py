"""Windows of one length over a stretch of a longer example."""

import itertools

import numpy as np
import pytest

from vq_jax.sampling.windows import Window, windows

CASES = [
    (length, total, start, stop)
    for length, total in itertools.product((1, 7, 8), (1, 5, 8, 20))
    for start, stop in itertools.product(range(total + 1), range(30))
    if start < stop
]


@pytest.mark.parametrize('length', [1, 7, 8])
def test_the_stretch_is_sampled_once_from_its_start_to_its_end(length):
    for of, total, start, stop in (case for case in CASES if case[0] == length):
        whole = max(of, total, stop)
        known = np.arange(whole) < total
        known[start:stop] = False
        for window in windows(of, total, start, stop):
            assert 0 <= window.first <= whole - of and 0 <= window.start < window.stop <= of
            seen = known[window.first : window.first + of]
            assert seen[: window.start].all() and not seen[window.start : window.stop].any()
            if window.first + window.stop < stop:  # then no more of it is in the window
                assert window.stop == of, (total, start, stop, window)
            seen[window.start : window.stop] = True
        assert known[: max(total, stop)].all(), (total, start, stop)


@pytest.mark.parametrize(
    'case, expected',
    [
        ((8, 20, 9, 11), [Window(6, 3, 5)]),  # in the middle
        ((8, 8, 1, 8), [Window(0, 1, 8)]),  # as far as there is more
        ((8, 3, 3, 5), [Window(0, 3, 5)]),
        ((8, 5, 1, 3), [Window(0, 1, 3)]),
        ((8, 20, 20, 30), [Window(16, 4, 8), Window(20, 4, 8), Window(22, 6, 8)]),
    ],
)
def test_where_windows_lie(case, expected):
    assert windows(*case) == expected

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
def test_each_window_is_given_what_is_known_and_no_more(length):
    for of, total, start, stop in (case for case in CASES if case[0] == length):
        known = np.arange(max(of, total, stop)) < total
        known[start:stop] = False
        if stop <= total:
            known[total:] = True  # silence
        for window in windows(of, total, start, stop):
            seen = known[window.first : window.first + of]
            assert len(seen) == of
            masked = np.zeros(of, bool)
            masked[window.start : window.end] = True
            assert seen[~masked].all(), (total, start, stop, window)
            assert window.start < window.kept <= window.end
            assert not seen[window.start : window.kept].any()  # nothing is sampled twice
            known[window.first + window.start : window.first + window.kept] = True
        assert known[: max(total, stop)].all(), (total, start, stop)


@pytest.mark.parametrize(
    'case, expected',
    [
        ((8, 20, 9, 11), [Window(6, 3, 5, 5)]),  # in the middle
        ((8, 8, 1, 8), [Window(0, 1, 8, 8)]),  # as far as there is more
        ((8, 3, 3, 5), [Window(0, 3, 8, 5)]),  # what follows is not known to be silence
        ((8, 5, 1, 3), [Window(0, 1, 3, 3)]),  # but here it is
        ((8, 20, 20, 30), [Window(16, 4, 8, 8), Window(20, 4, 8, 8), Window(22, 6, 8, 8)]),
    ],
)
def test_where_windows_lie(case, expected):
    assert windows(*case) == expected

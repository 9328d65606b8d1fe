"""A stretch of a long example, sampled in windows of the length that a model was trained on."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Window:
    """Where a model of a fixed length samples a part of an example, in positions of time.

    Attributes:
        first: where the window begins in the example.
        start: where, in the window, what is sampled of the stretch begins; what is before it is known.
        stop: where it ends.
    """

    first: int
    start: int
    stop: int


def windows(length: int, total: int, start: int, stop: int) -> list[Window]:
    """Windows that sample a stretch from its start to its end, each given what those before it made.

    A stretch of at most half a window is in the middle of it, as far as the example goes. Of a longer one,
    every window but the last samples its second half, and more where less is known before it (the windows of
    Dhariwal et al. 2020, Jukebox, arXiv:2005.00341, section 2.5, with half of each overlapping).

    Args:
        length: of a window.
        total: of the example.
        start: of the stretch, from 0 to `total`.
        stop: of the stretch, after `start`; beyond `total` it continues the example.

    Returns:
        As many as are needed; no window reaches beyond the larger of `length`, `total` and `stop`.
    """
    found, whole = [], max(total, stop)
    while start < stop:
        # What is known before the start takes half of a window at most, where the stretch fills the rest.
        room = max(length - start, length - length // 2)
        count = min(stop - start, room)
        last = start + count == stop
        first = start - (length - count) // 2 if last else start + count - length
        first = max(0, min(first, whole - length))
        found.append(Window(first, start - first, start - first + count))
        start += count
    return found

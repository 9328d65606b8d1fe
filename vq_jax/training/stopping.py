"""A signal to stop, seen between two steps, by all processes at the same one."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def stop_signal() -> Iterator[Callable[[int], bool]]:
    """While entered, SIGTERM and Ctrl-C ask for a stop; a second Ctrl-C interrupts at once.

    In several processes only SIGTERM does, through JAX's preemption service, which has all of them
    stop at the same step.

    Yields:
        A function that says whether to stop after a step.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    requested = False

    def request(number: int, _: FrameType | None) -> None:
        nonlocal requested
        requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, old[signal.SIGINT])

    old = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda step: requested
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

"""A signal to stop, seen between two steps, by all processes at the same one."""

import signal
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """While entered, SIGTERM and Ctrl-C ask for a stop; a second Ctrl-C interrupts at once.

    In several processes only SIGTERM does, through JAX's preemption service, which has all of them
    stop at the same step.
    """

    def __init__(self) -> None:
        self._requested = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> 'StopSignal':
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def requested(self, step: int) -> bool:
        """Whether to stop after this step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._requested

    def _request(self, number: int, _: FrameType | None) -> None:
        self._requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._old[signal.SIGINT])

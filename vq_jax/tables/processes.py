"""Processes that do the work of a table, and where they do it."""

import contextlib
import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from vq_jax.errors import UserError
from vq_jax.files import open_itself
from vq_jax.locks import lock_file
from vq_jax.processes import command

_ASK = 'import jax, json; d = jax.devices(); print(json.dumps([d[0].platform, d[0].device_kind, len(d)]))'
_VISIBLE = 'CUDA_VISIBLE_DEVICES'


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where one process at a time works.

    Attributes:
        hardware: in words.
        environment: variables that keep a process to it.
    """

    hardware: str
    environment: Mapping[str, str]


def find_slots(jobs: int) -> list[Slot]:
    """Places for so many rows at once: all devices for one row, else a GPU for each, or a share of the CPU.

    Raises:
        UserError: if there are too few GPUs, or the devices are of another kind.
    """
    # A process of its own is asked, so that this one holds no memory of a device.
    asked = subprocess.run([sys.executable, '-c', _ASK], capture_output=True, text=True)
    if asked.returncode:
        raise UserError(f'JAX finds no device: {asked.stderr.strip().splitlines()[-1]}')
    return _share(jobs, *json.loads(asked.stdout.splitlines()[-1]), os.environ.get(_VISIBLE))


def _share(jobs: int, kind: str, name: str, count: int, visible: str | None) -> list[Slot]:
    if kind == 'cpu':
        shared = f', shared by {jobs} rows' if jobs > 1 else ''
        hardware = f'{len(os.sched_getaffinity(0))} {platform.machine()} cores{shared}'
        return [Slot(hardware, {})] * jobs
    if jobs == 1:
        return [Slot(f'{count} {name}', {})]
    if kind != 'gpu':
        raise UserError(f'--jobs is {jobs}, but a process takes all of {count} {name}; leave --jobs out.')
    if jobs > count:
        raise UserError(f'--jobs is {jobs}, but there are {count} GPUs; give {count} or fewer.')
    numbers = visible.split(',') if visible else map(str, range(count))
    return [Slot(f'1 {name}', {_VISIBLE: number}) for number in list(numbers)[:jobs]]


class Workers:
    """Processes that are told to stop when this one is, and end before it does, or with it if it is killed.

    They take no signal of the terminal themselves: the first SIGTERM or Ctrl-C asks each to save and stop,
    a second one kills them.
    """

    def __init__(self) -> None:
        self.stopping = False
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._old: dict[int, Any] = {}

    def __enter__(self) -> 'Workers':
        for number in (signal.SIGTERM, signal.SIGINT):
            self._old[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def run(self, arguments: Sequence[str], slot: Slot, log: Path | None, lock: int) -> int:
        """Runs `python -m` with these arguments to its end, and returns its status.

        Args:
            arguments: the module, and what it is given.
            slot: where.
            log: a file to add its output to; None for the output of this process.
            lock: a descriptor that it holds for as long as it lives.
        """
        with open(log, 'ab', opener=open_itself) if log else contextlib.nullcontext() as output:
            worker = subprocess.Popen(
                command(*arguments),
                env=os.environ | slot.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
                start_new_session=True,
            )
            self._alive.add(worker)
            if self.stopping:  # the signal came while it was being started
                worker.terminate()
            status = worker.wait()
            worker.stdin.close()
            self._alive.discard(worker)
            return status

    @contextlib.contextmanager
    def alone(self, path: Path) -> Iterator[int]:
        """Waits until no other process holds a lock, then holds it.

        The processes that are given the lock hold it too, and still do for the moment by which they outlive
        this one if it is killed: who starts again waits for them and does not write beside them.

        Yields:
            The descriptor of the lock.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = False
        while True:
            with lock_file(path) as lock:
                if lock is not None:
                    yield lock
                    return
            if self.stopping:
                raise UserError('stopped while another process was at it.')
            if not waiting:
                print(f'another process is at {path.stem[1:]}; waiting for its end', flush=True)
            waiting = True
            time.sleep(0.5)

    def _stop(self, number: int, _: FrameType | None) -> None:
        for worker in tuple(self._alive):
            worker.kill() if self.stopping else worker.terminate()
        self.stopping = True

"""The order of the examples, and the batches made of them ahead of need."""

import collections
import functools
import itertools
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from vq_jax.data.dataset import Dataset
from vq_jax.data.source import Examples
from vq_jax.errors import UserError
from vq_jax.processes import end_with
from vq_jax.spec import blank_conditions

Batch = dict[str, np.ndarray]
_ORDER, _AUGMENTATION, _CAPTION = range(3)  # keep the streams of random numbers of one seed apart
_ENDLESS = 2**60  # batches; Grain wants a number
# Seconds for which a batch is waited for in vain. Who stops the whole run stops the waiting too, so that only
# a mistake stops a worker alone; a slow disk may take long, but not for ever.
_PATIENCE_WITH_STOPPED = 60
_PATIENCE = 1800


def train_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> 'Batches':
    """Returns training batches without end.

    The examples of all epochs in a row, each epoch a new permutation of the whole set, are cut
    into batches; a batch may span epochs. Batch s with its random crops and flips is a function of
    (seed, s) alone: it does not depend on where the iteration started, on the number of worker
    processes or threads, nor on whether examples are kept in memory, and the rows of all
    `process_count` processes together are those of a single one. The row of an undecodable example
    is taken by the next decodable example.

    Args:
      dataset: From `open_dataset`.
      batch_size: Number of examples in a batch over all processes.
      seed: Zero or more.
      start: Number of the first batch: how many were consumed already.
      process_index: Number of this process.
      process_count: Number of processes; it divides `batch_size`.

    Returns:
      An iterator over `{'x': [b ...] as the spec says, 'label': int32 [b], 'mask': bool [b]}` with b
      the rows of this process, `mask` all True and `label` 0 if the set has none, and the conditions of the
      set [b ...] by their names; written codes have 'codes': int32 [b n] for 'x'. Leaving it, or its
      `close`, stops its threads or processes.

    Raises:
      UserError: If the sizes do not fit; while iterating, if too many examples are undecodable,
        they differ in size, or a label is out of range.
    """
    rows = _rows(batch_size, process_index, process_count)
    if seed < 0 or start < 0:
        raise UserError(f'The data seed ({seed}) and start ({start}) must be zero or more.')
    make = functools.partial(_train_batch, dataset, batch_size, seed, rows)
    in_memory = dataset.cached and not dataset.transform.seeks
    return Batches(dataset, make, start, _ENDLESS, in_memory)


def eval_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    pad: bool = False,
) -> 'Batches':
    """Returns each example exactly once, in order, without random crops and flips.

    Arguments, batches and errors are those of `train_batches`; the iterator ends, and all processes get
    equally many batches. With `pad`, for steps that are compiled for one number of rows, all batches have as
    many: `mask` is False in those that fill up the last batch and those of undecodable examples, which hold
    zeros. Without it these rows are left out, and batches may be smaller, or empty.
    """
    rows = _rows(batch_size, process_index, process_count)
    make = functools.partial(_eval_batch, dataset, batch_size, rows, pad)
    return Batches(dataset, make, start, -(-len(dataset) // batch_size), dataset.cached)


def _rows(batch_size: int, process_index: int, process_count: int) -> slice:
    """Returns the rows of the global batch that belong to a process."""
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f'The batch size is {batch_size}: it must be a positive multiple of the number of '
            f'processes ({process_count}).'
        )
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)


class Batches(Iterator[Batch]):
    """Batches made ahead of need by threads or worker processes.

    Attributes:
      close: Function that stops them, also called when the iterator is dropped and at exit.
    """

    def __init__(
        self, dataset: Dataset, make: Callable[[int], Batch], start: int, stop: int, in_memory: bool
    ) -> None:
        """Starts making batches, from the number `start` to that before `stop`.

        `make` is a picklable function from the number of a batch to the batch, with the undecodable examples
        met in the making under `faults`, and those that are odd under `oddities`. Where they are made of what
        is in memory, no processes are started for it.
        """
        workers, ahead = dataset.config.workers, dataset.config.prefetch
        self._dataset = dataset
        self._shared = workers > 0 and not in_memory
        if self._shared:
            batches = _in_workers(make, start, stop, workers, max(ahead, 1))
        else:
            batches = _InThreads(make, range(start, stop), ahead)
        self._running = [batches]
        # Also runs at exit, while what Grain needs to stop is still there.
        self.close = weakref.finalize(self, _stop, self._running)

    def __next__(self) -> Batch:
        """Returns the next batch; there is none after `close`."""
        if not self._running:
            raise StopIteration
        batch = _from_workers(self._running[0]) if self._shared else next(self._running[0])
        self._dataset.report(batch.pop('faults'))
        self._dataset.tell(batch.pop('oddities'))
        if self._shared:  # memory that Grain takes back
            batch = {key: np.array(value) for key, value in batch.items()}
        return batch


class _InThreads(Iterator[Batch]):
    """Makes batches in threads, so many ahead of need, from when the first is asked for.

    Grain could too, but importing it, and with it Orbax, takes longer than the first batches of a small set.
    """

    def __init__(self, make: Callable[[int], Batch], numbers: Iterable[int], ahead: int) -> None:
        self._make, self._numbers, self._ahead = make, iter(numbers), ahead
        self._threads = futures.ThreadPoolExecutor(max(1, min(ahead, os.cpu_count() or 1)))
        self._begun: collections.deque[futures.Future[Batch]] = collections.deque()

    def __next__(self) -> Batch:
        for number in itertools.islice(self._numbers, self._ahead + 1 - len(self._begun)):
            self._begun.append(self._threads.submit(self._make, number))
        if not self._begun:
            raise StopIteration
        return self._begun.popleft().result()

    def close(self) -> None:
        """Stops the threads, each when its batch is made."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _in_workers(
    make: Callable[[int], Batch], start: int, stop: int, workers: int, ahead: int
) -> Iterator[Batch]:
    """Makes batches in worker processes of Grain's, each so many ahead of need."""
    import grain

    if not flags.FLAGS.is_parsed():  # which Grain reads, as in a notebook
        flags.FLAGS.mark_as_parsed()
    numbers = grain.MapDataset.range(start, stop).map(make).to_iter_dataset(grain.ReadOptions(0, 0))
    options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=ahead)
    return iter(numbers.mp_prefetch(options, worker_init_fn=_start_worker))


def _stop(running: list[Any]) -> None:
    """Stops and forgets the iterator in the list, if there still is one."""
    while running:
        running.pop().close()


def _start_worker(index: int, count: int) -> None:
    """Lets a worker end with its parent, even one that was killed and stops nothing."""
    end_with(multiprocessing.parent_process().sentinel)


def _from_workers(batches: Iterator[Batch]) -> Batch:
    """Returns the next batch of worker processes, which Grain starts for the first one.

    Raises:
      UserError: If a worker was killed, or is stopped or stuck for so long that none can be expected.
    """
    resource_tracker.ensure_running()  # otherwise started on the way, which ends the blocking of signals
    result: futures.Future[Batch] = futures.Future()
    # A thread of its own, in which signals may be blocked, and which may be left behind if Grain hangs.
    threading.Thread(target=_next_into, args=(batches, result), daemon=True).start()
    stopped_for, fault = 0, f'no data came for {_PATIENCE} seconds'
    for _ in range(_PATIENCE):
        if futures.wait([result], timeout=1).done:
            return _of_the_living(result)
        stopped = [worker.pid for worker in _workers() if _is_stopped(worker.pid)]
        stopped_for = stopped_for + 1 if stopped else 0
        if stopped_for == _PATIENCE_WITH_STOPPED:
            fault = f'a process that reads data ({stopped[0]}) has been stopped for {stopped_for} seconds'
            break
    for worker in _workers():  # which would not hear Grain, that is about to end them
        worker.kill()
    raise UserError(
        f'{fault}; see what holds it up, or set config.data.workers to 0, and run the same command again.'
    )


def _next_into(batches: Iterator[Batch], result: futures.Future[Batch]) -> None:
    """Gets a batch, and has workers that are started for it be deaf to Ctrl-C and SIGTERM.

    Both often reach all processes of a run, which stops its workers itself. Threads and processes inherit
    the signals that are blocked where they are started, so that no moment is left in which one would end a
    worker.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        result.set_result(next(batches))
    except BaseException as error:  # for whoever waits for the batch
        result.set_exception(error)


def _of_the_living(result: futures.Future[Batch]) -> Batch:
    """Returns the batch, or raises `UserError` if a worker was killed, which Grain tells in words."""
    try:
        return result.result()
    except RuntimeError as error:
        reason = str(error).partition('. ')[0]
        if 'terminated unexpectedly' not in reason:
            raise
        raise UserError(
            f'a process that reads data was killed, most often because memory is short ({reason}); lower '
            'config.data.workers or config.data.prefetch, and run the same command again.'
        ) from error


def _workers() -> list[BaseProcess]:
    """Returns the workers of all iterators that Grain has started."""
    return [child for child in multiprocessing.active_children() if child.name.startswith('grain-')]


def _is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal, as far as the system tells."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'T'
    except OSError:  # it has ended, or this is no Linux
        return False


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """Returns the order of the examples in one epoch, int64 [n]."""
    return np.random.default_rng([_ORDER, seed, epoch]).permutation(size)


def order(seed: int, first: int, last: int, size: int) -> np.ndarray:
    """Returns the indices, int64 [last - first], of a stretch of the endless order of examples.

    It goes from the position `first` since the start of training to that before `last`, with `size` examples
    in an epoch.
    """
    epochs = range(first // size, (last - 1) // size + 1)
    return np.concatenate(
        [_permutation(seed, i, size)[max(first - i * size, 0) : last - i * size] for i in epochs]
    )


def _train_batch(data: Dataset, batch_size: int, seed: int, rows: slice, number: int) -> dict[str, Any]:
    """Makes the rows of a process of training batch number s."""
    first, k = number * batch_size, data.transform.uniforms
    indices = order(seed, first + rows.start, first + rows.stop, len(data))
    # Sampled for the rows of all processes.
    uniforms = np.random.default_rng([_AUGMENTATION, seed, number]).random((batch_size, k))[rows]
    positions = uniforms[:, 0] if data.transform.seeks else None
    choices = _choices(seed, first + rows.start, indices, len(data)) if data.captioned else None
    examples = data.fetch(indices, positions, choices)
    faults = data.faults(indices[~examples.good])
    values, labels, conditions = examples.values, examples.labels, examples.conditions
    good = examples.good.copy()
    for row in np.flatnonzero(~good):
        visit = [x if x is None else x[row : row + 1] for x in (positions, choices)]
        other = _substitute(data, int(indices[row]), visit, faults)
        values[row], labels[row], good[row] = other.values[0], other.labels[0], other.good[0]
        for name, known in other.conditions.items():
            conditions[name][row] = known[0]
    if k:
        values = data.transform.augment(values, uniforms)
    conditions |= data.vectors_of(conditions, good)
    found = {'faults': faults, 'oddities': data.oddities(indices)}
    return {data.key: values, 'label': labels, **conditions, 'mask': np.ones(len(indices), bool), **found}


def _choices(seed: int, first: int, indices: np.ndarray, size: int) -> np.ndarray:
    """Returns a random number for each example [b], by which it is given one of its captions.

    It is a function of the seed, the epoch and the example. The indices are those from the position `first`
    on since the start of training, with `size` examples in an epoch.
    """
    visits = ((first + row) // size for row in range(len(indices)))
    keys = ([_CAPTION, seed, epoch, int(index)] for epoch, index in zip(visits, indices, strict=True))
    return np.array([np.random.default_rng(key).random() for key in keys])


def _substitute(
    data: Dataset, index: int, visit: list[np.ndarray | None], faults: dict[int, str]
) -> Examples:
    """Returns the next decodable example, and adds the undecodable ones on the way to `faults`.

    It is seen as in the visit of the one in whose place it is, by the numbers that `fetch` takes [1].
    The search ends when as many are undecodable as stop the run anyway.
    """
    for step in range(1, min(data.tolerated + 1, len(data))):
        candidate = np.array([(index + step) % len(data)])
        found = data.fetch(candidate, *visit)
        if found.good[0]:
            return found
        faults.update(data.faults(candidate))
    blank = np.zeros((1, *data.spec.shape), data.spec.dtype)
    conditions = blank_conditions(data.fetched_conditions, 1)
    return Examples(blank, np.zeros(1, np.int32), np.zeros(1, bool), conditions)


def _eval_batch(data: Dataset, batch_size: int, rows: slice, pad: bool, number: int) -> dict[str, Any]:
    """Makes the rows of a process of evaluation batch number s."""
    first, count = number * batch_size, rows.stop - rows.start
    indices = np.arange(first + rows.start, min(first + rows.stop, len(data)))
    items = np.zeros((count, *data.item_shape), data.item_dtype)
    label, mask = np.zeros(count, np.int32), np.zeros(count, bool)
    conditions = blank_conditions(data.fetched_conditions, count)
    faults = {}
    if len(indices):
        examples = data.fetch(indices)
        for row in np.flatnonzero(examples.good):
            items[row] = data.transform.centre(examples.values[row])
            label[row] = examples.labels[row]
            for name, known in examples.conditions.items():
                conditions[name][row] = known[row]
        mask[: len(indices)] = examples.good
        faults = data.faults(indices)
    conditions |= data.vectors_of(conditions, mask)
    batch = {data.key: items, 'label': label, **conditions, 'mask': mask}
    if not pad:
        batch = {name: values[mask] for name, values in batch.items()}
    return {**batch, 'faults': faults, 'oddities': data.oddities(indices)}

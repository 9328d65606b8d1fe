"""Checkpoints written in the background by Orbax, and verified bit for bit when they are read.

A checkpoint is a folder `<step>/`: the arrays as Orbax stores them, and `manifest.json` with the
data position, the metrics, what the run seals with it (its config), the shape, dtype and checksum of
every array, and the SHA-256 of every file. It is written under the name `<step>.saving*`, checked, and
gets its final name last, so a folder whose name is a number was once complete. Whatever happens to it
after that is noticed when it is read.

Until the first one is complete, the file `unsaved` is in the folder. Without it, a folder without checkpoints
is one that lost them.

The folder may be a link, to a larger disk say. Nothing outside of numbered folders is deleted in it.
"""

import concurrent.futures
import contextlib
import functools
import json
import logging as python_logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from vq_jax.buckets import BucketError
from vq_jax.errors import UserError, first_line
from vq_jax.files import is_inside, open_itself, sha256_of, telling, write_atomically
from vq_jax.locks import is_at, opened_folder, try_lock
from vq_jax.training.finite import not_finite, some
from vq_jax.training.manifest import (
    Checksums,
    DamagedError,
    PyTree,
    Sealed,
    as_text,
    describe,
    flatten,
    plain,
    plain_type,
    seal,
    start_checksums,
    unseal,
)

MANIFEST = 'manifest.json'
_ARRAYS, _DAMAGED, _UNSAVED = 'arrays', 'damaged', 'unsaved'
# Orbax looks for files by patterns, Tensorstore takes nothing but UTF-8, and paths have a greatest length.
_PLAIN = re.compile(r'[A-Za-z0-9 ._/+=,@-]{1,2000}', re.ASCII)

_DEEP = 'x/' * 80  # longer than any path in it

_Type = tuple[tuple[int, ...], Any]  # shape and dtype


class _PrunedError(Exception):
    """A checkpoint was removed by whoever trains, between being listed and being read."""


class UnreadableError(UserError):
    """A checkpoint that is wanted is damaged, or is not there."""


class Elsewhere(Protocol):
    """Where checkpoints are kept besides the directory in which they are written."""

    def publish(self, step: int) -> None:
        """Returns when a checkpoint is complete there; raises `UserError` if it cannot be."""

    def remove(self, step: int) -> None:
        """Removes one that was pruned here; raises `UserError` if it cannot."""


class Checkpoints:
    """The checkpoints of one run.

    With several processes every one of them makes this object on the same shared folder and calls
    the same methods in the same order; process 0 renames and deletes.

    Args:
        directory: Where the numbered folders are; made if missing, unless `read_only`.
        keep: How many of the newest checkpoints are kept, 1 or more.
        best: Name of the metric whose best checkpoint is kept too; None keeps only the newest.
        best_mode: Whether the smallest or the largest value is the best.
        sealed: What each manifest is to hold besides, in JSON values.
        read_only: Nothing in `directory` is changed; `save` is refused.
        fetch: Brings the files of a checkpoint from elsewhere before it is read; one that was pruned there
            may be gone then.
        kept_in: Where they are kept besides.
        shared: Whether all processes see the folder. Else each has one of its own: process 0 writes what all
            have, and the others read what `fetch` brings.

    Raises:
        UserError: The folder cannot be made.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 2,
        best: str | None = None,
        best_mode: Literal['min', 'max'] = 'min',
        sealed: Sealed | None = None,
        read_only: bool = False,
        fetch: Callable[[int], None] | None = None,
        kept_in: Elsewhere | None = None,
        shared: bool = True,
    ) -> None:
        self._directory = Path(directory).absolute()
        self._keep, self._best, self._best_mode = keep, best, best_mode
        self._sealed = sealed
        self._read_only = read_only
        self._fetch, self._kept_in, self._shared = fetch, kept_in, shared
        self._open = contextlib.ExitStack()
        self._metric_of_step: dict[int, float | None] = {}
        self._checkpointer = None
        self._pending: tuple[int, concurrent.futures.Future] | None = None
        self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix='checkpoint')
        if not read_only and jax.process_index() == 0:
            with telling(f'Cannot write checkpoints to {self._directory}', 'choose another directory'):
                self._directory.mkdir(parents=True, exist_ok=True)
                self._remove_leftovers()
                if self.steps():
                    (self._directory / _UNSAVED).unlink(missing_ok=True)
                else:
                    os.close(open_itself(self._directory / _UNSAVED, os.O_WRONLY | os.O_CREAT))
                # What cannot be written is refused before anything is learned.
                _ = self._for_orbax
                with contextlib.suppress(FileNotFoundError):
                    (self._directory / _DEEP).stat()  # a path has a greatest length

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first, whether it is damaged or not."""
        if not self._directory.is_dir():
            return []
        return sorted(
            int(path.name)
            for path in self._directory.iterdir()
            if re.fullmatch(r'0|[1-9][0-9]*', path.name) and path.is_dir()
        )

    def never_saved(self) -> bool:
        """Whether the folder says that no checkpoint of this run was complete yet."""
        return (self._directory / _UNSAVED).is_file()

    def sealed(self) -> Sealed | None:
        """What the newest checkpoint whose manifest can be read was sealed with; None if there is none."""
        for step in reversed(self.steps()):
            with contextlib.suppress(DamagedError, OSError):
                return unseal(self._directory / str(step) / MANIFEST).get('sealed')
        return None

    def best_step(self) -> int | None:
        """The step with the best value of the metric, None if no checkpoint has one.

        Of equal values the newest wins. A value that is not finite never does.
        """
        values = {step: self._metric(step) for step in self.steps()}
        sign = -1 if self._best_mode == 'min' else 1
        known = {step: sign * value for step, value in values.items() if value is not None}
        return max(known, key=lambda step: (known[step], step)) if known else None

    def save(
        self, step: int, state: PyTree, position: dict[str, Any], metrics: dict[str, float] | None
    ) -> None:
        """Starts writing a checkpoint; the state may be donated or changed when this returns.

        Args:
            step: Number of finished steps; no checkpoint of it may exist.
            state: Arrays (device, NumPy, typed random keys) and numbers.
            position: Where the data pipeline is, in JSON values.
            metrics: Evaluated values, of which `best` decides what is kept.

        Raises:
            UserError: This save or the one before it could not be written, or `step` is there already.
        """
        if self._read_only:
            raise ValueError(f'{self._directory} was opened to be read only.')
        self.wait()
        if step in self.steps():
            raise UserError(
                f'{self._directory} has a checkpoint of step {step} already; is another run writing to '
                'the same directory? Stop one of the two, or give it its own --workdir.'
            )
        leaves, _ = flatten(state)
        record = {
            'step': step,
            'position': json.loads(json.dumps(position)),
            'metrics': {name: float(value) for name, value in (metrics or {}).items()},
            **({} if self._sealed is None else {'sealed': self._sealed}),
            'arrays': {name: describe(leaf) for name, leaf in leaves.items()},
        }
        arrays = {name: plain(leaf) for name, leaf in leaves.items()}
        # Queued on the device ahead of the next step, which may overwrite the state.
        checksums = start_checksums(arrays)
        staged = self._directory / f'{step}.saving'
        try:
            import orbax.checkpoint as ocp

            to_host = _host_if_local if self._shared else _on_host
            stored = {name: to_host(x) for name, x in arrays.items() if x.size}
            if self._shared or jax.process_index() == 0:
                self._checkpointer = self._checkpointer or _new_checkpointer(self._shared)
                args = ocp.args.PyTreeSave(stored)
                self._checkpointer.save(self._for_orbax / staged.name / _ARRAYS, args=args)
        except jax.errors.JaxRuntimeError:  # of a device, such as that its memory is full; not of the disk
            raise
        except (OSError, ValueError, RuntimeError) as error:
            raise self._save_error(step, error) from error
        wanted = {name: plain_type(x) for name, x in stored.items()}
        self._pending = step, self._worker.submit(self._finish, staged, record, wanted, checksums)

    def wait(self) -> None:
        """Returns when the last `save` is safely on the disk under its final name.

        Raises:
            UserError: It could not be written (once; later calls return at once).
        """
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        error = future.exception()
        if not _all_processes(error is None):
            raise error if isinstance(error, BucketError) else self._save_error(step, error) from error

    def restore(
        self, like: PyTree, step: int | Literal['best'] | None = None
    ) -> tuple[int, PyTree, dict[str, Any]] | None:
        """Reads the newest checkpoint that is as it was written.

        Damaged ones are named in a warning and skipped, and when an older one is good they are
        moved to the folder `damaged/` (unless read only), so that their steps can be saved again.

        Args:
            like: The state that is wanted: arrays or `jax.ShapeDtypeStruct`; the result has its
                structure, kinds of leaf and placement on the devices.
            step: The one to read instead of the newest.

        Returns:
            Step, state and data position; None if there is no checkpoint at all.

        Raises:
            UserError: `step` is absent or damaged, or none is known to be the best; every checkpoint is
                damaged; or the checkpoint holds a state that differs from `like` in its names, shapes or
                dtypes.
        """
        self.wait()
        while True:
            with contextlib.suppress(_PrunedError):  # then there is a newer one
                if step is None:
                    return self._restore_newest(like)
                if step == 'best':
                    return self._restore_step(like, self._best_or_refuse())
                if not _all_processes(step in self.steps()):
                    raise UnreadableError(
                        f'{self._directory} has no checkpoint of step {step}; {self._there_are()}.'
                    )
                return self._restore_step(like, step)

    def _restore_step(self, like: PyTree, step: int) -> tuple[int, PyTree, dict[str, Any]]:
        try:
            return step, *self._read(step, like)
        except DamagedError as error:
            raise UnreadableError(
                f'The checkpoint {self._directory / str(step)} is damaged ({error}); '
                f'{self._there_are(without=step)}.'
            ) from error

    def _restore_newest(self, like: PyTree) -> tuple[int, PyTree, dict[str, Any]] | None:
        damaged = {}
        for candidate in _from_first_process(self.steps()[::-1]):
            try:
                state, position = self._read(candidate, like)
            except DamagedError as error:
                damaged[candidate] = str(error)
                path = self._directory / str(candidate)
                logging.warning('The checkpoint %s is damaged (%s); not used.', path, error)
            else:
                for bad in damaged:
                    self._set_aside(bad)
                return candidate, state, position
        if damaged:
            # They stay where they are: the next start must not take this for a new run.
            named = ', '.join(f'{bad} ({reason})' for bad, reason in damaged.items())
            again = '' if self._read_only else ', or start again in another directory'
            raise UnreadableError(
                f'Every checkpoint in {self._directory} is damaged: {named}; restore one from a copy{again}.'
            )
        return None

    def close(self, *, failed: bool = False) -> None:
        """Waits for the last save and ends the threads; if this process failed, no other is asked."""
        try:
            if not failed:
                self.wait()
        finally:
            self._worker.shutdown()
            if self._checkpointer is not None:
                self._checkpointer.close()
                self._checkpointer = None
            self._open.close()

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        self.close(failed=error is not None)

    @functools.cached_property
    def _for_orbax(self) -> Path:
        """The directory by a name in which no character means anything to Orbax or Tensorstore."""
        if _PLAIN.fullmatch(str(self._directory)):
            return self._directory
        descriptor = self._open.enter_context(opened_folder(self._directory))
        name = Path(f'/proc/self/fd/{descriptor}')
        if not is_at(descriptor, name.resolve()):
            raise UserError(
                f'{self._directory} has characters that checkpoints cannot be kept under on this '
                "system, or is too long; choose a path of letters, digits, '.', '_' and '-'."
            )
        return name

    # Writing.

    def _finish(
        self, staged: Path, record: dict[str, Any], wanted: dict[str, _Type], checksums: Checksums
    ) -> None:
        """Runs in the worker thread: waits for Orbax, checks, adds the manifest, gives the final name."""
        if self._checkpointer is not None:
            self._checkpointer.wait_until_finished()
        if jax.process_index() != 0:
            return
        _check_complete(self._for_orbax / staged.name / _ARRAYS, wanted)
        for name, checksum in checksums().items():
            record['arrays'][name]['checksum'] = checksum
        record['files'] = {
            path.relative_to(staged).as_posix(): {'size': path.stat().st_size, 'sha256': sha256_of(path)}
            for path in sorted(staged.rglob('*'))
            if path.is_file()
        }
        write_atomically(staged / MANIFEST, seal(record))
        staged.rename(self._directory / str(record['step']))
        if self._kept_in:
            self._kept_in.publish(record['step'])
        try:
            (self._directory / _UNSAVED).unlink(missing_ok=True)
            self._prune()
        except (OSError, BucketError) as error:
            logging.warning('Not all that is old in %s could be removed: %s', self._directory, error)

    def _save_error(self, step: int, error: BaseException | None) -> UserError:
        """Cleans up after a failed save and says what happened and what is left."""
        if jax.process_index() == 0:
            # Space on a full disk is worth having back; what cannot go now goes at the next start.
            for path in self._directory.glob(f'{step}.*'):
                shutil.rmtree(path, ignore_errors=True)
        # What is fetched when it is read is not all here.
        good = [s for s in self.steps() if self._fetch or not self._file_damage(s)]
        left = 'there is no older one'
        if good:
            left = f'still good: {", ".join(map(str, good))}, and starting again resumes from {good[-1]}'
        return UserError(
            f'The checkpoint of step {step} could not be written to {self._directory} '
            f'({_reason(error)}); make room or mend the disk ({left}).'
        )

    def _prune(self) -> None:
        steps = self.steps()
        kept = {*steps[-self._keep :], self.best_step()}
        for step in steps:
            if step in kept:
                continue
            path = self._directory / str(step)
            with opened_folder(path) as descriptor:
                if try_lock(descriptor):  # else it is being read, and goes after the next save
                    # Renamed first: a folder under its final name is never half deleted.
                    shutil.rmtree(path.rename(self._directory / f'{step}.deleted'))
                    if self._kept_in:
                        self._kept_in.remove(step)

    def _remove_leftovers(self) -> None:
        """Removes what a killed process left of an unfinished save or deletion."""
        for path in self._directory.iterdir():
            if re.fullmatch(r'\d+\.(saving.*|deleted)', path.name):
                shutil.rmtree(path)

    def _set_aside(self, step: int) -> None:
        if self._read_only or jax.process_index() != 0:
            return
        folder = self._directory / _DAMAGED
        folder.mkdir(exist_ok=True)
        target, number = folder / str(step), 1
        while target.exists():
            number += 1
            target = folder / f'{step}-{number}'
        (self._directory / str(step)).rename(target)
        logging.warning('The damaged checkpoint of step %d is now %s.', step, target)

    # Reading.

    def _read(self, step: int, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Reads one checkpoint, which is not pruned meanwhile; raises `_PrunedError` if it was before."""
        folder = self._directory / str(step)
        if self._fetch:
            self._fetch(step)
        with contextlib.ExitStack() as opened:
            there = False
            with contextlib.suppress(FileNotFoundError):
                descriptor = opened.enter_context(opened_folder(folder))
                try_lock(descriptor, shared=True)  # whoever prunes has it alone, and renames the folder
                there = is_at(descriptor, folder.resolve())  # it may be a link, to a larger disk say
            if not _all_processes(there):
                raise _PrunedError
            try:
                return self._read_kept(step, like)
            except DamagedError as error:
                if jax.process_count() == 1 and not folder.is_dir():  # it was locked, or no folder can be
                    raise _PrunedError from error
                raise

    def _read_kept(self, step: int, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        folder = self._directory / str(step)
        # The files are shared, so one process reads them through for all.
        _agree_undamaged(self._file_damage(step) if jax.process_index() == 0 else None)
        record = unseal(folder / MANIFEST)
        leaves, treedef = flatten(like)
        self._check_fits(folder, record['arrays'], leaves)
        state, unreadable = None, None
        try:
            state = _load_arrays(self._for_orbax / str(step) / _ARRAYS, record['arrays'], leaves)
        except (MemoryError, jax.errors.JaxRuntimeError):  # says nothing of the files
            raise
        except Exception as error:  # of any kind, depending on what is wrong
            logging.warning('The arrays of %s cannot be read.', folder, exc_info=True)
            unreadable = f'its arrays cannot be read: {_reason(error)}'
        _agree_undamaged(unreadable)
        checksums = start_checksums({name: plain(x) for name, x in state.items()})()
        wrong = [name for name in checksums if checksums[name] != record['arrays'][name]['checksum']]
        _agree_undamaged(f'the checksum of {", ".join(wrong[:3])} differs' if wrong else None)
        # What is saved now is finite; what is not was spoilt before it was saved.
        spoilt = not_finite(state)
        _agree_undamaged(f'{some(spoilt)} is not finite' if spoilt else None)
        return jax.tree.unflatten(treedef, [state[name] for name in leaves]), record['position']

    def _file_damage(self, step: int) -> str | None:
        """What is wrong with the files of a checkpoint, None if they are as they were written."""
        folder = self._directory / str(step)
        try:
            record = unseal(folder / MANIFEST)
            if record['step'] != step:
                return f'it is of step {record["step"]}'
            # Whoever reads the arrays would wait for a pipe for ever.
            if odd := [path for path in folder.rglob('*') if not path.is_file() and not path.is_dir()]:
                return f'{odd[0].relative_to(folder)} is not a regular file'
            for name, expected in record['files'].items():
                path = folder / name
                if not is_inside(name):
                    return f'the file {name} is not in it'
                if not path.is_file():
                    return f'the file {name} is missing'
                if (size := path.stat().st_size) != expected['size']:
                    return f'the file {name} has {size} bytes instead of {expected["size"]}'
                if sha256_of(path) != expected['sha256']:
                    return f'the content of the file {name} has changed'
        except DamagedError as error:
            return str(error)
        except OSError as error:
            return f'{error.filename or folder} cannot be read: {error.strerror or error}'
        return None

    def _check_fits(self, folder: Path, saved: dict[str, Any], leaves: dict[str, Any]) -> None:
        wanted = {name: as_text(describe(leaf)) for name, leaf in leaves.items()}
        there = {name: as_text(entry) for name, entry in saved.items()}
        differing = [
            f'{name} is {there.get(name, "absent")} there and {wanted.get(name, "absent")} here'
            for name in {**wanted, **there}
            if there.get(name) != wanted.get(name)
        ]
        if differing:
            more = f', and {len(differing) - 3} more' if len(differing) > 3 else ''
            raise UserError(
                f'The checkpoint {folder} holds another model or optimizer: '
                f'{"; ".join(differing[:3])}{more}; use the config, and the version of vq_jax, it was '
                'trained with.'
            )

    def _metric(self, step: int) -> float | None:
        """The value of the metric `best` in a checkpoint, None where there is none."""
        if self._best is None:
            return None
        if step not in self._metric_of_step:
            folder, value = self._directory / str(step), np.nan
            try:
                value = unseal(folder / MANIFEST)['metrics'].get(self._best, np.nan)
            except (DamagedError, OSError) as error:
                if folder.is_dir():  # else it was pruned just now
                    logging.warning('The metrics of checkpoint %d cannot be read: %s', step, error)
            self._metric_of_step[step] = value if np.isfinite(value) else None
        return self._metric_of_step[step]

    def _best_or_refuse(self) -> int:
        # Of two processes, one may look before whoever trains saves a better one, and one after.
        chosen = _from_first_process([step for step in [self.best_step()] if step is not None])
        if not chosen:
            raise UserError(
                'no checkpoint is known to be the best, because none was evaluated by config.best_metric, '
                f'{self._best!r}; give the number of one.'
            )
        return chosen[0]

    def _there_are(self, without: int | None = None) -> str:
        steps = [str(step) for step in self.steps() if step != without]
        return f'there are {", ".join(steps)}' if steps else 'there is no other'


# Arrays, to and from Orbax.


def _check_complete(folder: Path, wanted: dict[str, _Type]) -> None:
    """Raises an error unless the arrays that were to be written can be found, in their shapes and types.

    Of each, what describes it is read and not its values: those are compared with checksums when it is used.
    """
    import orbax.checkpoint as ocp

    if not wanted:
        return
    there = ocp.PyTreeCheckpointHandler().metadata(folder).tree
    found = {name: (tuple(array.shape), np.dtype(array.dtype)) for name, array in there.items()}
    if found != wanted:
        lacking = [name for name in wanted if found.get(name) != wanted[name]]
        raise ValueError(f'{", ".join(lacking[:3])} cannot be read back')


def _host_if_local(x: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Orbax takes only arrays that span all processes, or NumPy ones, which process 0 writes.

    An array of one process is therefore stored as that of process 0: all have the same.
    """
    local = isinstance(x, jax.Array) and jax.process_count() > 1 and x.is_fully_addressable
    return np.asarray(x) if local else x


def _on_host(x: jax.Array | np.ndarray) -> np.ndarray:
    """An array of all processes, which all of them ask for, as that of one."""
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return np.asarray(x)
    if x.is_fully_replicated:
        return np.asarray(x.addressable_data(0))
    return multihost_utils.process_allgather(x, tiled=True)


def _placement(leaf: Any) -> jax.sharding.Sharding | None:
    """Where the caller wants an array; None leaves that to JAX, as for a new array."""
    if isinstance(leaf, jax.Array):
        return leaf.sharding if leaf.committed else None
    return getattr(leaf, 'sharding', None)


def _load_arrays(
    folder: Path, saved: dict[str, Any], leaves: dict[str, Any]
) -> dict[str, jax.Array | np.ndarray]:
    import orbax.checkpoint as ocp

    item, restore_args = {}, {}
    for name, leaf in leaves.items():
        shape, dtype = plain_type(leaf)
        if 0 in shape:
            continue
        item[name] = jax.ShapeDtypeStruct(shape, dtype)
        sharding = _placement(leaf)
        local = sharding is None or (jax.process_count() > 1 and sharding.is_fully_addressable)
        restore_args[name] = (
            ocp.RestoreArgs(restore_type=np.ndarray, dtype=dtype)
            if local or _is_weak(leaf)
            else ocp.ArrayRestoreArgs(sharding=sharding, global_shape=shape, dtype=dtype)
        )
    _silence_orbax()
    args = ocp.args.PyTreeRestore(item=item, restore_args=restore_args)
    read = ocp.PyTreeCheckpointHandler().restore(folder, args=args) if item else {}
    return {name: _as_like(read.get(name), leaf, saved[name].get('impl')) for name, leaf in leaves.items()}


def _is_weak(leaf: Any) -> bool:
    return getattr(leaf, 'weak_type', False) and leaf.ndim == 0


def _as_like(value: Any, like: Any, impl: str | None) -> Any:
    """Turns what was read into the kind of leaf that `like` is."""
    if value is None:
        shape, dtype = plain_type(like)
        value = np.zeros(shape, dtype)
    if isinstance(like, bool | int | float | complex):
        return type(like)(value.item())
    if isinstance(like, np.ndarray | np.generic):
        return value if isinstance(like, np.ndarray) else value[()]
    if isinstance(value, np.ndarray):
        # A weakly typed number promotes differently, so it has to stay one.
        value = jnp.asarray(value.item()) if _is_weak(like) else jnp.array(value)
        if (sharding := _placement(like)) is not None:
            value = jax.device_put(value, sharding)
    return jax.random.wrap_key_data(value, impl=impl) if impl else value


def _reason(error: BaseException | None) -> str:
    """The innermost cause in a few words."""
    if error is None:
        return 'another process failed'
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Tensorstore, which writes Orbax's arrays, tells the system's error at the end of a long text.
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return first_line(error)[:300]


# Several processes.


def _all_processes(good: bool) -> bool:
    if jax.process_count() == 1:
        return good
    return bool(np.all(multihost_utils.process_allgather(np.asarray(good))))


def _agree_undamaged(damage: str | None) -> None:
    """Raises `DamagedError` in every process if one of them found damage."""
    if not _all_processes(damage is None):
        raise DamagedError(damage or 'found by another process')


def _from_first_process(steps: list[int]) -> list[int]:
    if jax.process_count() == 1:
        return steps
    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(steps))))
    mine = np.resize(np.asarray(steps or [0], np.int32), count)
    return [int(step) for step in multihost_utils.broadcast_one_to_all(mine)]


# Orbax.


def _new_checkpointer(shared: bool) -> Any:
    """What writes arrays of all processes that share a folder, or those of process 0 alone."""
    import orbax.checkpoint as ocp

    _silence_orbax()
    if shared or jax.process_count() == 1:
        return ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())
    alone = ocp.options.MultiprocessingOptions(active_processes={0}, barrier_sync_key_prefix='process_0')
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.AsyncCheckpointer(handler, multiprocessing_options=alone)


def _silence_orbax() -> None:
    logging.get_absl_logger().addFilter(_orbax_warnings_only)  # once: a second call adds no other
    python_logging.getLogger('asyncio').addFilter(_not_of_orbax)


def _orbax_warnings_only(record: python_logging.LogRecord) -> bool:
    """Drops Orbax's progress reports, and errors, which are raised again."""
    return f'{os.sep}orbax{os.sep}' not in record.pathname or record.levelno == python_logging.WARNING


def _not_of_orbax(record: python_logging.LogRecord) -> bool:
    """Drops what is logged of each file that Orbax could not write besides the first, which is raised."""
    # Of what a thread of it wrote, the traceback alone names Orbax.
    return 'orbax' not in python_logging.Formatter().format(record)

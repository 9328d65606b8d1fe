"""Runs the rows of a table that were not run yet."""

import functools
import hashlib
import importlib.metadata
import queue
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path, PurePosixPath
from typing import Any

from vq_jax.errors import UserError
from vq_jax.tables.definition import INCEPTION, FrameByFrame, Row, Table, read_table
from vq_jax.tables.processes import Slot, Workers, find_slots
from vq_jax.tables.results import Results, last_evaluation, number_of, read_evaluation
from vq_jax.tables.writing import write_table
from vq_jax.training.run_dir import differing_keys, flatten, is_run, read_config, read_data_facts

_PACKAGES = ('jax', 'flax', 'optax')


def run_rows(
    folder: Path, workdir: Path, names: Sequence[str] = (), jobs: int = 1, *, rerun: bool = False
) -> None:
    """Runs the rows that were not run yet, each after those that it builds on.

    The table is written after each. A row that fails takes those that build on it with it, and no others.

    Args:
        folder: of the table.
        workdir: where runs are kept; one that was interrupted there goes on.
        names: of the rows; none stands for all that are not large. Rows that they build on are run too.
        jobs: how many at once; with several, each has a GPU of its own, and its output is in a file.
        rerun: run them whether they were run or not. Of a run that came to its end in `workdir`, only what
            is made of it is made again. What was seen before is kept until a row comes to its end.

    Raises:
        UserError: if there is no such row, or some were not run to their end.
    """
    if jobs < 1:
        raise UserError(f'--jobs is {jobs}; give 1 or more.')
    table = read_table(folder)
    known = {row.name: row for row in table.rows}
    for name in names:
        if name not in known:
            raise UserError(f'the table of {folder} has no row {name!r}; it has {", ".join(known)}.')
    results = Results(folder, table)
    write_table(folder)
    asked = names or [row.name for row in table.rows if not row.large]
    waiting = _missing(table, asked, results, workdir, rerun)
    if not waiting:
        print(f'nothing to do: these rows were run, see {results.path}; --rerun runs them again.')
        return
    slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
    for slot in find_slots(jobs):
        slots.put(slot)
    failed: dict[str, str] = {}
    going: dict[Future[dict[str, Any]], Row] = {}
    with Workers() as workers, ThreadPoolExecutor(jobs) as pool:
        while (waiting and not workers.stopping) or going:
            for row in list(waiting):
                unmet = {other.name for other in [*waiting, *going.values()]}.intersection(row.needs)
                if lost := failed.keys() & set(row.needs):
                    failed[row.name] = f'it builds on {", ".join(sorted(lost))}'
                    waiting.remove(row)
                elif not unmet and len(going) < jobs and not workers.stopping:
                    waiting.remove(row)
                    measure = _Measurement(table, row, workdir, workers, logs=jobs > 1)
                    going[pool.submit(measure.run, slots)] = row
            for future in wait(going, return_when=FIRST_COMPLETED).done:
                row = going.pop(future)
                try:
                    results.save(row, future.result())
                    write_table(folder)
                except (UserError, OSError) as error:  # the other rows go on
                    failed[row.name] = str(error)
    write_table(folder)
    if workers.stopping:
        raise UserError('stopped; the same command goes on where it was.')
    if failed:
        reasons = '; '.join(f'{name} ({reason})' for name, reason in failed.items())
        raise UserError(f'not run to the end: {reasons}. Mend it, and the same command goes on.')


def _missing(table: Table, names: Sequence[str], results: Results, workdir: Path, rerun: bool) -> list[Row]:
    """The rows to run, in order; of rows that were run, those whose run is needed and is not there.

    To run rows again is to run the named ones as if they had not been run.
    """
    missing: list[Row] = []
    used: set[str] = set()
    for row in reversed(table.rows):
        needed = row.name in used
        there = last_evaluation(workdir / row.name) is not None
        unknown = results.of(row) is None or (rerun and row.name in names)
        if (needed and not there) or ((needed or row.name in names) and unknown):
            missing.insert(0, row)
            used |= set(row.needs)
        elif needed:
            _check_run(row, workdir)
            used |= set(row.built_on.values())
    return missing


def _check_run(row: Row, workdir: Path) -> None:
    """Refuses a run of another config: what is built on it would be kept as if it were the row's."""
    path = workdir / row.name
    before, now = flatten(read_config(path)), flatten(row.run_config(workdir))
    # Directories may be spelt otherwise; the runs in them are checked themselves.
    defaults = row.defaults()
    new = {key for key in now.keys() - before.keys() if key in defaults and now[key] == defaults[key]}
    keys = now.keys() - row.built_on.keys() - new
    before, now = ({key: config[key] for key in keys if key in config} for config in (before, now))
    if differing := differing_keys(before, now):
        raise UserError(
            f'{path} holds a run with another config than the row {row.name} has, which differs in '
            f'{", ".join(differing)}; give another --workdir, or remove {path}.'
        )


class _Measurement:
    def __init__(self, table: Table, row: Row, workdir: Path, workers: Workers, *, logs: bool) -> None:
        self._table, self._row, self._workdir, self._workers = table, row, workdir, workers
        self._log = workdir / f'{row.name}.log' if logs else None

    def run(self, slots: queue.SimpleQueue[Slot]) -> dict[str, Any]:
        """What was seen, and of what; raises `UserError` if the row did not come to its end."""
        row, slot, circumstances = self._row, slots.get(), _circumstances()
        result: dict[str, Any] = {}
        try:
            with self._workers.alone(self._workdir / f'.{row.name}.lock') as lock:
                if row.trains:
                    self._do(self._training(), slot, lock)
                    trained = last_evaluation(self._workdir / row.name)
                    if trained is None:
                        raise UserError('it was stopped before its end')
                    result = trained
                if row.weights:
                    self._convert(slot, lock)
                if row.comparison or not row.trains:
                    output = self._workdir / row.name / 'evaluation.json'
                    self._do([*self._evaluation(), f'--output={output}'], slot, lock)
                    evaluated = read_evaluation(output)
                    metrics = result.get('metrics', {}) | evaluated['metrics']
                    result = {**evaluated, **result, 'metrics': metrics}
        finally:
            slots.put(slot)
        for name in row.metrics:
            number_of(row, name, result['metrics'])
        return {**result, 'hardware': slot.hardware, **circumstances}

    def _do(self, arguments: Sequence[str], slot: Slot, lock: int) -> None:
        where = f' (output in {self._log})' if self._log else ''
        print(f'{self._row.title}: python -m {shlex.join(arguments)}{where}', flush=True)
        status = self._workers.run(arguments, slot, self._log, lock)
        if status:
            see = f', see {self._log}' if self._log else ''
            raise UserError(f'{arguments[0]} ended with status {status}{see}')

    def _convert(self, slot: Slot, lock: int) -> None:
        """Makes the run of a file of weights, unless it is there."""
        weights, workdir = self._row.weights, self._workdir / self._row.name
        if not is_run(workdir):
            self._do(['vq_jax.convert', weights, f'--workdir={workdir}'], slot, lock)
        origin = read_data_facts(workdir).origin
        if not origin or PurePosixPath(origin['file']).name != self._row.weights_name:
            raise UserError(
                f'{workdir} holds another run than that of {weights}; give another --workdir, or remove it'
            )

    def _training(self) -> list[str]:
        row, workdir = self._row, self._workdir / self._row.name
        flags = [f'--config.{key}={value}' for key, value in row.resolved(self._workdir).items()]
        return ['vq_jax.train', f'--config={row.config}', f'--workdir={workdir}', *flags, *self._allowed()]

    def _allowed(self) -> list[str]:
        """The flag for code of the user's own that configs of the table name: rows open each other's runs."""
        modules = sorted(frozenset().union(*(row.modules() for row in self._table.rows)))
        return [f'--allow_import={",".join(modules)}'] if modules else []

    def _evaluation(self) -> list[str]:
        row, comparison = self._row, self._row.comparison
        arguments = ['vq_jax.evaluate', f'--workdir={self._workdir / row.run}', *self._allowed()]
        if not row.trains:
            arguments += [f'--override={key}={value}' for key, value in row.resolved(self._workdir).items()]
        if comparison is None:
            return arguments
        if comparison.split:
            arguments.append(f'--split={comparison.split}')
        if isinstance(comparison, FrameByFrame):
            given = [f'--given={",".join(map(str, comparison.given))}'] if comparison.given else []
            return [*arguments, '--video', *given]
        features = self._workdir / comparison.features
        # Beside the classifier, because they are lost with it; rows that evaluate one run share them.
        said = f'{self._table.fingerprints[row.run]} {comparison.split}'
        reference = features / f'reference_{hashlib.sha256(said.encode()).hexdigest()[:12]}.npz'
        named = INCEPTION if comparison.features == INCEPTION else features
        return [*arguments, f'--features={named}', f'--num={comparison.num}', f'--reference={reference}']


def _circumstances() -> dict[str, Any]:
    return {
        'versions': {name: importlib.metadata.version(name) for name in _PACKAGES},
        'commit': _commit() or 'none',
        'day': time.strftime('%Y-%m-%d'),
    }


def _commit() -> str:
    """The commit of this package, '-dirty' behind it where Python files differ from it; '' if there is none.

    Other files may differ: each row that was run changes those of its table.
    """
    if not shutil.which('git'):  # which is not on every cluster
        return ''
    git = functools.partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True)
    if git(['git', 'ls-files', '--error-unmatch', Path(__file__).name]).returncode:
        return ''  # installed from a package, perhaps within a repository of something else
    head = git(['git', 'rev-parse', 'HEAD']).stdout.strip()
    changed = head and git(['git', 'diff', '--quiet', 'HEAD', '--', ':/*.py']).returncode
    return f'{head}-dirty' if changed else head

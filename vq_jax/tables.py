"""Tables of papers: which runs their rows are, what was seen, and the paper's number beside ours.

A folder in `experiments/` holds `table.py`, whose `get_table()` returns a `Table`; `results.json`, what
was seen of each row; and `table.md` and `table.csv`, which are made of both.
"""

import csv
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.training.config import to_json
from vq_jax.training.run_dir import write_atomically

_RESULTS = 'results.json'
_PACKAGES = ('jax', 'flax', 'optax')


@dataclasses.dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        name: of the run, and of its directory.
        title: what people call it.
        config: the config file, as a path from the top of the project; its argument may follow a colon.
        overrides: other values for keys of the config. In a text, `{NAME}` stands for the directory of
            the row of that name, which must come before.
        numbers: the evaluated number, by column of the table.
        paper: the paper's number, by column, where it has one.
        large: run only where it is asked for by its name: it needs an accelerator, or data that not
            everyone has.
    """

    name: str
    title: str
    config: str
    numbers: Mapping[str, str]
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, str] = dataclasses.field(default_factory=dict)
    large: bool = False

    def arguments(self, workdir: Path) -> list[str]:
        """Flags of `vq_jax.train`, for runs in a directory."""
        flags = [f'--config={self.config}', f'--workdir={workdir / self.name}']
        return flags + [f'--config.{key}={value}' for key, value in self.resolved(workdir).items()]

    def resolved(self, workdir: Path) -> dict[str, Any]:
        """The overrides with directories of other rows in their places."""
        places = _Directories(workdir)
        return {
            key: value.format_map(places) if isinstance(value, str) else value
            for key, value in self.overrides.items()
        }

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the whole config, without where directories are."""
        path, _, argument = self.config.partition(':')
        module = _load(Path(path))
        config: ConfigDict = module.get_config(argument) if argument else module.get_config()
        text = json.dumps([to_json(config), dict(self.overrides)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        title: what it shows.
        source: the paper, and where in it.
        rows: in order.
        remarks: what a reader must know to compare the two numbers.
    """

    title: str
    source: str
    rows: tuple[Row, ...]
    remarks: str = ''

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The numbers that rows have, in order: the paper's where it has any, and ours."""
        names = dict.fromkeys(column for row in self.rows for column in row.numbers)
        papers = {column for row in self.rows for column in row.paper}
        both, one = ('paper', 'ours'), ('ours',)
        return [(name, whose) for name in names for whose in (both if name in papers else one)]


def read_table(folder: Path) -> Table:
    """The table of a folder.

    Raises:
        UserError: if there is none.
    """
    path = folder / 'table.py'
    if not path.is_file():
        raise UserError(f'{folder} holds no table.py; give a folder in experiments/.')
    return _load(path).get_table()


def run_rows(folder: Path, workdir: Path, names: Sequence[str] = ()) -> None:
    """Trains the rows that were not run yet, one after the other, and writes the table after each.

    Args:
        folder: of the table.
        workdir: where runs are kept; one that was interrupted there goes on.
        names: of the rows; none stands for all that are not large.

    Raises:
        UserError: if there is no such row, or a run fails.
    """
    table = read_table(folder)
    known = {row.name: row for row in table.rows}
    for name in names:
        if name not in known:
            raise UserError(f'the table of {folder} has no row {name!r}; it has {", ".join(known)}.')
    wanted = [known[name] for name in names] or [row for row in table.rows if not row.large]
    results = _read_results(folder)
    for row in wanted:
        fingerprint = row.fingerprint()
        if results.get(row.name, {}).get('config') == fingerprint:
            continue
        print(f'{row.title}: {_command(row, workdir)}', flush=True)
        status = subprocess.run([sys.executable, '-m', 'vq_jax.train', *row.arguments(workdir)]).returncode
        if status:
            raise UserError(f'the run {row.name} ended with status {status}; mend it and start again.')
        evaluation = _last_evaluation(workdir / row.name)
        if evaluation is None:
            raise UserError(f'the run {row.name} was stopped; start again to go on.')
        results[row.name] = {'config': fingerprint, **evaluation, **_circumstances()}
        write_atomically(folder / _RESULTS, json.dumps(results, indent=2, sort_keys=True) + '\n')
        write_table(folder)
    write_table(folder)


def write_table(folder: Path) -> None:
    """Writes `table.md` and `table.csv` of what was seen so far."""
    table, results = read_table(folder), _read_results(folder)
    columns = [f'{name}, {whose}' for name, whose in table.columns]
    heads = ['run', *columns, 'data', 'steps', 'hardware', 'commit']
    lines = [_cells(row, table.columns, results.get(row.name)) for row in table.rows]
    file = io.StringIO()
    csv.writer(file, lineterminator='\n').writerows([heads, *lines])
    write_atomically(folder / 'table.csv', file.getvalue())
    text = [f'# {table.title}', '', f'{table.source}. {table.remarks}'.strip(), '']
    text += ['| ' + ' | '.join(cells) + ' |' for cells in (heads, ['---'] * len(heads), *lines)]
    lacking = [row for row in table.rows if not _is_fresh(row, results.get(row.name))]
    if lacking:
        text += ['', 'Rows that were not run, and how to run them:', '', '```']
        text += [f'python -m vq_jax.experiment {folder.as_posix()} --rows {row.name}' for row in lacking]
        text += ['```']
    write_atomically(folder / 'table.md', '\n'.join(text) + '\n')


def _cells(row: Row, columns: Sequence[tuple[str, str]], result: Mapping[str, Any] | None) -> list[str]:
    cells, fresh = [row.title], _is_fresh(row, result)
    for name, whose in columns:
        if whose == 'paper' or name not in row.numbers:
            cells.append(row.paper.get(name, '') if whose == 'paper' else '')
        else:
            cells.append(f'{result["numbers"][row.numbers[name]]:.4g}' if fresh else 'not run')
    if not fresh:
        return cells + [''] * 4
    return [*cells, result['data'], f'{result["steps"]:,}', result['hardware'], result['commit']]


def _is_fresh(row: Row, result: Mapping[str, Any] | None) -> bool:
    """Whether a row was run with the config that it has now."""
    return result is not None and result['config'] == row.fingerprint()


def _read_results(folder: Path) -> dict[str, Any]:
    path = folder / _RESULTS
    return json.loads(path.read_text()) if path.exists() else {}


def _last_evaluation(workdir: Path) -> dict[str, Any] | None:
    """What the end of a run's log says; None if it did not come to its end."""
    config = json.loads((workdir / 'config.json').read_text())
    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    ends = [line for line in lines if line['split'] == 'eval' and line['step'] == config['steps']]
    if not ends:
        return None
    numbers = {name: value for name, value in ends[-1].items() if isinstance(value, float)}
    data = f'{config["data"]["name"]} {config["data"]["eval_split"]}'
    return {'numbers': numbers, 'data': data, 'steps': config['steps']}


def _circumstances() -> dict[str, Any]:
    """The hardware, the versions, the commit and the day."""
    import jax

    device = jax.devices()[0]
    count = len(os.sched_getaffinity(0)) if device.platform == 'cpu' else jax.device_count()
    kind = f'{platform.machine()} cores' if device.platform == 'cpu' else device.device_kind
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True)
    return {
        'hardware': f'{count} {kind}',
        'versions': {name: importlib.metadata.version(name) for name in _PACKAGES},
        'commit': commit.stdout.strip() or 'none',
        'day': time.strftime('%Y-%m-%d'),
    }


def _command(row: Row, workdir: Path) -> str:
    return ' '.join(['python -m vq_jax.train', *row.arguments(workdir)])


def _load(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f'there is no file {path}; start from the top folder of the project.')
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Directories(dict):
    """The directory of each row, by its name."""

    def __init__(self, workdir: Path) -> None:
        super().__init__()
        self._workdir = workdir

    def __missing__(self, name: str) -> str:
        return str(self._workdir / name)

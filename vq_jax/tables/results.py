"""What was seen of the rows of a table: `results.json` in its folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vq_jax.errors import UserError
from vq_jax.tables.definition import Row, Table
from vq_jax.training.run_dir import write_atomically

_RESULTS = 'results.json'


class Results:
    """Of each row what was seen with the config that it has now.

    Attributes:
        path: of the file.
    """

    def __init__(self, folder: Path, table: Table) -> None:
        """Reads the file, if it is there."""
        self.path = folder / _RESULTS
        self._fingerprints = table.fingerprints
        self._all = self._read()

    def of(self, row: Row) -> Mapping[str, Any] | None:
        """None if the row was not run, or was another one then."""
        result = self._all.get(row.name)
        return result if result and result['config'] == self._fingerprints[row.name] else None

    def number(self, row: Row, name: str) -> float | None:
        """What was seen in a column of a row; None if the row was not run, or it was not measured."""
        result = self.of(row)
        return None if result is None else number_of(row, name, result['numbers'])

    def save(self, row: Row, result: Mapping[str, Any]) -> None:
        """Keeps what was seen of a row, in place of what was seen before, and what others saved meanwhile."""
        self._all = self._read() | {row.name: {'config': self._fingerprints[row.name], **result}}
        write_atomically(self.path, json.dumps(self._all, indent=2, sort_keys=True) + '\n')

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self.path.read_text()) if self.path.exists() else {}
        except ValueError as error:
            raise UserError(f'{self.path} is damaged ({error}); restore it from a copy.') from error


def number_of(row: Row, name: str, numbers: Mapping[str, float | None]) -> float | None:
    """The number that a column of a row is to show.

    Args:
        row: whose.
        name: of the column, one of the row's.
        numbers: what was measured.

    Raises:
        UserError: if there is none of the name that the table gives it.
    """
    if (asked := row.numbers[name]) not in numbers:
        raise UserError(f'its table asks for {asked!r}, and there is {", ".join(sorted(numbers))}')
    return numbers[asked]


def last_evaluation(workdir: Path) -> dict[str, Any] | None:
    """What the end of a run's log says; None if there is no run, or it did not come to its end."""
    try:
        config = json.loads((workdir / 'config.json').read_text())
        log = (workdir / 'metrics.jsonl').read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    lines = [json.loads(line) for line in log if line.endswith('\n')]  # a run may be writing its last one
    ends = [line for line in lines if line['split'] == 'eval' and line['step'] == config['steps']]
    if not ends:
        return None
    numbers = {name: value for name, value in ends[-1].items() if isinstance(value, float)}
    data = f'{config["data"]["name"]} {config["data"]["eval_split"]}'
    return {'numbers': numbers, 'data': data, 'steps': config['steps']}


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `vq_jax.evaluate --output` wrote, in the same form.

    Numbers of a comparison are called 'samples.NAME' and 'reconstructions.NAME'.
    """
    record = json.loads(path.read_text())
    if 'reference' not in record:
        numbers = {name: value for name, value in record.items() if isinstance(value, float)}
        return {'numbers': numbers, 'data': f'{record["dataset"]} {record["split"]}', 'steps': record['step']}
    numbers, comparison = {}, {}
    for kind in ('samples', 'reconstructions'):
        if kind in record:
            numbers |= {f'{kind}.{name}': value for name, value in record[kind]['numbers'].items()}
            comparison[kind] = record[kind]['pictures']
            if 'lpips' in record[kind]:
                comparison['lpips'] = record[kind]['lpips']['checksum']
    if 'samples' in record:
        numbers['samples.seconds_per_sample'] = record['samples']['seconds_per_sample']
    features = {name: value for name, value in record['features'].items() if name != 'workdir'}
    return {
        'numbers': numbers,
        'data': f'{record["reference"]["dataset"]} {record["reference"]["split"]}',
        'steps': record['run']['step'],
        'comparison': {**comparison, 'features': features, 'reference': record['reference']},
    }

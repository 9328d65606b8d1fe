"""What was seen of the rows of a table, `results.json` in its folder, and with which configs."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from vq_jax.errors import UserError
from vq_jax.files import write_atomically
from vq_jax.json_files import check_type, read_json
from vq_jax.tables.definition import Made, Row, Table
from vq_jax.training.metrics_log import METRICS_NAME, read_log
from vq_jax.training.run_dir import CONFIG_NAME, flatten, is_run, read_config

_RESULTS = 'results.json'
_MADE = 'configs.json'
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class _Result(TypedDict):
    config: str
    metrics: dict[str, float | None]
    data: str
    steps: _Count
    hardware: str
    commit: str


# What is read of a run's config, by dotted keys.
_Config = TypedDict('_Config', {'steps': _Count, 'data.name': str, 'data.eval_split': str})


class _Split(TypedDict):
    """Of which examples numbers are."""

    dataset: str
    split: str


class _Evaluation(_Split):
    """What is read of an evaluation beside its numbers."""

    step: _Count


class _Lpips(TypedDict):
    checksum: str


class _Compared(TypedDict):
    """What is read of a comparison of samples or reconstructions."""

    images: _Count
    metrics: dict[str, float | None]
    lpips: NotRequired[_Lpips]


class _Samples(_Compared):
    seconds_per_sample: float | None


class _Run(TypedDict):
    step: _Count


class _Comparison(TypedDict):
    """What is read of an evaluation that compares."""

    run: _Run
    reference: _Split
    features: dict[str, Any]
    samples: NotRequired[_Samples]
    reconstructions: NotRequired[_Compared]


class _OfFrames(TypedDict):
    metrics: dict[str, float | None]


class _Frames(_Split):
    """What is read of an evaluation of frames."""

    run: _Run
    reconstructions: NotRequired[_OfFrames]
    predictions: NotRequired[_OfFrames]
    interpolations: NotRequired[_OfFrames]
    copies: NotRequired[_OfFrames]
    blends: NotRequired[_OfFrames]


class Results:
    """Of each row what was seen with the config that it has now.

    Results are kept under the fingerprint of what they were made with, and what that is in `configs.json`
    beside them, without which a fingerprint is good for as long as it stays the same to the letter.

    Attributes:
        path: of the results.
    """

    def __init__(self, folder: Path, table: Table) -> None:
        """Reads the file, if it is there."""
        self.path = folder / _RESULTS
        self._table = table
        self._all = self._read()
        self._made = self._read_made()
        self._seen: dict[str, Any] = {}

    def of(self, row: Row) -> Mapping[str, Any] | None:
        """None if the row was not run, or was another one then."""
        result = self._all.get(row.name)
        return result if result and self._table.is_of(row.name, result['config'], self._made) else None

    def number(self, row: Row, name: str) -> float | None:
        """What was seen in a column of a row; None if the row was not run, or it was not measured."""
        result = self.of(row)
        return None if result is None else number_of(row, name, result['metrics'])

    def save(self, row: Row, result: Mapping[str, Any]) -> None:
        """Keeps what was seen of a row, in place of what was seen before, and what others saved meanwhile.

        Where that raises a `WriteError`, the next row's call tries again.
        """
        self._seen[row.name] = {'config': self._table.fingerprints[row.name], **result}
        self._all = self._read() | self._seen
        write_atomically(self.path, json.dumps(self._all, indent=2, sort_keys=True) + '\n')
        self.keep_configs()

    def keep_configs(self) -> None:
        """Writes down what the fingerprints of all results are of, as far as it is known."""
        known = self._read_made() | self._table.made
        waiting, kept = [result['config'] for result in self._all.values()], {}
        while waiting:
            fingerprint = waiting.pop()
            if fingerprint in known and fingerprint not in kept:
                kept[fingerprint] = known[fingerprint]
                waiting += known[fingerprint].get('needs', {}).values()
        if kept != self._read_made():
            lines = [f'{json.dumps(name)}: {json.dumps(kept[name], sort_keys=True)}' for name in sorted(kept)]
            write_atomically(self.path.parent / _MADE, '{\n' + ',\n'.join(lines) + '\n}\n')
        self._made = kept

    def _read_made(self) -> dict[str, Made]:
        return _read(self.path.parent / _MADE, Made, 'restore it from a copy, or remove it')

    def _read(self) -> dict[str, Any]:
        advice = 'restore it from a copy'
        results = _read(self.path, Any, advice)
        check_type(results, dict[str, _Result], where=str(self.path), advice=advice)
        return results


def _read(path: Path, kind: Any, advice: str) -> dict[str, Any]:
    """What a JSON file holds by name; nothing if it is not there."""
    try:
        return read_json(path, dict[str, kind], advice=advice)
    except FileNotFoundError:
        return {}


def number_of(row: Row, name: str, metrics: Mapping[str, float | None]) -> float | None:
    """What a column of a row shows of the metrics that were measured; raises `UserError` if they lack it."""
    if (asked := row.metrics[name]) not in metrics:
        raise UserError(f'its table asks for {asked!r}, and there is {", ".join(sorted(metrics))}')
    return metrics[asked]


def last_evaluation(workdir: Path) -> dict[str, Any] | None:
    """What the end of a run's log says; None if there is no run, or it did not come to its end."""
    if not is_run(workdir):
        return None
    where = str(workdir / CONFIG_NAME)
    config = check_type(flatten(read_config(workdir)), _Config, where=where, advice='remove the run')
    try:
        log = list(read_log(workdir / METRICS_NAME))
    except FileNotFoundError:
        return None
    ends = [line for line in log if line.split == 'eval' and line.step == config['steps']]
    if not ends:
        return None
    metrics = {
        name: value for name, value in ends[-1].metrics.items() if name != 'examples' and math.isfinite(value)
    }
    data = f'{config["data.name"]} {config["data.eval_split"]}'
    return {'metrics': metrics, 'data': data, 'steps': config['steps']}


def read_evaluation(path: Path) -> dict[str, Any]:
    """What `vq_jax.evaluate --output` wrote, in the same form.

    Numbers of a comparison are called 'samples.NAME' and 'reconstructions.NAME', those of frames likewise.
    """
    advice = 'remove it, and run the row again'
    record = read_json(path, dict[str, Any], advice=advice)
    if 'frames' in record:
        made = check_type(record, _Frames, where=str(path), advice=advice)
        kinds = {kind: made[kind]['metrics'] for kind in made if kind in _Frames.__optional_keys__}
        metrics = {f'{kind}.{name}': value for kind, of in kinds.items() for name, value in of.items()}
        data = f'{made["dataset"]} {made["split"]}'
        return {'metrics': metrics, 'data': data, 'steps': made['run']['step']}
    if 'reference' not in record:
        made = check_type(record, _Evaluation, where=str(path), advice=advice)
        metrics = {name: value for name, value in record.items() if isinstance(value, float)}
        return {'metrics': metrics, 'data': f'{made["dataset"]} {made["split"]}', 'steps': made['step']}
    check_type(record, _Comparison, where=str(path), advice=advice)
    metrics, comparison = {}, {}
    for kind in ('samples', 'reconstructions'):
        if kind in record:
            metrics |= {f'{kind}.{name}': value for name, value in record[kind]['metrics'].items()}
            comparison[kind] = record[kind]['images']
            if 'lpips' in record[kind]:
                comparison['lpips'] = record[kind]['lpips']['checksum']
    if 'samples' in record:
        metrics['samples.seconds_per_sample'] = record['samples']['seconds_per_sample']
    features = {name: value for name, value in record['features'].items() if name != 'workdir'}
    return {
        'metrics': metrics,
        'data': f'{record["reference"]["dataset"]} {record["reference"]["split"]}',
        'steps': record['run']['step'],
        'comparison': {**comparison, 'features': features, 'reference': record['reference']},
    }

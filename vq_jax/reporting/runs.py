"""Reads run directories, as far as the runs have come: config, facts of the data, log, media."""

import dataclasses
import datetime
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from vq_jax.errors import UserError
from vq_jax.json_files import check_type
from vq_jax.media import Animation, Sheet, Sound, Texts
from vq_jax.training.metrics_log import METRICS_NAME, WARNING, read_log
from vq_jax.training.run_dir import CONFIG_NAME, DataFacts, flatten, read_config, read_data_facts


@dataclasses.dataclass(frozen=True)
class Series:
    """A number of the log against the training step.

    Attributes:
        steps: of the lines that have the number, in the order of the log.
        values: NaN where the number was not finite.
    """

    steps: list[int]
    values: list[float]


@dataclasses.dataclass(frozen=True)
class RecordedRun:
    """What a run directory holds.

    Attributes:
        label: the last parts of its path, as many as tell it from the other runs.
        workdir: its absolute path.
        config: its config by dotted keys.
        facts: the spec of its examples, and the runs that it is built on.
        log: what was logged, by split ('train', 'eval', 'speed') and name.
        warnings: step and text of each, in the order of the log.
        logged: when the last line was written; None if there is no log yet.
        images: files of images by name and step, both in order.
        animations: files of animations, alike.
        sounds: files of sounds, alike.
        texts: files of texts, alike.
    """

    label: str
    workdir: Path
    config: dict[str, Any]
    facts: DataFacts
    log: dict[str, dict[str, Series]]
    warnings: list[tuple[int, str]]
    logged: datetime.datetime | None
    images: dict[str, dict[int, Path]]
    animations: dict[str, dict[int, Path]]
    sounds: dict[str, dict[int, Path]]
    texts: dict[str, dict[int, Path]]

    @property
    def last_step(self) -> int:
        """The step of the last line of the log, 0 if there is none."""
        return max((s.steps[-1] for names in self.log.values() for s in names.values()), default=0)

    def evaluation(self, step: int) -> dict[str, float]:
        """The evaluated numbers of a step, by name."""
        return {
            name: series.values[series.steps.index(step)]
            for name, series in self.log.get('eval', {}).items()
            if step in series.steps
        }

    @property
    def last_evaluation(self) -> int | None:
        """The step of the last evaluation."""
        return max((s.steps[-1] for s in self.log.get('eval', {}).values()), default=None)

    @property
    def best_evaluation(self) -> int | None:
        """The step of the evaluation that is the best by `config.best_metric`; of equal ones the newest.

        None where the config names no number, or no evaluation has it.
        """
        series = self.log.get('eval', {}).get(self.config.get('best_metric'))
        if series is None:
            return None
        sign = -1 if self.config.get('best_mode') == 'min' else 1
        finite = [
            (sign * v, step) for step, v in zip(series.steps, series.values, strict=True) if math.isfinite(v)
        ]
        return max(finite)[1] if finite else None


def read_runs(workdirs: Sequence[str | Path]) -> list[RecordedRun]:
    """Reads run directories; the runs may still be going on, or have been killed.

    Raises:
        UserError: One is not a run directory or is given twice, or its files are damaged.
    """
    paths = [Path(workdir).resolve() for workdir in workdirs]
    for i, path in enumerate(paths):
        if path in paths[:i]:
            raise UserError(f'{path} is given twice; name each run once.')
    return [_read_run(path, label) for path, label in zip(paths, _labels(paths), strict=True)]


class _Config(TypedDict, total=False):
    """The keys of a config that are read here; nothing is asked of the others."""

    task: str
    steps: int
    best_metric: str | None
    best_mode: str


def _read_run(workdir: Path, label: str) -> RecordedRun:
    config = flatten(read_config(workdir))
    check_type(config, _Config, where=f'{workdir / CONFIG_NAME}', advice='restore it from a copy')
    path = workdir / METRICS_NAME
    try:
        log, warnings = _read_log(path)
        logged = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    except FileNotFoundError:  # just started
        log, warnings, logged = {}, [], None
    folders = (
        (Sheet.folder, '.png'),
        (Animation.folder, '.gif'),
        (Sound.folder, '.wav'),
        (Texts.folder, '.txt'),
    )
    media = [_find(workdir / folder, ending) for folder, ending in folders]
    facts = read_data_facts(workdir)
    return RecordedRun(label, workdir, config, facts, log, warnings, logged, *media)


def _read_log(path: Path) -> tuple[dict[str, dict[str, Series]], list[tuple[int, str]]]:
    """The numbers by split and name, and the warnings."""
    log: dict[str, dict[str, Series]] = {}
    warnings = []
    for line in read_log(path):
        if line.split == WARNING:
            warnings.append((line.step, line.text))
            continue
        names = log.setdefault(line.split, {})
        for name, value in line.metrics.items():
            series = names.setdefault(name, Series([], []))
            series.steps.append(line.step)
            series.values.append(value)
    return log, warnings


def _find(folder: Path, ending: str) -> dict[str, dict[int, Path]]:
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob(f'*{ending}')):
        named = re.fullmatch(r'(.+)_([0-9]{7,15})', path.stem)  # as the writer names them
        if named is not None and not path.name.startswith('.'):
            found.setdefault(named[1], {})[int(named[2])] = path
    return {name: dict(sorted(steps.items())) for name, steps in found.items()}


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that all differ."""
    labels: list[str] = []
    for parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        labels = ['/'.join(path.parts[-parts:]) for path in paths]
        if len(set(labels)) == len(labels):
            break
    return labels

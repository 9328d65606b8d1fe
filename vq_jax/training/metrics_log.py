"""Reads `metrics.jsonl`, the log of a run, line by line."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from vq_jax.json_files import check_type, read_json_lines

METRICS_NAME = 'metrics.jsonl'
WARNING = 'warning'  # the split of lines that have a text
_ADVICE = 'mend it or take it out'


@dataclasses.dataclass(frozen=True)
class LogLine:
    """What a line of the log says.

    Attributes:
        step: the training step.
        split: of what its metrics are ('train', 'eval', 'speed'), or 'warning'.
        metrics: by name; NaN where one was not finite. Empty for a warning.
        text: of a warning; empty for metrics.
    """

    step: int
    split: str
    metrics: dict[str, float]
    text: str = ''


class _Head(TypedDict):
    step: Annotated[int, Meta(ge=0, le=2**53)]  # as far as JavaScript counts, which shows it
    split: str


class _Warning(TypedDict):
    text: str


def read_log(path: Path) -> Iterator[LogLine]:
    """The lines of a log; a last one that is not complete yet is left out.

    Raises:
        FileNotFoundError: there is no log.
        UserError: it cannot be read, or a line is not an object with step, split and metrics.
    """
    for number, record in read_json_lines(path, dict[str, Any], advice=_ADVICE):
        where = f'line {number} of {path}'
        head = check_type(record, _Head, where=where, advice=_ADVICE)
        if head['split'] == WARNING:
            text = check_type(record, _Warning, where=where, advice=_ADVICE)['text']
            yield LogLine(**head, metrics={}, text=text)
            continue
        rest = {name: value for name, value in record.items() if name not in head}
        values = check_type(rest, dict[str, float | None], where=where, advice=_ADVICE)
        finite = {
            name: math.nan if value is None or not math.isfinite(value) else value
            for name, value in values.items()
        }
        yield LogLine(**head, metrics=finite)

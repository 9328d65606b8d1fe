"""Where metrics and media of a run go: `metrics.jsonl`, files of media, TensorBoard, Weights & Biases."""

import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from vq_jax.errors import UserError
from vq_jax.files import AppendedFile, WriteError, telling, write_atomically
from vq_jax.media import Animation, Media, Sheet, Sound, Texts
from vq_jax.training.metrics_log import METRICS_NAME, WARNING, read_log
from vq_jax.training.tensorboard import TensorBoard
from vq_jax.training.weights_and_biases import WeightsAndBiases, check_installed

_Other = TensorBoard | WeightsAndBiases  # logs beside the files, without which a run goes on


class MetricWriter:
    """Writes the log of a run.

    `metrics.jsonl` has one object a line: `step`, `split`, and metrics by name. One that is not
    finite, for which JSON has no word, is written as null. A line of the split 'warning' has a `text`
    instead of metrics. Resuming drops what was logged after the checkpoint, so that a run that was killed
    leaves the log of one that was not.

    No log holds up a run. Where one cannot be written, which a warning tells once, lines of `metrics.jsonl`
    are kept until they can be; media are left out; TensorBoard and Weights & Biases are given up.

    Attributes:
        workdir: the run directory; made if it is not there.
        resume_step: the step the run goes on from; 0 for a new run.
        wandb_project: a Weights & Biases project to log to as well.
        config: what is shown there as the config.
        active: False writes nothing, for all processes but the first.

    Raises:
        UserError: if Weights & Biases is asked for and not installed, or the directory cannot be written.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        resume_step: int,
        wandb_project: str | None = None,
        config: dict[str, Any] | None = None,
        active: bool = True,
    ) -> None:
        self._active = active
        if not active:
            return
        if wandb_project:
            check_installed()
        self._workdir = workdir
        self._path = workdir / METRICS_NAME
        with telling(f'Cannot write to {workdir}', 'make room, or choose another --workdir', WriteError):
            (workdir / Sheet.folder).mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                _drop_after(self._path, resume_step)
            for folder in (Sheet.folder, Animation.folder, Sound.folder, Texts.folder):
                _drop_media_after(workdir / folder, resume_step)
            self._file = AppendedFile(self._path)
        self._kept: list[bytes] = []  # lines that could not be written yet
        self._told: set[str] = set()  # what it was said of that it cannot be written
        self._others: list[_Other] = []
        self._begin(TensorBoard, lambda: TensorBoard(workdir / 'tensorboard', resume_step))
        if wandb_project:
            self._begin(
                WeightsAndBiases, lambda: WeightsAndBiases(workdir, wandb_project, config, resume_step)
            )

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Writes metrics of a step; `split` says of what ('train', 'eval', 'speed')."""
        if not self._active:
            return
        self._line(step, split, {k: v if math.isfinite(v) else None for k, v in values.items()})
        self._each(lambda other: other.scalars(step, split, values))

    def warning(self, step: int, text: str) -> None:
        """Writes a warning of a step."""
        if not self._active:
            return
        self._line(step, WARNING, {'text': text})
        self._each(lambda other: other.text(step, WARNING, text))

    def media(self, step: int, name: str, media: Media) -> None:
        """Writes the files of media, called `<name>_<step>`, into their folder of the run directory."""
        if not self._active:
            return
        for file, content in media.files(f'{name}_{step:07d}').items():
            try:
                write_atomically(self._workdir / media.folder / file, content)
            except WriteError as error:
                lost = (
                    f'{error} This file is lost, as are others of {media.folder} for as long as that is so.'
                )
                self._tell(media.folder, lost)
        self._each(lambda other: media.log(other, step, name))

    def sync(self) -> None:
        """Has on the disk what was written, before a checkpoint of the same step is."""
        if not self._active:
            return
        self._write_kept()
        try:
            self._file.sync()
        except OSError as error:
            self._tell_lines(error)
        self._each(lambda other: other.sync())

    def close(self, *, failed: bool = False) -> None:
        """Writes what is pending and closes the files.

        Args:
            failed: whether this is because of an error, which is more important than any here.

        Raises:
            WriteError: lines of `metrics.jsonl` are lost, unless it failed.
        """
        if not self._active:
            return
        self._each(lambda other: other.close())
        self._write_kept()
        self._file.close()
        if self._kept and not failed:
            raise WriteError(
                f'the last {len(self._kept)} lines of {self._path} could not be written; make room.'
            )

    def __enter__(self) -> 'MetricWriter':
        return self

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        self.close(failed=error is not None)

    def _line(self, step: int, split: str, values: Mapping[str, float | str | None]) -> None:
        self._kept.append(json.dumps({'step': step, 'split': split, **values}).encode() + b'\n')
        self._write_kept()

    def _write_kept(self) -> None:
        try:
            self._file.add(b''.join(self._kept))
            self._kept.clear()
        except OSError as error:
            self._tell_lines(error)

    def _tell_lines(self, error: OSError) -> None:
        reason = error.strerror or error
        self._tell(
            METRICS_NAME, f'Cannot write {self._path} ({reason}); its lines are kept until that is mended.'
        )

    def _tell(self, what: str, warning: str) -> None:
        if what not in self._told:
            self._told.add(what)
            logging.warning('%s', warning)

    def _begin(self, kind: type[_Other], make: Callable[[], _Other]) -> None:
        try:
            self._others.append(make())
        except UserError:  # a mistake to mend before the first step
            raise
        except kind.failures as error:
            _tell_given_up(kind, error)

    def _each(self, write: Callable[[_Other], None]) -> None:
        for other in tuple(self._others):
            try:
                write(other)
            except other.failures as error:
                self._others.remove(other)
                _tell_given_up(type(other), error)


def _tell_given_up(kind: type[_Other], error: Exception) -> None:
    reason = getattr(error, 'strerror', None) or ' '.join(f'{type(error).__name__}: {error}'.split())
    logging.warning('%s cannot be written (%s); the run goes on without it.', kind.title, reason)


def _drop_after(path: Path, step: int) -> None:
    """Keeps the lines up to a step; a last line that a kill cut short goes too."""
    kept = [line.step <= step for line in read_log(path)]  # refuses what is no file
    lines = zip(io.BytesIO(path.read_bytes()), kept, strict=False)
    write_atomically(path, b''.join(line for line, keep in lines if keep))


def _drop_media_after(folder: Path, step: int) -> None:
    """Removes the files of later steps, which may not be made again."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if (found := re.fullmatch(r'.+_(\d{7,})\.(png|gif|wav|txt)', path.name)) and int(found[1]) > step:
            path.unlink()

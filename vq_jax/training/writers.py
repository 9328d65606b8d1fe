"""Where numbers and pictures of a run go: `metrics.jsonl`, TensorBoard, PNG files, Weights & Biases."""

import importlib.util
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vq_jax.errors import UserError
from vq_jax.training.metrics_log import METRICS_NAME, WARNING, read_log
from vq_jax.training.run_dir import write_atomically


class MetricWriter:
    """Writes the log of a run.

    `metrics.jsonl` has one object a line: `step`, `split`, and numbers by name. A number that is not
    finite, for which JSON has no word, is written as null. A line of the split 'warning' has a `text`
    instead of numbers. Resuming drops what was logged after the checkpoint, so that a run that was killed
    leaves the log of one that was not.

    Attributes:
        workdir: the run directory; made if it is not there.
        resume_step: the step the run goes on from; 0 for a new run.
        wandb_project: a Weights & Biases project to log to as well.
        config: what is shown there as the config.
        active: False writes nothing, for all processes but the first.

    Raises:
        UserError: if Weights & Biases is asked for and not installed.
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
        if wandb_project and importlib.util.find_spec('wandb') is None:
            raise UserError(
                'config.wandb_project needs Weights & Biases: pip install wandb, or leave it None.'
            )
        from tensorboardX import SummaryWriter  # not before it is known to be needed

        self._images = workdir / 'images'
        self._images.mkdir(parents=True, exist_ok=True)
        path = workdir / METRICS_NAME
        if path.exists():
            _drop_after(path, resume_step)
        self._file = path.open('a', encoding='utf-8')
        self._tensorboard = SummaryWriter(
            str(workdir / 'tensorboard'), purge_step=resume_step + 1 if resume_step else None
        )
        self._wandb = _start_wandb(workdir, wandb_project, config) if wandb_project else None

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Writes named numbers of a step; `split` says of what ('train', 'eval', 'speed')."""
        if not self._active:
            return
        self._line(step, split, {k: v if math.isfinite(v) else None for k, v in values.items()})
        for name, value in values.items():
            self._tensorboard.add_scalar(f'{split}/{name}', value, step)
        if self._wandb is not None:
            self._wandb.log({f'{split}/{k}': v for k, v in values.items()}, step=step)

    def warning(self, step: int, text: str) -> None:
        """Writes a warning of a step."""
        if not self._active:
            return
        self._line(step, WARNING, {'text': text})
        self._tensorboard.add_text(WARNING, text, step)
        if self._wandb is not None:
            self._wandb.log({WARNING: text}, step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture, uint8 [h w 3], as `images/<name>_<step>.png`."""
        if not self._active:
            return
        from PIL import Image

        png = io.BytesIO()
        Image.fromarray(image).save(png, 'png')
        write_atomically(self._images / f'{name}_{step:07d}.png', png.getvalue())
        self._tensorboard.add_image(name, image, step, dataformats='HWC')
        if self._wandb is not None:
            import wandb

            self._wandb.log({name: wandb.Image(image)}, step=step)

    def close(self) -> None:
        """Writes what is pending and closes the files."""
        if not self._active:
            return
        self._file.close()
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _line(self, step: int, split: str, values: Mapping[str, float | str | None]) -> None:
        self._file.write(json.dumps({'step': step, 'split': split, **values}) + '\n')
        self._file.flush()


def _drop_after(path: Path, step: int) -> None:
    """Keeps the lines up to a step; a last line that a kill cut short goes too."""
    lines = path.read_bytes().splitlines(keepends=True)
    write_atomically(
        path, b''.join(lines[number - 1] for number, line in read_log(path) if line.step <= step)
    )


def _start_wandb(workdir: Path, project: str, config: dict[str, Any] | None) -> Any:
    """The run's own Weights & Biases run: the same one after a resume."""
    import wandb

    note = workdir / 'wandb_id.txt'
    identity = note.read_text().strip() if note.exists() else None
    run = wandb.init(project=project, id=identity, resume='allow', config=config, dir=str(workdir))
    write_atomically(note, run.id + '\n')
    return run

"""The log of a run for Weights & Biases."""

import importlib.util
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from absl import logging

from vq_jax.errors import UserError
from vq_jax.files import write_atomically
from vq_jax.json_files import read_file
from vq_jax.media import wav

_NOTE = 'wandb_id.txt'


def check_installed() -> None:
    """Raises `UserError` if Weights & Biases is not installed."""
    if importlib.util.find_spec('wandb') is None:
        raise UserError('config.wandb_project needs Weights & Biases: pip install wandb, or leave it None.')


class WeightsAndBiases:
    """Writes to the run's own Weights & Biases run: the same one after a resume.

    There, steps can only grow. A resumed run asks for those after its checkpoint to be taken back
    (`resume_from`, which not every account has); where that is refused, steps that are there already are not
    sent again: they say the same.

    Attributes:
        title: what it is called.
        failures: what its methods raise; a service that is not there may fail in any way.
    """

    title: ClassVar = 'Weights & Biases'
    failures: ClassVar = (Exception,)

    def __init__(self, workdir: Path, project: str, config: dict[str, Any] | None, resume_step: int) -> None:
        import wandb

        options = {'project': project, 'config': config, 'dir': str(workdir)}
        identity = _identity(workdir / _NOTE)
        if identity is None:
            self._run = wandb.init(**options)
        else:
            try:
                self._run = wandb.init(resume_from=f'{identity}?_step={resume_step}', **options)
            except Exception as error:
                logging.info('Weights & Biases takes no steps back: %s', error)
                self._run = wandb.init(id=identity, resume='allow', **options)
        self._first = self._run.starting_step
        self._image, self._audio, self._video = wandb.Image, wandb.Audio, wandb.Video
        write_atomically(workdir / _NOTE, self._run.id + '\n')

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """See `MetricWriter.scalars`."""
        self._log(step, {f'{split}/{name}': value for name, value in values.items()})

    def text(self, step: int, name: str, text: str) -> None:
        """Writes a text."""
        self._log(step, {name: text})

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes an image, uint8 [h w 3]."""
        self._log(step, {name: self._image(image)})

    def animation(self, step: int, name: str, gif: bytes, size: tuple[int, int]) -> None:
        """Writes the content of a GIF file as a file, for which wandb needs no other package."""
        with tempfile.TemporaryDirectory() as folder:  # wandb copies what is in it at once
            path = Path(folder) / 'animation.gif'
            write_atomically(path, gif)
            self._log(step, {name: self._video(str(path), format='gif')})

    def sound(self, step: int, name: str, samples: np.ndarray, rate: float) -> None:
        """Writes a sound, int16 [n c], as a file, for which wandb needs no other package."""
        with tempfile.TemporaryDirectory() as folder:  # wandb copies what is in it at once
            path = Path(folder) / 'sound.wav'
            wav.write(path, samples, rate)
            self._log(step, {name: self._audio(str(path), sample_rate=round(rate))})

    def sync(self) -> None:
        """Nothing: its own process sends what it was given, when it can."""

    def close(self) -> None:
        """Returns when everything is sent."""
        self._run.finish()

    def _log(self, step: int, values: dict[str, Any]) -> None:
        if step >= self._first:
            self._run.log(values, step=step)


def _identity(note: Path) -> str | None:
    """The run that an earlier start made, if there was one."""
    try:
        identity = read_file(note).decode('utf-8', 'replace').strip()
    except FileNotFoundError:
        return None
    if not re.fullmatch(r'[\w-]{1,128}', identity):
        raise UserError(f'{note} does not hold the name of a Weights & Biases run; remove it.')
    return identity

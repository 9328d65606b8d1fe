"""A trained run, opened from its directory, for notebooks and commands."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.data import DataConfig, Dataset, open_dataset
from vq_jax.errors import UserError
from vq_jax.evaluators.means import Evaluation, MeanEvaluator
from vq_jax.ops.images import to_float, to_uint8
from vq_jax.tasks import complete_config, make_task
from vq_jax.tasks.task import State, Task
from vq_jax.training.checkpoints import Checkpoints
from vq_jax.training.config import build
from vq_jax.training.parallel import Engine, ParallelConfig, make_engine
from vq_jax.training.run_dir import read_config, read_data_facts
from vq_jax.training.state import abstract_batch


def load(workdir: str | Path, step: int | None = None) -> 'Run':
    """Opens a trained run.

    Args:
        workdir: the directory that `vq_jax.train` wrote.
        step: the checkpoint to use; None is the newest that is undamaged.

    Raises:
        UserError: if the directory holds no run, or no checkpoint that can be read.
    """
    workdir = Path(workdir)
    config = complete_config(ConfigDict(read_config(workdir)))
    shape, num_classes = read_data_facts(workdir)
    task = make_task(config, shape, num_classes)
    like = jax.eval_shape(task.init, jax.random.key(0), abstract_batch(1, shape))
    checkpoints = Checkpoints(
        workdir / 'checkpoints',
        keep=config.keep_checkpoints,
        best=config.best_metric,
        best_mode=config.best_mode,
        read_only=True,
    )
    restored = checkpoints.restore(like, step)
    checkpoints.close()
    if restored is None:
        raise UserError(f'{workdir} holds no checkpoint yet; train it first, with vq_jax.train.')
    return Run(config=config, task=task, state=restored[1], image_shape=shape, step=restored[0])


class Run:
    """A trained model with its parameters.

    Attributes:
        config: the full config of the run.
        task: what was learned; `task.model` is the Flax module.
        state: the restored state.
        variables: the model's variables for evaluation, for `task.model.apply`.
        image_shape: shape [h w c] of the pictures the model was trained on.
        step: the training step of the checkpoint.
    """

    def __init__(
        self,
        *,
        config: ConfigDict,
        task: Task,
        state: State,
        image_shape: tuple[int, int, int],
        step: int,
    ) -> None:
        self.config = config
        self.task = task
        self.state = state
        self.image_shape = image_shape
        self.step = step

    def __repr__(self) -> str:
        return f'Run(task={self.config.task!r}, image_shape={self.image_shape}, step={self.step})'

    @property
    def variables(self) -> dict[str, Any]:
        """The model's variables for evaluation."""
        return self.state.eval_variables()

    def encode(self, images: np.ndarray | jax.Array) -> jax.Array:
        """Pictures to codes.

        Args:
            images: uint8 [b h w c], of any height and width that the model can halve as often as it
                must.

        Returns:
            Codes, int32 [b h' w'].
        """
        return self._encode(self.variables, self._checked_images(images))

    def decode(self, codes: np.ndarray | jax.Array) -> jax.Array:
        """Codes, int [b h' w'], to pictures, uint8 [b h w c]."""
        return self._decode(self.variables, self._checked_codes(codes))

    def reconstruct(self, images: np.ndarray | jax.Array) -> jax.Array:
        """Pictures, uint8 [b h w c], to codes and back."""
        return self.decode(self.encode(images))

    def evaluate(self, split: str | None = None) -> Evaluation:
        """Numbers and pictures over a split of the run's data set, by default its `eval_split`."""
        engine, dataset = self._engine(), self.dataset(split or self.config.data.eval_split)
        self.task.check_image_shape(dataset.image_shape)
        evaluator = MeanEvaluator(
            self.task, engine, dataset, self.config.batch_size, self.config.num_pictures
        )
        state = self.state.replace(frozen=self.task.pretrained())
        return evaluator.run(engine.place(state))

    def dataset(self, split: str) -> Dataset:
        """A split of the run's data set, preprocessed as in training."""
        return open_dataset(build(DataConfig, self.config.data, 'data'), split)

    def _engine(self) -> Engine:
        parallel = build(ParallelConfig, self.config.parallel, 'parallel')
        return make_engine(parallel, self.config.batch_size)

    @functools.cached_property
    def _encode(self) -> Any:
        model = self._model_with('encode')
        return jax.jit(lambda v, images: model.apply(v, to_float(images), method='encode'))

    @functools.cached_property
    def _decode(self) -> Any:
        model = self._model_with('decode')
        return jax.jit(lambda v, codes: to_uint8(model.apply(v, codes, method='decode')))

    def _model_with(self, method: str) -> Any:
        if not hasattr(self.task.model, method):
            raise UserError(f'a run of the task {self.config.task} cannot {method}.')
        return self.task.model

    def _checked_images(self, images: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
        images = np.asarray(images) if not isinstance(images, jax.Array) else images
        if images.dtype != jnp.uint8 or images.ndim != 4:
            raise UserError(
                f'pictures must be uint8 [b h w c], from 0 to 255; these are {images.dtype} of shape '
                f'{images.shape}.'
            )
        self.task.check_image_shape(images.shape[1:])
        return images

    def _checked_codes(self, codes: np.ndarray | jax.Array) -> np.ndarray:
        codes = np.asarray(codes)
        if not np.issubdtype(codes.dtype, np.integer) or codes.ndim != 3:
            raise UserError(
                f"codes must be integers [b h' w']; these are {codes.dtype} of shape {codes.shape}."
            )
        k = self.config.quantizer.num_codes
        if codes.size and not (codes.min() >= 0 and codes.max() < k):
            raise UserError(
                f'codes must be from 0 to {k - 1}; these are from {codes.min()} to {codes.max()}.'
            )
        return codes.astype(np.int32)

"""A trained run, opened from its directory, for notebooks and commands."""

import functools
from collections.abc import Mapping
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


def load(workdir: str | Path, step: int | None = None, overrides: Mapping[str, Any] | None = None) -> 'Run':
    """Opens a trained run.

    Args:
        workdir: the directory that `vq_jax.train` wrote.
        step: the checkpoint to use; None is the newest that is undamaged.
        overrides: other values for keys of its config, by their dotted names, such as
            `{'model.importance_samples': 5000}`. What the parameters depend on must stay.

    Raises:
        UserError: if the directory holds no run, no checkpoint that can be read, or one of another
            model than the overrides make.
    """
    workdir = Path(workdir)
    plain = ConfigDict(read_config(workdir))
    for key, value in (overrides or {}).items():
        _override(plain, key, value)
    config = complete_config(plain)
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
            Codes, int32 [b h' w'], or the latents of a VAE or KL autoencoder, float32 [b d] or
            [b h' w' d].
        """
        return self._encode(self.variables, self._checked_images(images))

    def decode(self, codes: np.ndarray | jax.Array, label: int | np.ndarray | None = None) -> jax.Array:
        """Codes, int [b h' w'], or latents to pictures, uint8 [b h w c].

        Args:
            codes: what `encode` returns.
            label: the class of all, or of each [b], for a model that is conditioned on it.
        """
        codes = self._checked_codes(codes)
        if not self.task.num_labels:
            self.labels(len(codes), label)
            return self._decode(self.variables, codes)
        if label is None:
            raise UserError('this model decodes codes of a class; give label=, one number or one for each.')
        return self._decode(self.variables, codes, self.labels(len(codes), label))

    def reconstruct(self, images: np.ndarray | jax.Array, label: int | np.ndarray | None = None) -> jax.Array:
        """Pictures, uint8 [b h w c], to codes and back."""
        return self.decode(self.encode(images), label)

    def sample(self, n: int, label: int | np.ndarray | None = None, seed: int = 0) -> jax.Array:
        """Draws pictures.

        Picture number i depends on the seed and on i alone, not on n.

        Args:
            n: how many.
            label: the class of all, or of each [n], for a model that is conditioned on it; None draws
                all classes in turn.
            seed: the same gives the same pictures.

        Returns:
            uint8 [n h w c].
        """
        if not hasattr(self.task, 'sample'):
            raise UserError(f'a run of the task {self.config.task} cannot sample by itself; vae and gan can.')
        if n < 1:
            raise UserError(f'{n} samples cannot be drawn; ask for 1 or more.')
        labels = self.labels(n, label)
        labels = np.zeros(n, np.int32) if labels is None else labels
        b = min(n, self.config.batch_size)
        drawn = []
        for start in range(0, n, b):  # the last one overlaps, so that one compilation serves all
            first = min(start, n - b)
            numbers = np.arange(first, first + b)
            images = self._sample(self.state, seed, numbers, labels[numbers])
            drawn.append(images[start - first :])
        return jnp.concatenate(drawn)

    def labels(self, n: int, label: int | np.ndarray | None) -> np.ndarray | None:
        """Checked classes for n pictures, int32 [n]; None if the model is not conditioned on any."""
        k = self.task.num_labels
        if not k:
            if label is not None:
                raise UserError('this model is not conditioned on classes; leave the label out.')
            return None
        labels = np.arange(n) % k if label is None else np.asarray(label)
        if labels.shape not in ((), (n,)) or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(f'labels must be one whole number, or one for each of {n} pictures.')
        if labels.size and not (labels.min() >= 0 and labels.max() < k):
            raise UserError(
                f'labels must be from 0 to {k - 1}; these are from {labels.min()} to {labels.max()}.'
            )
        return np.broadcast_to(labels, n).astype(np.int32)

    def interpolate(self, a: np.ndarray, b: np.ndarray, n: int = 8) -> jax.Array:
        """Pictures on the way from one to another, through the latents of a VAE.

        Args:
            a: where to begin, uint8 [h w c].
            b: where to end, uint8 [h w c].
            n: how many pictures, both ends included.

        Returns:
            uint8 [n h w c].
        """
        ends = self.encode(np.stack([np.asarray(a), np.asarray(b)]))
        if not jnp.issubdtype(ends.dtype, jnp.floating):
            raise UserError(f'a run of the task {self.config.task} has codes, between which nothing lies.')
        share = jnp.linspace(0, 1, n).reshape(-1, *[1] * (ends.ndim - 1))
        return self.decode((1 - share) * ends[0] + share * ends[1])

    def anomaly_score(self, images: np.ndarray | jax.Array) -> jax.Array:
        """How surprising each picture is to a VAE: the negative evidence lower bound.

        Args:
            images: uint8 [b h w c].

        Returns:
            Nats, float32 [b]; the greater, the less the picture is like those of the training data.
        """
        if self.config.task != 'vae':
            raise UserError(f'a run of the task {self.config.task} has no likelihood; one of vae has.')
        return self._elbo(self.state, self._checked_images(images))

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
        seen = getattr(self.task, 'seen', lambda images: images)  # what the encoder is given of pictures
        return jax.jit(lambda v, images: model.apply(v, seen(to_float(images)), method='encode'))

    @functools.cached_property
    def _decode(self) -> Any:
        model = self._model_with('decode')
        return jax.jit(lambda v, *inputs: to_uint8(model.apply(v, *inputs, method='decode')))

    @functools.cached_property
    def _sample(self) -> Any:
        def sample(state: State, seed: int, numbers: jax.Array, labels: jax.Array) -> jax.Array:
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(numbers)
            return self.task.sample(state, keys, labels)

        return jax.jit(sample)

    @functools.cached_property
    def _elbo(self) -> Any:
        def score(state: State, images: jax.Array) -> jax.Array:
            batch = {'image': images, 'label': jnp.zeros(len(images), jnp.int32)}
            return -self.task.eval_step(state, batch)['elbo']

        return jax.jit(score)

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
        k = self._num_codes()
        if k is None:
            if not np.issubdtype(codes.dtype, np.floating):
                raise UserError(f'latents must be floats, as encode returns them; these are {codes.dtype}.')
            return codes
        if not np.issubdtype(codes.dtype, np.integer) or codes.ndim != 3:
            raise UserError(
                f"codes must be integers [b h' w']; these are {codes.dtype} of shape {codes.shape}."
            )
        if codes.size and not (codes.min() >= 0 and codes.max() < k):
            raise UserError(
                f'codes must be from 0 to {k - 1}; these are from {codes.min()} to {codes.max()}.'
            )
        return codes.astype(np.int32)

    def _num_codes(self) -> int | None:
        """The number of codes; None for a model whose latents are continuous."""
        model = self._model_with('decode')
        bottleneck = getattr(model, 'quantizer', None) or getattr(model, 'bottleneck', None)
        return getattr(bottleneck, 'num_codes', None)


def _override(config: ConfigDict, key: str, value: Any) -> None:
    *sections, name = key.split('.')
    section = config
    for part in sections:
        section = section.get(part)
        if not isinstance(section, ConfigDict):
            raise UserError(f'the config of the run has no section {part!r}, which the override {key} names.')
    section[name] = value  # whether anything reads it is checked with all other keys

"""The classifier: which class an example is of, and features in which sets of examples are compared."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.media import Media, image_size, sheets, show
from vq_jax.models.classifier import Classified, Classifier
from vq_jax.ops.images import to_float
from vq_jax.ops.parts import Part
from vq_jax.spec import Spec
from vq_jax.tasks.task import Task
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, model_optimizer
from vq_jax.training.parallel import Batch
from vq_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class ClassifierTask(Task):
    """See `vq_jax.tasks.task.Task` for what each method does, and for attributes not named here.

    Attributes:
        model: see `vq_jax.models.classifier.Classifier`.
        optimizer: changes the parameters.
    """

    model: Classifier
    optimizer: Optimizer
    spec: Spec
    accumulate: int = 1

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Section 'model'."""
        return {'model': defaults(Classifier, without=('num_classes', 'rate'))}

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'ClassifierTask':
        """The task of a full config, for such examples of so many classes."""
        if num_classes < 2:
            raise UserError(
                'a classifier needs data of two classes or more; set config.data.name to a set with labels '
                '(vq_jax.summary takes --num_classes).'
            )
        model = build(Classifier, config.model, 'model', num_classes=num_classes, rate=spec.rate)
        if model.mel_bands and (spec.kind != 'audio' or not spec.rate):
            found, remedy = (
                ('the rate of these is not known', 'set config.data.sample_rate, or mel_bands to 0')
                if spec.kind == 'audio'
                else (f'these are {spec.plural}', 'set it to 0')
            )
            raise UserError(f'config.model.mel_bands is of sounds, and {found}; {remedy}.')
        optimizer = model_optimizer(config)
        return cls(model=model, optimizer=optimizer, spec=spec, accumulate=config.accumulate)

    @property
    def classes_read(self) -> int:
        """The classes it tells apart."""
        return self.model.num_classes

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        params_key, run_key = jax.random.split(key)
        variables = self.model.init(params_key, to_float(batch['x'][:1]))
        return TrainState.create(run_key, variables, self.optimizer)

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters, by cross-entropy in nats."""
        key = state.step_key()

        def loss_fn(params: Any, batch: Batch, part: Part) -> tuple[jax.Array, dict[str, jax.Array]]:
            images = to_float(batch['x'])
            logits = self.model.apply({'params': params}, images, part.keys(key)).logits
            metrics = {name: jnp.mean(value) for name, value in _scores(logits, batch['label']).items()}
            return metrics['loss'], metrics

        return state.descend(loss_fn, batch, self.optimizer, self.accumulate, axis_name)

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Cross-entropy in nats, and whether the likeliest class is the right one [b]."""
        return _scores(self.classify(state, batch['x']).logits, batch['label'])

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """'loss' and 'accuracy'."""
        return {name: float(value) for name, value in means.items()}

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Images, their classes, and how probable each class seems."""
        probabilities = jax.nn.softmax(self.classify(state, batch['x']).logits)
        return {'images': batch['x'], 'labels': batch['label'], 'probabilities': probabilities}

    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """Examples over the probabilities of their classes, that of the right one in blue."""
        examples = predictions['images']
        spec = dataclasses.replace(self.spec, shape=examples.shape[1:])
        drawn = sheets.bars(predictions['probabilities'], predictions['labels'], image_size(spec))
        caption = 'probability of each class, from 0 to 1; blue: the right one'
        return show('classes', {'originals': examples, caption: drawn}, spec)

    def classify(self, state: TrainState, images: jax.Array) -> Classified:
        """Features, float32 [b d], and logits, float32 [b k], of examples [b ...]."""
        return self.model.apply(state.eval_variables(), to_float(images))


def _scores(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    right = jnp.argmax(logits, -1) == labels
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return {'loss': loss, 'accuracy': right.astype(jnp.float32)}

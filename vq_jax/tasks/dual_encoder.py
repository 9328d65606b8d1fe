"""The dual encoder: which text is that of which example, by vectors of both.

It measures whether what a model makes of a text is of that text (see `vq_jax.evaluators.retrieval`).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import check_least
from vq_jax.media import Media, show
from vq_jax.models.classifier import Classifier
from vq_jax.models.context import Conditioner
from vq_jax.models.dual_encoder import DualEncoder
from vq_jax.models.text_encoder import TextEncoder
from vq_jax.ops.collectives import gather
from vq_jax.ops.contrast import contrast
from vq_jax.ops.images import to_float
from vq_jax.ops.parts import Part
from vq_jax.spec import Spec, blank_conditions
from vq_jax.tasks.conditioner_config import make_text_encoder
from vq_jax.tasks.task import Task, check_parts
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, model_optimizer
from vq_jax.training.parallel import Batch
from vq_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class ContrastConfig:
    """How examples and texts are compared.

    Attributes:
        width: of the vectors that are.
        temperature: by which their products are divided at first; it is learned.
    """

    width: int = 64
    temperature: float = 0.07

    def __post_init__(self) -> None:
        check_least(2, self, 'width')


@dataclasses.dataclass(frozen=True)
class DualEncoderTask(Task):
    """See `vq_jax.tasks.task.Task` for what each method does, and for attributes not named here.

    Attributes:
        model: see `vq_jax.models.dual_encoder.DualEncoder`.
        optimizer: changes the parameters.
    """

    model: DualEncoder
    optimizer: Optimizer
    spec: Spec

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'model', of the network for examples, 'text_encoder' and 'contrast'."""
        return {
            'model': defaults(Classifier, without=('num_classes', 'rate')),
            'text_encoder': defaults(TextEncoder),
            'contrast': defaults(ContrastConfig),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'DualEncoderTask':
        """The task of a full config, for examples with texts; classes are not read."""
        check_parts(config, 'a loss that compares all examples', 'config.batch_size to that of a step')
        options = build(ContrastConfig, config.contrast, 'contrast')
        of_examples = build(Classifier, config.model, 'model', num_classes=options.width, rate=spec.rate)
        of_texts = make_text_encoder(config, spec)
        section = {'temperature': options.temperature}
        model = build(DualEncoder, section, 'contrast', of_examples=of_examples, of_texts=of_texts)
        return cls(model=model, optimizer=model_optimizer(config), spec=spec)

    @property
    def conditioner(self) -> Conditioner:
        """What encodes the texts."""
        return self.model.of_texts

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        params_key, run_key = jax.random.split(key)
        x = jnp.zeros((1, *self.spec.shape))
        variables = self.model.init(params_key, x, **blank_conditions(self.condition_specs, 1))
        return TrainState.create(run_key, variables, self.optimizer)

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters, by the loss over the whole batch, in nats."""
        key = state.step_key()

        def loss_fn(params: Any, batch: Batch, part: Part) -> tuple[jax.Array, dict[str, jax.Array]]:
            pairs = self.model.apply({'params': params}, to_float(batch['x']), batch['text'], part.keys(key))
            seen = gather((pairs.examples, pairs.texts, batch['text']), axis_name)
            found = contrast(*seen, pairs.scale, jnp.ones(len(seen[0]), bool))
            metrics = {name: jnp.mean(value) for name, value in found.items()}
            return metrics['loss'], {**metrics, 'scale': pairs.scale}

        return state.descend(loss_fn, batch, self.optimizer, 1, axis_name)

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """See `eval_together`."""
        return self.eval_together(state, batch)

    def eval_together(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> dict[str, jax.Array]:
        """The loss of each example [b], in nats, and whether its own text is the likeliest of the batch."""
        pairs = self.model.apply(state.eval_variables(), to_float(batch['x']), batch['text'])
        seen = gather((pairs.examples, pairs.texts, batch['text'], batch['mask']), axis_name)
        found = contrast(*seen[:3], pairs.scale, seen[3])
        own = Part.of_device(len(batch['text']), axis_name).index
        return jax.tree.map(lambda x: x[own], found)

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """'loss' and 'recall_at_1', both among the texts, and the examples, of a batch."""
        return {name: float(value) for name, value in means.items()}

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """The examples."""
        return {'images': batch['x']}

    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """The examples, whose texts stand over them."""
        return show('examples', {'originals': predictions['images']}, self.spec)

    def embed(self, state: TrainState, examples: jax.Array) -> jax.Array:
        """The vectors of examples as the spec says [b ...], float32 [b d]."""
        return self.model.apply(state.eval_variables(), to_float(examples), method='examples')

    def embed_texts(self, state: TrainState, text: jax.Array) -> jax.Array:
        """The vectors of texts, int32 [b m], float32 [b d]."""
        return self.model.apply(state.eval_variables(), text, method='texts')

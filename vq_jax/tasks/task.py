"""What the loop, the evaluators and the commands ask of a task."""

from collections.abc import Iterable
from typing import Any, ClassVar, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from vq_jax.data import AnyDataset
from vq_jax.errors import UserError
from vq_jax.media import sheets
from vq_jax.spec import Spec
from vq_jax.tasks.classes import ClassNames
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import AdversarialState, TrainState

State = TrainState | AdversarialState


class Task(Protocol):
    """What is being learned: a model, its losses, and how a step changes the state.

    Batches are `{'x': uint8 [b h w c], 'label': int32 [b], 'mask': bool [b]}`. Steps are pure and
    written once for every engine: with `axis_name` they see one device's part of the batch, without
    it the whole. A task that can generate has the method
    `sample(state, keys [n], labels int32 [n]) -> uint8 [n h w c]`, and one that can encode has
    `encode(state, images)` and `decode(state, codes, labels)` (see `AutoencodingTask`).

    Attributes:
        model: the Flax module that `state.eval_variables()` belong to.
        num_labels: how many classes the model is conditioned on; 0 for none.
        inference_needs_frozen: whether encoding, decoding and sampling read `state.frozen`.
        accumulate: in how many parts a step computes its batch, one after another (see `mean_over_parts`).
    """

    model: Any
    num_labels: int = 0
    accumulate: int = 1
    inference_needs_frozen: ClassVar[bool] = False

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """The sections of a config that are this task's own, with every key at its default."""

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'Task':
        """The task of a full config, for images [h w c] of so many classes (0 without labels)."""

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` if the model cannot take such examples."""

    def check_dataset(self, dataset: AnyDataset) -> None:
        """Raises `UserError` if the model cannot learn from, or be evaluated on, a data set."""
        if dataset.key != 'x':
            raise UserError(
                f'{dataset.name} holds codes, and this task needs images; set config.data.name to a set of '
                'images, or config.task=prior.'
            )
        self.check_spec(dataset.spec)
        self.check_classes(dataset)

    @property
    def decoder_labels(self) -> int:
        """How many classes `decode` is conditioned on; 0 for none."""
        return self.num_labels

    @property
    def classes_read(self) -> int:
        """How many classes the labels of a data set must be of; 0 if labels are not read."""
        return self.num_labels

    def check_classes(self, dataset: AnyDataset) -> None:
        """Raises `UserError` if labels are read, and those of a data set are of other classes."""
        if self.classes_read and dataset.num_classes != self.classes_read:
            raise UserError(
                f'{dataset.name} has {dataset.num_classes or "no"} classes and the model was made for '
                f'{self.classes_read}; set config.data.name to a set with as many.'
            )

    def built_on(self) -> dict[str, Any]:
        """The runs whose weights the model uses, each a `vq_jax.tasks.restore.Restored`."""
        return {}

    def part_classes(self) -> dict[str, ClassNames]:
        """The names of the classes on which runs that it is built on are conditioned, by what these are."""
        return {}

    def init(self, key: jax.Array, batch: Batch) -> State:
        """The state before the first step; only the shapes of the batch count."""

    def pretrained(self) -> Any:
        """Weights from elsewhere that steps read as `state.frozen`; None if there are none."""
        return None

    @property
    def reads_published(self) -> bool:
        """Whether `pretrained` reads published weights, from files that may be exchanged."""
        return False

    def pretrained_shapes(self) -> Any:
        """The shapes and types of what `pretrained` returns; without reading it where it can be told."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.pretrained())

    def init_from_data(self, key: jax.Array, state: State, batches: Iterable[Batch], engine: Engine) -> State:
        """Changes a new state by what the first training batches hold, if the task wants that."""
        return state

    def phase(self, step: int) -> str:
        """The phase that a step, counted from 0, is in; for most tasks there is one, without a name.

        Each phase is compiled by itself, so that what it leaves out costs nothing.
        """
        return ''

    def train_step(
        self, state: State, batch: Batch, axis_name: str | None = None
    ) -> tuple[State, dict[str, jax.Array]]:
        """One step; the metrics are scalars, equal on all devices, 'loss' among them.

        A task with named phases takes the keyword `phase`.
        """

    def watch(self, metrics: dict[str, float]) -> str | None:
        """A warning for people if the metrics of a step show that training goes wrong.

        What stands before its first colon is the same for as long as the same goes wrong.
        """
        return None

    def eval_step(self, state: State, batch: Batch) -> dict[str, jax.Array]:
        """Per-example arrays [b ...], whose means over a data set `summarize` turns into numbers."""

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """Named numbers from the means over a data set of what `eval_step` returns."""

    def predict(self, state: State, batch: Batch) -> dict[str, jax.Array]:
        """Per-example arrays [b ...] that `media` draws."""

    def media(
        self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]
    ) -> dict[str, sheets.Sheet]:
        """Named sheets for people."""


def check_same_spec(spec: Spec, wanted: Spec) -> None:
    """Raises `UserError` unless examples are of the kind and shape that a model was made for."""
    check_same_kind(spec, wanted)
    if spec.shape != wanted.shape:
        channels, resize = f'set config.data.channels to {wanted.channels}', 'resize them'
        remedies = (resize, spec.grid != wanted.grid), (channels, spec.channels != wanted.channels)
        raise UserError(
            f'the examples are {spec.shape} and the model was made for {wanted.shape}; '
            f'{" and ".join(remedy for remedy, needed in remedies if needed)}.'
        )


def check_same_kind(spec: Spec, wanted: Spec) -> None:
    """Raises `UserError` unless examples are of the kind that a model was made for."""
    if spec.kind != wanted.kind:
        raise UserError(
            f'the examples are {spec.kind} and the model was made for {wanted.kind}; set config.data.name to '
            f'a set of {wanted.kind}.'
        )


def check_parts(config: ConfigDict, what: str, remedy: str) -> None:
    """Refuses a step in parts where something is a function of its whole batch before the update.

    Args:
        config: of the run.
        what: that is.
        remedy: a change of the config without which it is not.

    Raises:
        UserError: if `config.accumulate` is not 1.
    """
    if config.accumulate > 1:
        raise UserError(
            f'config.accumulate is {config.accumulate}, but {what} depends on the whole batch at once, of '
            f'which there are only parts; set config.accumulate=1, or {remedy}.'
        )


def check_labels(conditional: bool, num_classes: int, section: str) -> None:
    """Raises `UserError` if a model is to be conditioned on classes that the data does not have."""
    if conditional and not num_classes:
        raise UserError(
            f'config.{section}.class_conditional needs data with labels; set it to false or config.data.name '
            'to a set that has them (vq_jax.summary takes --num_classes).'
        )


def check_decoder(name: str, theirs: int, ours: int) -> None:
    """Raises `UserError` if what a model draws is to be decoded of other classes than it is drawn of.

    Args:
        name: what decodes it, for the message.
        theirs: how many classes the decoder is conditioned on; 0 for none.
        ours: how many the model is conditioned on; 0 for none.
    """
    if theirs not in (0, ours):
        raise UserError(
            f'the decoder of this {name} is conditioned on {theirs} classes and this model on {ours}; set '
            f'config.model.class_conditional=true, and config.data.name to a set with {theirs} classes.'
        )

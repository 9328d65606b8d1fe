"""What the loop, the evaluators and the commands ask of a task."""

import abc
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np
from ml_collections import ConfigDict

from vq_jax.data import Dataset
from vq_jax.data.text_vectors import VECTORS
from vq_jax.errors import UserError
from vq_jax.media import Media
from vq_jax.models.classifier import Classified
from vq_jax.models.context import Conditioner, described
from vq_jax.spec import ConditionSpec, Spec
from vq_jax.tasks.classes import ClassNames
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import AdversarialState, TrainState

State = TrainState | AdversarialState


class Task(abc.ABC):
    """What is being learned: a model, its losses, and how a step changes the state.

    Batches are `{'x': as the spec of the data says, 'label': int32 [b], 'mask': bool [b]}`, and have the
    conditions of the data [b ...] by their names. Steps are pure and written once for every engine: with
    `axis_name` they see one device's share of the batch, without it the whole. What only some tasks can do
    is in the protocols below, such as `Samples`.

    Attributes:
        model: the Flax module that `state.eval_variables()` belong to.
        spec: of the examples that it was made for.
        num_labels: how many classes the model is conditioned on; 0 for none.
        conditioner: encodes what else it is conditioned on; None for nothing.
        vocabularies: of a task that encodes to codes, how many there are, of each scale at each depth; empty
            for all others.
        inference_needs_frozen: whether encoding, decoding and sampling read `state.frozen`.
        accumulate: in how many parts a step computes its batch, one after another (see `mean_over_parts`).
    """

    model: Any
    spec: Spec
    num_labels: int = 0
    conditioner: Conditioner | None = None
    vocabularies: tuple[tuple[int, ...], ...] = ()
    accumulate: int = 1
    inference_needs_frozen: ClassVar[bool] = False

    # Of the config.

    @staticmethod
    @abc.abstractmethod
    def default_config() -> dict[str, ConfigDict]:
        """The sections of a config that are this task's own, with every key at its default."""

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'Task':
        """The task of a full config, for such examples of so many classes (0 without labels)."""

    # Of the loop and of evaluation.

    @abc.abstractmethod
    def init(self, key: jax.Array, batch: Batch) -> State:
        """The state before the first step; only the shapes of the batch count."""

    @abc.abstractmethod
    def train_step(
        self, state: State, batch: Batch, axis_name: str | None = None
    ) -> tuple[State, dict[str, jax.Array]]:
        """One step; the metrics are scalars, equal on all devices, 'loss' among them.

        A task with named phases takes the keyword `phase`.
        """

    @abc.abstractmethod
    def eval_step(self, state: State, batch: Batch) -> dict[str, jax.Array]:
        """Per-example arrays [b ...], whose means over a data set `summarize` turns into metrics."""

    @abc.abstractmethod
    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """Metrics by name from the means over a data set of what `eval_step` returns."""

    @abc.abstractmethod
    def predict(self, state: State, batch: Batch) -> dict[str, jax.Array]:
        """Per-example arrays [b ...] that `media` shows."""

    @abc.abstractmethod
    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """What people look at and listen to, by name."""

    def init_from_data(self, key: jax.Array, state: State, batches: Iterable[Batch], engine: Engine) -> State:
        """Changes a new state by what the first training batches hold, if the task wants that."""
        return state

    def phase(self, step: int) -> str:
        """The phase that a step, counted from 0, is in; for most tasks there is one, without a name.

        Each phase is compiled by itself, so that what it leaves out costs nothing.
        """
        return ''

    def watch(self, metrics: dict[str, float]) -> str | None:
        """A warning for people if the metrics of a step show that training goes wrong.

        What stands before its first colon is the same for as long as the same goes wrong.
        """
        return None

    def watch_evaluation(self, metrics: dict[str, float]) -> str | None:
        """The same, of the metrics of an evaluation, 'examples' among them."""
        return None

    # Of the data.

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` if the model cannot take such examples: by default, others than `spec` says."""
        check_same_spec(spec, self.spec)

    def check_losses(self, spec: Spec) -> None:
        """Raises `UserError` if a loss, which training and evaluation have, cannot take such examples.

        They may be too small for a discriminator and still be encoded, so `check_spec` does not ask.
        """
        return

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises `UserError` if the model cannot learn from, or be evaluated on, a data set."""
        if dataset.key != 'x':
            raise UserError(
                f'{dataset.name} holds codes, and this task needs {self.spec.plural}; set config.data.name '
                'to a set of them, or config.task=prior.'
            )
        self.check_spec(dataset.spec)
        self.check_losses(dataset.spec)
        self.check_classes(dataset)
        self.check_conditions(dataset)

    def check_classes(self, dataset: Dataset) -> None:
        """Raises `UserError` if labels are read, and those of a data set are of other classes."""
        if self.classes_read and dataset.num_classes != self.classes_read:
            raise UserError(
                f'{dataset.name} has {dataset.num_classes or "no"} classes and the model was made for '
                f'{self.classes_read}; set config.data.name to a set with as many.'
            )

    def check_conditions(self, dataset: Dataset) -> None:
        """Raises `UserError` if a data set lacks conditions that are read, or has others by their names."""
        for name, spec in self.condition_specs.items():
            if dataset.conditions.get(name) != spec:
                conditioned = 'conditioner' in self.default_config()
                other = ', or config.conditioner to what reads those' if conditioned else ''
                raise UserError(
                    f'{dataset.name} has the conditions {described(dataset.conditions) or "none"}, and this '
                    f'model reads {described(self.condition_specs)}; set config.data.name to a set with '
                    f'these{other}.'
                )
        if 'text' in self.condition_specs:
            check_same_tokens(dataset.spec, self.spec)
        if VECTORS in self.condition_specs:
            check_same_vectors(dataset.spec, self.spec)

    def check_vectors_read(self, dataset: Dataset) -> None:
        """Raises `UserError` if a data set to learn from has vectors of texts, which are not read."""
        if dataset.config.text_vectors is not None and VECTORS not in self.condition_specs:
            conditioned = 'conditioner' in self.default_config()
            other = ', or set config.conditioner.kind=embedded_text' if conditioned else ''
            raise UserError(
                'config.data.text_vectors is set, and this model reads no vectors of texts; leave it '
                f'out{other}.'
            )

    @property
    def condition_specs(self) -> dict[str, ConditionSpec]:
        """What is read of each example beside itself and its class, by the names that batches have for it."""
        return self.conditioner.specs() if self.conditioner else {}

    def conditions_of(self, batch: Batch) -> dict[str, jax.Array]:
        """Those conditions of a batch that are read [b ...], by name."""
        return {name: batch[name] for name in self.condition_specs}

    @property
    def classes_read(self) -> int:
        """How many classes the labels of a data set must be of; 0 if labels are not read."""
        return self.num_labels

    @property
    def decoder_labels(self) -> int:
        """How many classes `Encodes.decode` is conditioned on; 0 for none."""
        return self.num_labels

    # Of weights from elsewhere.

    def built_on(self) -> dict[str, Any]:
        """The runs whose weights the model uses, each a `vq_jax.tasks.restore.Restored`."""
        return {}

    def part_classes(self) -> dict[str, ClassNames]:
        """The names of the classes on which runs that it is built on are conditioned, by what these are."""
        return {}

    def pretrained(self) -> Any:
        """Weights from elsewhere that steps read as `state.frozen`; None if there are none."""
        return None

    @property
    def reads_published(self) -> bool:
        """Whether `pretrained` reads published weights, from files that may be exchanged."""
        return False

    def pretrained_shapes(self) -> Any:
        """The shapes and types of what `pretrained` returns; without reading it where that can be."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.pretrained())


# What only some tasks can do. Examples are as the spec of the data says, labels are int32 [b], and arguments
# beyond those that are named here have defaults. Where labels are given, a task with a conditioner is given
# the conditions [b ...] too, as the argument `conditions`.


@runtime_checkable
class EvaluatesFirst(Protocol):
    """A task with metrics that one batch is enough for, such as those of gradients."""

    def eval_first_step(self, state: State, batch: Batch) -> dict[str, jax.Array]:
        """As `Task.eval_step`, for the first batch of an evaluation alone: floats [b ...], no codes."""


@runtime_checkable
class EvaluatesTogether(Protocol):
    """A task whose evaluation compares the examples of a batch with each other, over all devices."""

    def eval_together(self, state: State, batch: Batch, axis_name: str | None = None) -> dict[str, jax.Array]:
        """As `Task.eval_step`, of one device's share of the batch."""


@runtime_checkable
class Encodes(Protocol):
    """A task that turns examples into codes or latents, and back."""

    def encode(self, state: State, examples: jax.Array) -> Any:
        """Codes or latents of examples; of several scales, a tuple, the coarsest first."""

    def decode(self, state: State, codes: Any, labels: jax.Array) -> jax.Array:
        """Examples of what `encode` returns, and of classes."""


@runtime_checkable
class ShowsCodebook(Protocol):
    """A task that shows what its codes stand for."""

    def codebook(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """What people look at, by name; as `Task.media`, but of the predictions of a whole batch."""


@runtime_checkable
class LooksUp(Protocol):
    """A task whose codes stand for vectors."""

    def lookup(self, state: State, codes: Any) -> Any:
        """The vectors [... d] of codes, int32 [...]; of several scales, a tuple."""


@runtime_checkable
class Samples(Protocol):
    """A task that makes new examples."""

    def sample(self, state: State, keys: jax.Array, labels: jax.Array) -> jax.Array:
        """One example for each random key [b]."""


@runtime_checkable
class ChoosesSampling(Protocol):
    """A task in whose sampling there is something to choose, by the section 'sampling' of its config.

    Its methods that sample have the argument `sampling`, an object like the attribute of that name, whose
    class has `NUMBERS` (see `vq_jax.tasks.batched_sampling.BatchedSampler`).
    """

    sampling: Any

    def unused(self, sampling: Any, method: str) -> dict[str, str]:
        """Keys that change nothing in a method of this task, beside the other choices, and why."""

    def check_sampling(self, sampling: Any) -> None:
        """Raises `UserError` if this task cannot sample in this way."""


@runtime_checkable
class Inpaints(Protocol):
    """A task that makes parts of examples anew."""

    def inpaint(
        self, state: State, keys: jax.Array, images: jax.Array, mask: jax.Array, labels: jax.Array
    ) -> jax.Array:
        """Examples that differ from those that are given only where the mask, bool [b *grid], is True."""


@runtime_checkable
class Edits(Protocol):
    """A task that changes examples as a whole, by adding noise and taking it out again."""

    def image_to_image(
        self, state: State, keys: jax.Array, images: jax.Array, strength: jax.Array, labels: jax.Array
    ) -> jax.Array:
        """Examples like those that are given, the less the greater the strength, from 0 to 1."""

    def denoise(
        self, state: State, keys: jax.Array, images: jax.Array, sigma: jax.Array, labels: jax.Array
    ) -> jax.Array:
        """Examples without the noise in them, whose standard deviation is sigma in bytes."""

    def upscale(self, state: State, keys: jax.Array, small: jax.Array, labels: jax.Array) -> jax.Array:
        """Large examples of small ones."""

    def interpolate(
        self, state: State, a: jax.Array, b: jax.Array, n: int, labels: jax.Array, sampling: Any
    ) -> jax.Array:
        """Examples [n ...] on the way from one to another, both included."""


@runtime_checkable
class Scores(Protocol):
    """A task that knows how likely codes are."""

    def log_probability(self, state: State, codes: Any, labels: jax.Array) -> jax.Array:
        """Of codes as `Encodes.encode` returns them, in nats [b]."""


@runtime_checkable
class Describes(Protocol):
    """A task that says what examples show."""

    def describe(self, state: State, keys: jax.Array, examples: jax.Array, labels: jax.Array) -> jax.Array:
        """A text for each example [b ...] and random key [b], as tokens; labels are those of no class."""


@runtime_checkable
class Classifies(Protocol):
    """A task that classifies examples."""

    def classify(self, state: State, examples: jax.Array) -> Classified:
        """Logits of classes and features of examples."""


def check_same_spec(spec: Spec, wanted: Spec) -> None:
    """Raises `UserError` unless examples are of the kind and shape that a model was made for."""
    check_same_kind(spec, wanted)
    if spec.shape != wanted.shape:
        channels, resize = f'set config.data.channels to {wanted.channels}', 'resize them'
        if spec.kind == 'text':
            resize = f'set config.data.num_tokens to {wanted.shape[0]}'
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
    if spec.kind == 'text':
        check_same_tokens(spec, wanted)


def check_same_tokens(spec: Spec, wanted: Spec) -> None:
    """Raises `UserError` unless texts have the tokens that a model was made for."""
    if spec.tokens != wanted.tokens:
        raise UserError(
            'the texts have other tokens than those that the model was made for; set '
            'config.data.text_tokenizer to the same tokenizer.'
        )


def check_same_vectors(spec: Spec, wanted: Spec) -> None:
    """Raises `UserError` unless the vectors of texts are those that a model was made for."""
    if spec.text_vectors != wanted.text_vectors:
        raise UserError(
            'the vectors of texts are of another encoder than those that the model was made for, or have '
            'room for more or fewer of a text; set config.data.text_vectors to a folder of the same ones.'
        )


def size_keys(spec: Spec) -> str:
    """The keys of the config by which examples become of another size, for messages."""
    if spec.kind in ('audio', 'text'):
        return 'config.data.num_samples' if spec.kind == 'audio' else 'config.data.num_tokens'
    frames = 'config.data.frames, ' if spec.kind == 'video' else ''
    return f'{frames}config.data.image_size or config.data.pad'


def check_parts(config: ConfigDict, what: str, remedy: str) -> None:
    """Raises `UserError` for a step in parts if what is named needs the whole batch before the update.

    The remedy is a change of the config with which it does not.
    """
    if config.accumulate > 1:
        raise UserError(
            f'config.accumulate is {config.accumulate}, but {what} depends on the whole batch at once, of '
            f'which there are only parts; set config.accumulate=1, or {remedy}.'
        )


def labels_of(conditional: bool, num_classes: int, section: str) -> int:
    """How many classes a model is conditioned on, of so many; `UserError` if it needs some and has none."""
    if conditional and not num_classes:
        raise UserError(
            f'config.{section}.class_conditional needs data with labels; set it to false or config.data.name '
            'to a set that has them (vq_jax.summary takes --num_classes).'
        )
    return num_classes if conditional else 0


def check_decoder(name: str, theirs: int, ours: int) -> None:
    """Raises `UserError` if what a model samples is to be decoded of other classes than it is sampled of.

    The decoder of what is called `name` is conditioned on `theirs` classes and the model on `ours`, or on 0.
    """
    if theirs not in (0, ours):
        raise UserError(
            f'the decoder of this {name} is conditioned on {theirs} classes and this model on {ours}; set '
            f'config.model.class_conditional=true, and config.data.name to a set with {theirs} classes.'
        )

"""The GAN: a generator learns to make what a discriminator cannot tell from real images."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.media import Media, show
from vq_jax.models.discriminators import Discriminator
from vq_jax.models.generator import Generator
from vq_jax.models.normalisation import BATCH_STATS
from vq_jax.ops.collectives import pmean
from vq_jax.ops.images import to_float, to_integers
from vq_jax.ops.keys import content_keys, fold_in, normal
from vq_jax.ops.losses import mean_square
from vq_jax.ops.parts import Part
from vq_jax.ops.quantization import perplexity
from vq_jax.spec import Spec
from vq_jax.tasks.adversarial import AdversarialLossConfig, Adversary, make_adversary, mean_image
from vq_jax.tasks.task import Task, check_parts, labels_of, size_keys
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, OptimizerConfig, model_optimizer, schedule_length
from vq_jax.training.parallel import Batch
from vq_jax.training.state import AdversarialState, TrainState

# A class is covered if samples of it come at least a tenth as often as if all were equally likely.
_COVERED = 0.1
# Two samples are nearly alike if pixels in [-1, 1] differ by less, root mean square.
_ALIKE = 0.1


@dataclasses.dataclass(frozen=True)
class GANConfig:
    """What generator and discriminator are conditioned on.

    Attributes:
        class_conditional: the generator makes a given class, the discriminator tells whether a
            image fits its class.
    """

    class_conditional: bool = False


@dataclasses.dataclass(frozen=True)
class GANTask(Task):
    """See `vq_jax.tasks.task.Task` for what each method does, and for attributes not named here.

    Attributes:
        model: the generator.
        adversary: the discriminator, and how it learns.
        optimizer: changes the generator.
        num_classes: of the data; 0 without labels.
    """

    model: Generator
    adversary: Adversary
    optimizer: Optimizer
    spec: Spec
    num_classes: int
    num_labels: int

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'model', 'generator', 'discriminator', 'adversarial' and 'discriminator_optimizer'."""
        return {
            'model': defaults(GANConfig),
            'generator': defaults(Generator, without=('num_classes',)),
            'discriminator': defaults(Discriminator, without=('num_classes', 'conditional')),
            'adversarial': defaults(AdversarialLossConfig),
            'discriminator_optimizer': defaults(OptimizerConfig),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'GANTask':
        """The task of a full config, for images [h w c] of so many classes."""
        check_parts(config, "the generator's batch normalisation", 'config.batch_size to that of a step')
        conditional = build(GANConfig, config.model, 'model').class_conditional
        num_labels = labels_of(conditional, num_classes, 'model')
        model = build(Generator, config.generator, 'generator', shape=spec.shape, num_classes=num_labels)
        classes = {'num_classes': num_classes, 'conditional': conditional}
        discriminator = build(Discriminator, config.discriminator, 'discriminator', **classes)
        losses = build(AdversarialLossConfig, config.adversarial, 'adversarial')
        return cls(
            model=model,
            adversary=make_adversary(config, losses, discriminator, schedule_length(config)),
            optimizer=model_optimizer(config),
            spec=spec,
            num_classes=num_classes,
            num_labels=num_labels,
        )

    @property
    def classes_read(self) -> int:
        """Those of the data, which the probe tells apart."""
        return self.num_classes

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` unless axes have 8, 16, 32 ... positions (some: 4), as in the model's data."""
        if any(size < 4 or size & (size - 1) for size in spec.grid) or max(spec.grid) < 8:
            raise UserError(
                f'examples of {spec.size_in_words} do not have 8, 16, 32, 64 ... positions along each axis, '
                f'which DCGAN needs; set {size_keys(spec)}.'
            )
        super().check_spec(spec)

    def init(self, key: jax.Array, batch: Batch) -> AdversarialState:
        """Random parameters of both networks."""
        generator_key, discriminator_key = jax.random.split(key)
        params_key, run_key = jax.random.split(generator_key)
        images, labels = to_float(batch['x'][:1]), batch['label'][:1]
        variables = self.model.init(params_key, jnp.zeros((1, self.model.noise_dim)), labels)
        return AdversarialState(
            generator=TrainState.create(run_key, variables, self.optimizer),
            discriminator=self.adversary.init(discriminator_key, images, labels),
        )

    def train_step(
        self, state: AdversarialState, batch: Batch, axis_name: str | None = None
    ) -> tuple[AdversarialState, dict[str, jax.Array]]:
        """One update of both networks, of one forward pass of each."""
        images, labels = to_float(batch['x']), batch['label']
        generator = state.generator
        whole = Part.of_device(len(images), axis_name)
        noise = self._noise(whole.keys(generator.step_key()))

        def generate(params: Any) -> tuple[jax.Array, Any]:
            variables = {'params': params, **generator.variables}
            training = {'train': True, 'axis_name': axis_name, 'mutable': [BATCH_STATS]}
            return self.model.apply(variables, noise, labels, **training)

        fake, pull, changed = jax.vjp(generate, generator.params, has_aux=True)
        centre = mean_image(images, axis_name)
        gradient, means = self.adversary.compare(state.discriminator, images, fake, labels, whole, centre)
        grads, means = pmean((*pull(gradient()), means), axis_name)
        discriminator, metrics = self.adversary.update(state.discriminator, means)
        generator, update = generator.apply_gradients(grads, self.optimizer)
        generator = generator.replace(variables=changed).finish_step(self.optimizer)
        state = state.replace(generator=generator, discriminator=discriminator)
        return state, {'loss': metrics['generator_loss'], **metrics, **update}

    def watch(self, metrics: dict[str, float]) -> str | None:
        """A warning if one network has won, or if the samples are all alike."""
        return self.adversary.watch(metrics)

    def eval_step(self, state: AdversarialState, batch: Batch) -> dict[str, jax.Array]:
        """Logits, moments of pixels, and the classes that the probe sees, of images and samples.

        There is one sample for each image, of the image's class, from noise that depends on the
        image's bytes alone, and another one to compare it with.
        """
        labels, keys = batch['label'], content_keys(batch['x'])
        # Bytes, which is what people see.
        fake, another = (to_float(self.sample(state, k, labels)) for k in (keys, fold_in(keys, 1)))
        variables = state.discriminator.eval_variables()
        values = {'duplicates': (mean_square(fake, another) < _ALIKE**2).astype(jnp.float32)}
        for name, images in (('real', to_float(batch['x'])), ('fake', fake)):
            output = self.adversary.discriminator.apply(variables, images, labels)
            values[f'logits_{name}'] = output.logits
            values[f'{name}_mean'], values[f'{name}_square'] = images, jnp.square(images)
            if self.num_classes:
                seen = jnp.argmax(output.classes, -1)
                values[f'{name}_agree'] = (seen == labels).astype(jnp.float32)
                values[f'{name}_classes'] = jax.nn.one_hot(seen, self.num_classes)
        return values

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """Mean logits, diversity, duplicates, and how well samples cover the classes.

        'diversity' is the variance of samples' pixels relative to that of images'; a few images made
        again and again can have all of it. 'duplicates' is the share of pairs of samples that are nearly
        alike, after the test of Arora and Zhang 2017 (arXiv:1706.08224); both are of one class, if the
        model is conditioned on it, and of different noise. It is 1 / n if n images come equally often.
        Classes are those that a linear probe of the discriminator's features sees; 'probe_accuracy' says
        how well it sees them in images.
        """
        variances = {
            name: np.sum(means[f'{name}_square'] - np.square(means[f'{name}_mean']))
            for name in ('real', 'fake')
        }
        metrics = {
            'logits_real': means['logits_real'],
            'logits_fake': means['logits_fake'],
            'diversity': variances['fake'] / variances['real'],
            'duplicates': means['duplicates'],
        }
        if self.num_classes:
            shares = means['fake_classes']
            metrics['classes_covered'] = np.sum(shares > _COVERED / self.num_classes)
            metrics['class_perplexity'] = perplexity(jnp.asarray(shares))
            metrics['probe_accuracy'] = means['real_agree']
        if self.num_labels:
            metrics['label_accuracy'] = means['fake_agree']
        return {name: float(value) for name, value in metrics.items()}

    def predict(self, state: AdversarialState, batch: Batch) -> dict[str, jax.Array]:
        """Images, and a sample of the class of each."""
        samples = self.sample(state, content_keys(batch['x']), batch['label'])
        return {'images': batch['x'], 'samples': samples}

    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """Examples over samples."""
        rows = {'originals': predictions['images'], 'samples': predictions['samples']}
        return show('samples', rows, self.spec)

    def sample(self, state: AdversarialState, keys: jax.Array, labels: jax.Array) -> jax.Array:
        """Examples [n ...] of the classes int32 [n] if the model is conditioned on them."""
        made = self.model.apply(state.eval_variables(), self._noise(keys), labels)
        return to_integers(made, self.spec.dtype)

    def _noise(self, keys: jax.Array) -> jax.Array:
        return normal(keys, (self.model.noise_dim,))

"""The adversarial part of a training step: how a discriminator learns, and its gradient for the generator."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_least
from vq_jax.models.context import beside
from vq_jax.models.sound_discriminators import SoundDiscriminator
from vq_jax.ops import adversarial_losses
from vq_jax.ops.collectives import pmean
from vq_jax.ops.parts import Part
from vq_jax.spec import Spec
from vq_jax.training.config import build
from vq_jax.training.optimizer import Optimizer, OptimizerConfig, make_optimizer
from vq_jax.training.state import TrainState

_AVERAGES = 'averages'  # the collection of moving averages that `watch` and LeCam read
_DECAY = 0.99  # of them: about a hundred steps


@dataclasses.dataclass(frozen=True)
class AdversarialLossConfig:
    """What generator and discriminator lower (see `vq_jax.ops.adversarial_losses`).

    Attributes:
        loss: of both networks; 'wasserstein' needs a `gradient_penalty`, or spectral normalisation without
            batch normalisation, whose own scale has no bound. Both take one step at once, each
            against the other as it was before.
        r1: gamma of R1, the penalty on the gradient at real images. It means the same for one logit as
            for patches (see `adversarial_losses.squared_gradients`).
        gradient_penalty: weight of the penalty on gradients between real and generated images, likewise.
        lecam: weight of the LeCam regularisation.
    """

    loss: adversarial_losses.AdversarialLoss = 'non_saturating'
    r1: float = 0.0
    gradient_penalty: float = 0.0
    lecam: float = 0.0

    def __post_init__(self) -> None:
        check_least(0, self, 'r1', 'gradient_penalty', 'lecam')

    @property
    def matches_features(self) -> bool:
        """Whether the generator lowers what feature matching compares."""
        return False


@dataclasses.dataclass(frozen=True)
class AdversarialConfig(AdversarialLossConfig):
    """What generator and discriminator lower, how much the discriminator counts, and from when on.

    Attributes:
        weight: of the adversarial loss, times the adaptive weight.
        feature_weight: of feature matching (see `adversarial_losses.feature_matching`), which the adaptive
            weight counts to the losses of reconstruction; 0 leaves it out.
        adaptive: weigh it so that both losses pull equally at the last layer (Esser et al. 2021,
            equation 7).
        start: the step from which the generator feels it; before, it costs nothing. At or beyond the
            end of the run there is no adversarial loss at all.
        warmup: steps before `start` in which the discriminator learns alone.
        ramp: steps after `start` over which both weights rise from 0.
        most_adaptive: the adaptive weight is held below it.
    """

    weight: float = 0.8
    feature_weight: float = 0.0
    adaptive: bool = True
    start: int = 0
    warmup: int = 0
    ramp: int = 0
    most_adaptive: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = ('weight', 'feature_weight', 'most_adaptive')
        check_least(0, self, *weights, 'start', 'warmup', 'ramp')
        if self.warmup > self.start:
            raise UserError(
                f'warmup is {self.warmup} steps before start, which is {self.start}; raise start or lower '
                'warmup.'
            )

    def phase(self, step: int) -> str:
        """'absent' before the discriminator learns, 'alone' while it does so alone, then 'together'."""
        if step < self.start - self.warmup:
            return 'absent'
        return 'alone' if step < self.start else 'together'

    @property
    def matches_features(self) -> bool:
        """See `AdversarialLossConfig`."""
        return self.feature_weight > 0

    def ramped(self, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The weights of the adversarial loss, without the adaptive one, and of feature matching.

        At a step from `start` on.
        """
        share = jnp.minimum(1.0, (step - self.start + 1) / max(1, self.ramp))
        return self.weight * share, self.feature_weight * share


@dataclasses.dataclass(frozen=True)
class Adversary:
    """A discriminator and how it learns.

    Attributes:
        config: see `AdversarialLossConfig`.
        discriminator: a module of `vq_jax.models.discriminators` or `sound_discriminators`.
        optimizer: changes its parameters.
    """

    config: AdversarialLossConfig
    discriminator: nn.Module
    optimizer: Optimizer

    def __post_init__(self) -> None:
        for name in ('r1', 'gradient_penalty'):
            if getattr(self.config, name) and self.discriminator.norm == 'batch':
                raise UserError(
                    f'config.adversarial.{name} is a penalty on the gradient of each image by itself, which '
                    'batch normalisation mixes; set config.discriminator.norm=none.'
                )

        # Batch normalisation undoes the scale of the kernel before it, and has one of its own.
        spectral = self.discriminator.spectral_norm and self.discriminator.norm == 'none'
        if self.config.loss == 'wasserstein' and not (self.config.gradient_penalty or spectral):
            own = 'config.discriminator.norm=none with config.discriminator.spectral_norm=true or '
            raise UserError(
                'config.adversarial.loss=wasserstein needs a discriminator whose slope is bounded; set '
                f'{"" if self._of_sound else own}config.adversarial.gradient_penalty=10.'
            )

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` if the discriminator has no output for such examples."""
        images, labels = jnp.zeros((1, *spec.shape)), jnp.zeros(1, jnp.int32)
        discriminate = functools.partial(self.discriminator.init_with_output, jax.random.key(0))
        output, _ = jax.eval_shape(discriminate, images, labels)
        if not all(logits.size for logits in jax.tree.leaves(output.logits)):
            of_sound, of_patches = 'sound_discriminator.stft_windows', 'discriminator.stages or strides'
            key = of_sound if self._of_sound else of_patches
            raise UserError(
                f'examples of {spec.size_in_words} are too small for the discriminator; lower '
                f'config.{key}, or give larger ones.'
            )

    def init(self, key: jax.Array, images: jax.Array, labels: jax.Array) -> TrainState:
        """The discriminator's state before the first step; only the shapes [b *grid c], [b] count."""
        params_key, run_key = jax.random.split(key)
        output, variables = self.discriminator.init_with_output(params_key, images, labels)
        logits = jax.tree.map(lambda _: 0.0, output.logits)
        averages = {'real': logits, 'fake': logits, 'accuracy': 0.5, 'loss': self._chance, 'diversity': 1.0}
        return TrainState.create(
            run_key, {**variables, _AVERAGES: jax.tree.map(jnp.float32, averages)}, self.optimizer
        )

    def compare(
        self,
        state: TrainState,
        real: jax.Array,
        fake: jax.Array,
        labels: jax.Array,
        part: Part,
        centre: jax.Array,
        condition: jax.Array | None = None,
    ) -> tuple[Callable[..., jax.Array], dict[str, Any]]:
        """Compares real and generated images once, for both networks.

        Real and generated images are normalised apart, each by the statistics of their own kind
        (together, their distance within the batch gives them away), and both enter the running
        statistics. One forward pass serves both: its pullback is asked for the gradient of
        the discriminator's loss with respect to the parameters, and of the generator's with respect
        to the generated images.

        Args:
            state: the discriminator's.
            real: images in [-1, 1] [b *grid c].
            fake: as many generated ones.
            labels: classes of both, int32 [b].
            part: which examples of the whole batch these are.
            centre: see `mean_image`.
            condition: what both are made of and outputs beside [b *grid d], or None.

        Returns:
            A function of two weights, of the adversarial loss and of feature matching, that gives the
            gradient of their weighted sum, the mean over the part, with respect to the generated images [b
            *grid c]; and what the discriminator learns from, whose mean over all parts `update` takes.
        """
        learned = {k: v for k, v in state.variables.items() if k != _AVERAGES}
        averages = state.variables[_AVERAGES]

        def discriminate(params: Any, fake: jax.Array) -> tuple[Any, Any]:
            outputs, changed = [], learned
            for images in (real, fake):
                output, changed = self.discriminator.apply(
                    {'params': params, **changed},
                    beside(images, condition),
                    labels,
                    train=True,
                    axis_name=part.axis_name,
                    mutable=list(learned),
                )
                outputs.append(output if self.config.matches_features else output.replace(features=()))
            return tuple(outputs), changed

        def loss_fn(outputs: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            (real_logits, fake_logits), classes = (x.logits for x in outputs), outputs[0].classes
            name = self.config.loss
            loss = jnp.mean(adversarial_losses.discriminator_loss(name, real_logits, fake_logits))
            metrics = {'discriminator_loss': loss}
            if self.config.lecam:
                lecam = jnp.mean(
                    adversarial_losses.lecam(real_logits, fake_logits, averages['real'], averages['fake'])
                )
                loss, metrics = loss + self.config.lecam * lecam, {**metrics, 'lecam': lecam}
            if classes is not None:
                probe = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(classes, labels))
                loss, metrics = loss + probe, {**metrics, 'probe_loss': probe}
            return loss, metrics

        def penalty_fn(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            def logits(images: jax.Array) -> jax.Array:
                # The slope that counts is that in what may change, the images; the condition is given.
                variables, seen = {'params': params, **learned}, beside(images, condition)
                return self.discriminator.apply(variables, seen, labels, axis_name=part.axis_name).logits

            loss, metrics = 0.0, {}
            if self.config.r1:
                metrics['r1'] = 0.5 * jnp.mean(adversarial_losses.squared_gradients(logits, real))
                loss += self.config.r1 * metrics['r1']
            if self.config.gradient_penalty:
                keys = part.keys(state.step_key())
                penalty = jnp.mean(adversarial_losses.gradient_penalty(logits, keys, real, fake))
                metrics['gradient_penalty'] = penalty
                loss += self.config.gradient_penalty * penalty
            return loss, metrics

        outputs, pull, changed = jax.vjp(discriminate, state.params, fake, has_aux=True)
        real_logits, fake_logits = (x.logits for x in outputs)
        at_outputs, metrics = jax.grad(loss_fn, has_aux=True)(outputs)
        grads, _ = pull(at_outputs)
        generator_loss, at_logits = jax.value_and_grad(
            lambda logits: jnp.mean(adversarial_losses.generator_loss(self.config.loss, logits))
        )(fake_logits)
        metrics['generator_loss'] = generator_loss
        nothing, at_features = jax.tree.map(jnp.zeros_like, outputs), ()
        if self.config.matches_features:
            real_features, fake_features = (x.features for x in outputs)
            metrics['feature_matching_loss'], at_features = jax.value_and_grad(
                lambda features: jnp.mean(adversarial_losses.feature_matching(features, real_features))
            )(fake_features)

        def gradient(
            adversarial: jax.Array | float = 1.0, feature_matching: jax.Array | float = 0.0
        ) -> jax.Array:
            def weighed(weight: jax.Array | float, tree: Any) -> Any:
                return jax.tree.map(lambda x: (weight * x).astype(x.dtype), tree)

            at_fake = nothing[1].replace(
                logits=weighed(adversarial, at_logits), features=weighed(feature_matching, at_features)
            )
            return pull((nothing[0], at_fake))[1]

        if self.config.r1 or self.config.gradient_penalty:
            penalties, of_penalties = jax.grad(penalty_fn, has_aux=True)(state.params)
            grads = jax.tree.map(jnp.add, grads, penalties)
            metrics |= of_penalties

        metrics |= {
            'logits_real': jnp.mean(adversarial_losses.mean_logits(real_logits)),
            'logits_fake': jnp.mean(adversarial_losses.mean_logits(fake_logits)),
        }
        ranked = jax.tree.map(lambda real, fake: 0.5 + 0.5 * jnp.sign(real - fake), real_logits, fake_logits)
        return gradient, {
            'gradients': grads,
            'metrics': metrics,
            'logits': jax.tree.map(jnp.mean, {'real': real_logits, 'fake': fake_logits}),
            'accuracy': jnp.mean(adversarial_losses.mean_logits(ranked)),
            'real_spread': _spread(real - centre),
            'fake_spread': _spread(fake - centre),
            'fake_offset': jnp.mean(fake - centre, 0),
            # The same in all parts: no part is normalised by its own statistics (see `check_parts`).
            'statistics': changed,
        }

    def update(self, state: TrainState, means: dict[str, Any]) -> tuple[TrainState, dict[str, jax.Array]]:
        """The discriminator's update, from the mean over the whole batch of what `compare` gave of its parts.

        Returns:
            The discriminator's new state, and numbers for the log.
        """
        metrics = means['metrics']
        # Images that are all alike, or one alone, have no variance to compare with, and tell nothing.
        variance = means['real_spread']
        alike = variance < 1e-6
        of_fake = means['fake_spread'] - jnp.sum(jnp.square(means['fake_offset']))
        diversity = jnp.where(alike, 1.0, jnp.maximum(of_fake, 0.0) / jnp.where(alike, 1.0, variance))
        new = {
            **means['logits'],
            'accuracy': means['accuracy'],
            'loss': metrics['discriminator_loss'],
            'diversity': diversity,
        }
        averages = optax.incremental_update(new, state.variables[_AVERAGES], 1 - _DECAY)
        state, update = state.apply_gradients(means['gradients'], self.optimizer)
        state = state.replace(variables={**means['statistics'], _AVERAGES: averages})
        metrics = metrics | {
            'discriminator_gradient_norm': update['gradient_norm'],
            'discriminator_accuracy': averages['accuracy'],
            'discriminator_average_loss': averages['loss'],
            'diversity': averages['diversity'],
        }
        return state.finish_step(self.optimizer), metrics

    def watch(self, metrics: dict[str, float]) -> str | None:
        """A warning if one network has been far ahead of the other for about a hundred steps.

        'discriminator_accuracy' is the share of pairs in which the real image's logit is the greater,
        ties counted as half; 'diversity' is the variance of generated images' pixels relative to that of
        real images'. Both are moving averages.
        """
        if 'discriminator_accuracy' not in metrics:
            return None
        accuracy, loss = metrics['discriminator_accuracy'], metrics['discriminator_average_loss']
        # A critic of the Wasserstein distance is meant to rank all pairs right, and its loss has no scale.
        scaled = self.config.loss != 'wasserstein'
        if scaled and accuracy > 0.98 and loss < 0.1 * self._chance:
            return (
                f'the discriminator has won: it ranks {accuracy:.1%} of pairs right, and the generator '
                'learns little from it. Lower config.discriminator_optimizer.learning_rate, raise '
                f'config.adversarial.lecam, or {self._raise_r1}.'
            )
        if scaled and loss > 1.5 * self._chance:
            return (
                f'the discriminator has diverged: its loss is {loss:.4g}, where that of knowing nothing is '
                f'{self._chance:.2g}. Lower config.discriminator_optimizer.learning_rate.'
            )
        if accuracy < 0.3:
            return (
                f'the discriminator has lost: it ranks {accuracy:.1%} of pairs right, and what the generator '
                'learns from it means nothing. Raise config.discriminator_optimizer.learning_rate.'
            )
        # Last: the images of a generator that learns nothing are often alike, and slowing it is no remedy.
        if metrics['diversity'] < 0.1:
            return (
                f'the generator has collapsed: its images vary {metrics["diversity"]:.3f} as much as real '
                f'ones. Lower config.optimizer.learning_rate, or {self._raise_r1}.'
            )
        return None

    @property
    def _of_sound(self) -> bool:
        return isinstance(self.discriminator, SoundDiscriminator)

    @property
    def _raise_r1(self) -> str:
        """Advice to do so that can be followed; the parameters are others without batch normalisation."""
        if self.discriminator.norm == 'batch':
            return 'set config.adversarial.r1 with config.discriminator.norm=none in a new run'
        return 'raise config.adversarial.r1'

    @property
    def _chance(self) -> float:
        """The loss of a discriminator that knows nothing: all logits 0."""
        return {'hinge': 2.0, 'wasserstein': 0.0, 'least_squares': 1.0}.get(self.config.loss, 2 * math.log(2))


def make_adversary(
    config: ConfigDict, losses: AdversarialLossConfig, discriminator: nn.Module, steps: int
) -> Adversary:
    """The discriminator's side of a task, which learns in so many steps.

    It does so as the section 'discriminator_optimizer' of the config of the run says.
    """
    section = 'discriminator_optimizer'
    options = build(OptimizerConfig, config[section], section)
    if options.ema_decay:
        raise UserError(
            f'config.{section}.ema_decay is {options.ema_decay}, and nothing reads an average of the '
            'discriminator; set config.optimizer.ema_decay for that of the generator.'
        )
    return Adversary(losses, discriminator, make_optimizer(options, max(1, steps)))


def mean_image(images: jax.Array, axis_name: str | None) -> jax.Array:
    """The mean of images [b *grid c] over all devices [*grid c].

    Around that of the real ones of a whole batch their variance, and that of generated ones, is taken: around
    zero, its rounding would not be near 0 where images are all alike.
    """
    return pmean(jnp.mean(images, 0), axis_name)


def _spread(offsets: jax.Array) -> jax.Array:
    """The mean square of pixels [b *grid c], summed over the pixels."""
    return jnp.sum(jnp.mean(jnp.square(offsets), 0))

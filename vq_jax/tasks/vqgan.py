"""VQGAN: an autoencoder with a bottleneck, a perceptual loss and a discriminator."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_least
from vq_jax.media import sheets
from vq_jax.models.discriminators import PatchDiscriminator
from vq_jax.models.residual import ResidualSizes
from vq_jax.models.vqgan import LAST_KERNEL, VQGAN
from vq_jax.ops import adversarial_losses
from vq_jax.ops.collectives import pmean
from vq_jax.ops.images import to_float, to_uint8
from vq_jax.ops.losses import mean_absolute, mean_square
from vq_jax.ops.parts import Part, over_parts
from vq_jax.quantizers.gaussian import LATENT, GaussianBottleneck
from vq_jax.quantizers.quantizer import BATCH_MEANS
from vq_jax.spec import Spec
from vq_jax.tasks.adversarial import AdversarialLossConfig, Adversary, beside, make_adversary, mean_image
from vq_jax.tasks.autoencoding import (
    AutoencodingTask,
    as_scales,
    check_quantizer_parts,
    check_size,
    errors,
    init_codes,
    learn_codes,
    of_scales,
    reconstruction_media,
    summarize,
    usage_of_batch,
)
from vq_jax.tasks.perceptual import Perceptual
from vq_jax.tasks.quantizer_config import make_quantizer, quantizer_sections
from vq_jax.tasks.task import check_labels, check_parts
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, OptimizerConfig, model_optimizer, schedule_length
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import AdversarialState, TrainState

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow has it


@dataclasses.dataclass(frozen=True)
class VariantConfig:
    """Which kind of autoencoder.

    Attributes:
        bottleneck: 'quantizer' (see `QuantizerConfig`) makes VQGAN, 'gaussian' (section 'gaussian') the KL
            autoencoder of latent diffusion.
        source: what the encoder sees: the image itself; or, to translate one image into another
            (Isola et al. 2017, arXiv:1611.07004), its grey values or a copy reduced to a quarter of
            height and width. The discriminator is then given pairs, concatenated.
        class_conditional: decoder and discriminator are given the class.
    """

    bottleneck: Literal['quantizer', 'gaussian'] = 'quantizer'
    source: Literal['image', 'grey', 'small'] = 'image'
    class_conditional: bool = False


@dataclasses.dataclass(frozen=True)
class VQGANLossConfig:
    """The generator's losses.

    Attributes:
        reconstruction: mean absolute or mean squared difference of pixels in [-1, 1].
        reconstruction_weight: its weight.
        perceptual_weight: of the perceptual loss.
        quantizer_weight: of the quantizer's own losses.
        kl_weight: of the divergence of a Gaussian bottleneck, in nats for each value of a pixel.
    """

    reconstruction: Literal['l1', 'mse'] = 'l1'
    reconstruction_weight: float = 1.0
    perceptual_weight: float = 1.0
    quantizer_weight: float = 1.0
    kl_weight: float = 1e-6

    def __post_init__(self) -> None:
        weights = ('reconstruction_weight', 'perceptual_weight', 'quantizer_weight', 'kl_weight')
        check_least(0, self, *weights)


@dataclasses.dataclass(frozen=True)
class AdversarialConfig(AdversarialLossConfig):
    """What generator and discriminator lower, how much the discriminator counts, and from when on.

    Attributes:
        weight: of the adversarial loss, times the adaptive weight.
        adaptive: weigh it so that both losses pull equally at the last layer (Esser et al. 2021,
            equation 7).
        start: the step from which the generator feels it; before, it costs nothing. At or beyond the
            end of the run there is no adversarial loss at all.
        warmup: steps before `start` in which the discriminator learns alone.
        ramp: steps after `start` over which its weight rises from 0.
        most_adaptive: the adaptive weight is held below it.
    """

    weight: float = 0.8
    adaptive: bool = True
    start: int = 0
    warmup: int = 0
    ramp: int = 0
    most_adaptive: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(0, self, 'weight', 'start', 'warmup', 'ramp', 'most_adaptive')
        if self.warmup > self.start:
            raise UserError(
                f'warmup is {self.warmup} steps before start, which is {self.start}; raise start or lower '
                'warmup.'
            )


@dataclasses.dataclass(frozen=True)
class VQGANTask(AutoencodingTask):
    """See `vq_jax.tasks.task.Task` for what each method does.

    Attributes:
        model: the generator.
        adversary: the discriminator, and how it learns.
        optimizer: changes the generator.
        loss: see `VQGANLossConfig`.
        perceptual: see `Perceptual`.
        adversarial: see `AdversarialConfig`.
        source: see `VariantConfig`.
        num_labels: classes that decoder and discriminator are conditioned on; 0 for none.
        accumulate: parts of a step's batch.
    """

    model: VQGAN
    adversary: Adversary
    optimizer: Optimizer
    spec: Spec
    loss: VQGANLossConfig
    perceptual: Perceptual
    adversarial: AdversarialConfig
    source: str
    num_labels: int
    accumulate: int = 1

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections for generator, bottlenecks, discriminator and losses."""
        return {
            'variant': defaults(VariantConfig),
            'model': defaults(ResidualSizes),
            **quantizer_sections(without=('dim',)),
            'gaussian': defaults(GaussianBottleneck, without=('dim',)),
            'discriminator': defaults(PatchDiscriminator, without=('num_classes',)),
            'loss': defaults(VQGANLossConfig),
            'perceptual': defaults(Perceptual),
            'adversarial': defaults(AdversarialConfig),
            'discriminator_optimizer': defaults(OptimizerConfig),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'VQGANTask':
        """The task of a full config, for images [h w c] of so many classes."""
        variant = build(VariantConfig, config.variant, 'variant')
        check_labels(variant.class_conditional, num_classes, 'variant')
        num_labels = num_classes if variant.class_conditional else 0
        sizes = build(ResidualSizes, config.model, 'model')
        bottlenecks = {
            'quantizer': lambda: make_quantizer(config, dim=sizes.features),
            'gaussian': lambda: build(GaussianBottleneck, config.gaussian, 'gaussian', dim=sizes.features),
        }
        discriminator = build(
            PatchDiscriminator, config.discriminator, 'discriminator', num_classes=num_labels
        )
        against = build(AdversarialConfig, config.adversarial, 'adversarial')
        bottleneck = bottlenecks[variant.bottleneck]()
        check_quantizer_parts(config, bottleneck)
        if discriminator.norm == 'batch' and against.start - against.warmup < config.steps:
            what = "the discriminator's batch normalisation"
            check_parts(config, what, 'config.discriminator.norm=none')
        return cls(
            model=VQGAN(
                bottleneck=bottleneck,
                sizes=sizes,
                out_channels=spec.channels,
                num_classes=num_labels,
            ),
            adversary=make_adversary(
                config, against, discriminator, schedule_length(config) - (against.start - against.warmup)
            ),
            optimizer=model_optimizer(config),
            spec=spec,
            loss=build(VQGANLossConfig, config.loss, 'loss'),
            perceptual=build(Perceptual, config.perceptual, 'perceptual'),
            adversarial=against,
            source=variant.source,
            num_labels=num_labels,
            accumulate=config.accumulate,
        )

    @property
    def vocabularies(self) -> tuple[tuple[int, ...], ...]:
        """How many codes there are at each depth, of the one scale; empty for a Gaussian bottleneck."""
        bottleneck = self.model.bottleneck
        return () if isinstance(bottleneck, GaussianBottleneck) else (bottleneck.vocabulary,)

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` unless the model, and the perceptual loss, can take such images."""
        check_size(spec, self.model.sizes.factors, self.model.out_channels, 'config.model.multipliers')
        self.perceptual.check_spec(spec)
        self.adversary.check_spec(spec)
        if self.source == 'small' and any(size % 4 for size in spec.grid):
            raise UserError(
                f'config.variant.source=small needs a multiple of 4 pixels, not {spec.size_in_words}.'
            )
        if self.source == 'grey' and spec.channels != 3:
            raise UserError(
                'config.variant.source=grey needs images in colour, and these are grey already; set '
                'config.data.channels=3 if the data set has colours, or config.variant.source=image.'
            )

    def init(self, key: jax.Array, batch: Batch) -> AdversarialState:
        """Random parameters of both players."""
        generator_key, discriminator_key = jax.random.split(key)
        params_key, run_key = jax.random.split(generator_key)
        images, labels = to_float(batch['x'][:1]), batch['label'][:1]
        variables = self.model.init(params_key, self.seen(images), labels)
        return AdversarialState(
            generator=TrainState.create(run_key, variables, self.optimizer),
            discriminator=self.adversary.init(
                discriminator_key, beside(images, self._condition(images)), labels
            ),
        )

    @property
    def reads_published(self) -> bool:
        """Whether its perceptual loss is LPIPS."""
        return self.perceptual.kind == 'lpips'

    def pretrained(self) -> Any:
        """The weights of the perceptual loss."""
        return self.perceptual.pretrained()

    def pretrained_shapes(self) -> Any:
        """Their shapes."""
        return self.perceptual.shapes()

    def init_from_data(
        self, key: jax.Array, state: AdversarialState, batches: Iterable[Batch], engine: Engine
    ) -> AdversarialState:
        """See `init_codes`."""

        def vectors(generator: TrainState, batch: Batch) -> jax.Array:
            images = self.seen(to_float(batch['x']))
            return self.model.apply(generator.eval_variables(), images, method='vectors')

        model, quantizer = self.model, self.model.bottleneck
        generator = init_codes(
            key,
            state.generator,
            batches,
            engine,
            model=model,
            quantizer=quantizer,
            vectors=vectors,
            accumulate=self.accumulate,
        )
        return state.replace(generator=generator)

    def phase(self, step: int) -> str:
        """'absent' before the discriminator learns, 'alone' while it does so alone, then 'together'."""
        if step < self.adversarial.start - self.adversarial.warmup:
            return 'absent'
        return 'alone' if step < self.adversarial.start else 'together'

    def train_step(
        self, state: AdversarialState, batch: Batch, axis_name: str | None = None, phase: str = 'together'
    ) -> tuple[AdversarialState, dict[str, jax.Array]]:
        """One update of the players.

        The generator runs forward once. Each loss gives its gradient with respect to the images
        that come out; weighed and summed, they go back through the generator together.

        The adaptive weight is known when the whole batch was seen. In parts, the gradients that it weighs
        therefore go back apart: a second backward pass of the generator, and a second set of gradients.
        """
        generator, apart = state.generator, self._weighed_apart(phase)
        centre = mean_image(to_float(batch['x']), axis_name)

        def of_part(batch: Batch, part: Part) -> tuple[dict[str, Any], Any]:
            """What both networks learn from a part of the batch, and its codes."""
            images, labels = to_float(batch['x']), batch['label']

            def rebuild(params: Any) -> tuple[Any, Any]:
                variables = {'params': params, **generator.variables}
                (features, latent), changed = self.model.apply(
                    variables,
                    self.seen(images),
                    labels,
                    train=True,
                    part=part,
                    step=generator.step,
                    method='features',
                    mutable=[BATCH_MEANS],
                    rngs={name: generator.step_key() for name in ('codebook', LATENT)},
                )
                outputs = self.model.apply(variables, features, method='head')
                latent_loss = jnp.mean(self._latent_loss(latent.loss, images))
                return (outputs, latent_loss), (features, changed.get(BATCH_MEANS, {}), latent)

            def rebuilding_loss(outputs: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
                reconstruction, perceptual = self._reconstruction_losses(state.frozen, outputs, images)
                loss = jnp.mean(self._weighed(reconstruction, perceptual))
                metrics = {
                    'reconstruction_loss': jnp.mean(reconstruction),
                    'perceptual_loss': jnp.mean(perceptual),
                }
                return loss, metrics

            outcome = jax.vjp(rebuild, generator.params, has_aux=True)
            (outputs, latent_loss), pull, (features, batch_means, latent) = outcome
            (loss, metrics), gradient = jax.value_and_grad(rebuilding_loss, has_aux=True)(outputs)
            metrics = {'loss': loss + latent_loss, **metrics, 'latent_loss': latent_loss, **latent.metrics}
            of_discriminator, weight = {}, jnp.zeros(())
            if phase != 'absent':
                compared = self.adversary.compare(
                    state.discriminator, images, outputs, labels, part, centre, self._condition(images)
                )
                of_discriminator['discriminator'] = compared.means
            if apart:
                of_discriminator['adversarial_gradients'] = pull((compared.gradient, jnp.zeros(())))[0]
            elif phase == 'together':
                weight = self._ramp(state.step)
                if self.adversarial.adaptive:
                    pulls = (
                        pmean(self._at_last_kernel(generator.params, features, x), axis_name)
                        for x in (gradient, compared.gradient)
                    )
                    weight *= adversarial_losses.adaptive_weight(*pulls, self.adversarial.most_adaptive)
                gradient += weight * compared.gradient
            (grads,) = pull((gradient, jnp.ones(())))
            means = {
                'gradients': grads,
                'metrics': metrics,
                'codebooks': batch_means,
                'weight': weight,
                **of_discriminator,
            }
            return means, as_scales(latent.codes) if self.vocabularies else ()

        means, codes = over_parts(of_part, batch, self.accumulate, axis_name)
        grads, weight = means['gradients'], means['weight']
        if apart:
            pulls = (flatten_dict(tree)[LAST_KERNEL] for tree in (grads, means['adversarial_gradients']))
            weight = self._ramp(state.step)
            weight *= adversarial_losses.adaptive_weight(*pulls, self.adversarial.most_adaptive)
            grads = jax.tree.map(lambda x, y: x + weight * y, grads, means['adversarial_gradients'])
        discriminator, adversarial_metrics = state.discriminator, {}
        if phase != 'absent':
            discriminator, adversarial_metrics = self.adversary.update(discriminator, means['discriminator'])
        generator, update = generator.apply_gradients(grads, self.optimizer)
        generator, of_codes = learn_codes(self.model, generator, means['codebooks'])
        generator = generator.finish_step(self.optimizer)
        use = usage_of_batch(codes, self.vocabularies)
        metrics = {**means['metrics'], **use, **update, **of_codes, **adversarial_metrics}
        state = state.replace(generator=generator, discriminator=discriminator)
        return state, {**metrics, 'adversarial_weight': weight}

    def watch(self, metrics: dict[str, float]) -> str | None:
        """A warning if one player has won, once the generator feels what the other says."""
        return self.adversary.watch(metrics) if metrics['adversarial_weight'] else None

    def eval_step(self, state: AdversarialState, batch: Batch) -> dict[str, jax.Array]:
        """Losses without the adversarial one, errors, and the codes."""
        images = to_float(batch['x'])
        outputs, latent = self.model.apply(state.eval_variables(), self.seen(images), batch['label'])
        reconstruction, perceptual = self._reconstruction_losses(state.frozen, outputs, images)
        latent_loss = self._latent_loss(latent.loss, images)
        values = {
            'loss': self._weighed(reconstruction, perceptual) + latent_loss,
            **errors(outputs, batch['x']),
        }
        if self.perceptual.kind != 'none':
            values[self.perceptual.kind] = perceptual
        if self.vocabularies:
            values |= of_scales('codes', as_scales(latent.codes))
        else:
            values['kl'] = latent.loss
        return values

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """The means, with the use of codes over the whole set."""
        return summarize(means, self.vocabularies)

    def predict(self, state: AdversarialState, batch: Batch) -> dict[str, jax.Array]:
        """Images, what the encoder saw, codes, and what these decode to."""
        images = batch['x']
        codes = self.encode(state, images)
        rebuilt = self.decode(state, codes, batch['label'])
        named = of_scales('codes', codes) if self.vocabularies else {}
        predictions = {'images': images, **named, 'reconstructions': rebuilt}
        if self.source == 'image':
            return predictions
        return {**predictions, 'seen': to_uint8(self.seen(to_float(images)))}

    def media(
        self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]
    ) -> dict[str, sheets.Sheet]:
        """Originals over reconstructions (over code maps); the histogram of code use."""
        shown = {}
        if 'seen' in predictions:
            names = {'inputs': 'seen', 'outputs': 'reconstructions', 'originals': 'images'}
            rows = {caption: predictions[name] for caption, name in names.items()}
            shown['translations'] = sheets.rows(rows)
        if self.vocabularies:
            return {**shown, **reconstruction_media(predictions, means, self.vocabularies, self.spec)}
        rows = {'originals': predictions['images'], 'reconstructions': predictions['reconstructions']}
        return {**shown, 'reconstructions': sheets.rows(rows)}

    def seen(self, images: jax.Array) -> jax.Array:
        """What the encoder is given of images [b h w c] in [-1, 1]; of their size."""
        if self.source == 'grey':
            return images @ jnp.array(_GREY)[:, None]
        if self.source == 'small':
            b, h, w, c = images.shape
            means = images.reshape(b, h // 4, 4, w // 4, 4, c).mean((2, 4))
            return means.repeat(4, 1).repeat(4, 2)
        return images

    def _weighed_apart(self, phase: str) -> bool:
        """Whether the gradients of the adversarial loss are weighed when all parts of a batch were seen."""
        return self.accumulate > 1 and phase == 'together' and self.adversarial.adaptive

    def _at_last_kernel(self, params: Any, features: jax.Array, at_outputs: jax.Array) -> jax.Array:
        """The gradient with respect to the last kernel that one at the outputs amounts to."""
        flat = flatten_dict(params)

        def outputs(kernel: jax.Array) -> jax.Array:
            changed = unflatten_dict({**flat, LAST_KERNEL: kernel})
            return self.model.apply({'params': changed}, features, method='head')

        _, pull = jax.vjp(outputs, flat[LAST_KERNEL])
        return pull(at_outputs)[0]

    def _condition(self, images: jax.Array) -> jax.Array | None:
        """What the discriminator is shown beside an image: what that is made of."""
        return None if self.source == 'image' else self.seen(images)

    def _ramp(self, step: jax.Array) -> jax.Array:
        """The weight of the adversarial loss at a step from `start` on, without the adaptive one."""
        since = step - self.adversarial.start + 1
        return self.adversarial.weight * jnp.minimum(1.0, since / max(1, self.adversarial.ramp))

    def _reconstruction_losses(
        self, frozen: Any, outputs: jax.Array, images: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The difference of pixels and the perceptual loss of each example [b]."""
        difference = {'l1': mean_absolute, 'mse': mean_square}[self.loss.reconstruction]
        return (
            difference(outputs, images),
            self.perceptual.distance(frozen, outputs, images, self.model.sizes.dtype),
        )

    def _weighed(self, reconstruction: jax.Array, perceptual: jax.Array) -> jax.Array:
        return self.loss.reconstruction_weight * reconstruction + self.loss.perceptual_weight * perceptual

    def _latent_loss(self, loss: jax.Array, images: jax.Array) -> jax.Array:
        """The bottleneck's own loss, weighted [b]."""
        if isinstance(self.model.bottleneck, GaussianBottleneck):
            return self.loss.kl_weight * loss / images[0].size
        return self.loss.quantizer_weight * loss

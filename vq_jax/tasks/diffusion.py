"""Diffusion models: networks that learn to remove noise, and so to make images of noise alone."""

import dataclasses
import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.media import Media, show
from vq_jax.models.context import ContextEncoder
from vq_jax.models.dit import DiT, DiTSizes
from vq_jax.models.unet import UNet, UNetSizes
from vq_jax.ops import diffusion as ops
from vq_jax.ops import likelihoods
from vq_jax.ops.images import fill, to_uint8
from vq_jax.ops.keys import content_keys, fold_in, normal
from vq_jax.ops.losses import mean_each
from vq_jax.ops.masking import training_holes
from vq_jax.ops.metrics import psnr
from vq_jax.ops.parts import Part, map_over_parts
from vq_jax.sampling.diffusion import Denoised, clipped
from vq_jax.sampling.likelihood import bound, decoder_log_likelihood, flow_log_likelihood, step_divergence
from vq_jax.spec import Spec, blank_conditions
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.codec import LatentConfig, make_codec
from vq_jax.tasks.conditioner_config import conditioner_sections, make_conditioner
from vq_jax.tasks.diffusion_config import DiffusionConfig, EvaluationConfig, Sampling
from vq_jax.tasks.diffusion_sampling import LATENT, DiffusionSampling
from vq_jax.tasks.task import check_decoder, labels_of, size_keys
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, model_optimizer
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import TrainState

_START_BATCHES = 16  # whose latents are measured
_CHAIN = 8  # images of the way from noise to image


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionTask(DiffusionSampling):
    """See `vq_jax.tasks.task.Task` for what each method does; `state.frozen` is the autoencoder's.

    Attributes:
        evaluation: see `EvaluationConfig`.
        optimizer: changes the parameters.
    """

    evaluation: EvaluationConfig
    optimizer: Optimizer
    accumulate: int = 1

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'latent', 'model', those of conditioners, 'unet', 'dit', 'sampling' and 'evaluation'."""
        return {
            'latent': defaults(LatentConfig),
            'model': defaults(DiffusionConfig),
            **conditioner_sections(),
            'unet': defaults(UNetSizes),
            'dit': defaults(DiTSizes),
            'sampling': defaults(Sampling),
            'evaluation': defaults(EvaluationConfig),
        }

    @classmethod
    def from_config(cls, config: ConfigDict, spec: Spec, num_classes: int) -> 'DiffusionTask':
        """The task of a full config, for images [h w c] of so many classes; reads the autoencoder's run."""
        options = build(DiffusionConfig, config.model, 'model')
        num_labels = labels_of(options.class_conditional, num_classes, 'model')
        _check_process(options)
        evaluation = build(EvaluationConfig, config.evaluation, 'evaluation')
        if evaluation.flow_steps and options.timesteps:
            raise UserError(
                'the likelihood of the flow (config.evaluation.flow_steps) needs continuous time, '
                'config.model.timesteps=0.'
            )
        latent = build(LatentConfig, config.latent, 'latent')
        if evaluation.flow_steps and (latent.workdir or spec.dtype != np.uint8):
            raise UserError(
                'the likelihood of the flow (config.evaluation.flow_steps) is that of pixels, and a model of '
                f'{"latents (config.latent.workdir)" if latent.workdir else spec.kind} has none; set '
                'config.evaluation.flow_steps=0.'
            )
        codec = make_codec(latent, spec)
        check_decoder('autoencoder', codec.num_labels, num_labels)
        if options.backbone == 'dit':
            network, sizes = DiT, build(DiTSizes, config.dit, 'dit')
        else:
            network, sizes = UNet, build(UNetSizes, config.unet, 'unet')
        *grid, c = codec.latent_shape
        factors = sizes.factors(len(grid))
        if any(n % factor for n, factor in zip(grid, factors, strict=True)):
            raise UserError(
                f'what is learned is {_times(grid)} and cannot be divided by '
                f'{_times(dict.fromkeys(factors))}, as the sizes in config.{options.backbone} want; change '
                f'them, or {size_keys(spec)}.'
            )
        if options.upscale > 1:
            _check_upscale(options.upscale, latent, spec)
        conditioner, dropout = make_conditioner(config, spec)
        encoder = ContextEncoder(
            num_labels,
            conditioner=conditioner,
            label_dropout=options.label_dropout,
            dropout=dropout,
            grid_dropout=options.image_dropout if options.upscale > 1 else 0.0 if options.given else dropout,
        )
        task = cls(
            model=network(sizes, c * (2 if options.learned_variance else 1)),
            encoder=encoder,
            codec=codec,
            config=options,
            sampling=build(Sampling, config.sampling, 'sampling'),
            evaluation=evaluation,
            optimizer=model_optimizer(config),
            spec=spec,
            num_labels=num_labels,
            accumulate=config.accumulate,
        )
        task.check_sampling(task.sampling)
        return task

    def built_on(self) -> dict[str, Any]:
        """The autoencoder."""
        return {'latent': self.codec.run} if self.codec.run else {}

    def part_classes(self) -> dict[str, ClassNames]:
        """Those of the autoencoder's decoder."""
        return {'autoencoder': self.codec.class_names} if self.codec.num_labels else {}

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        params_key, run_key = jax.random.split(key)
        shape = self.codec.latent_shape
        small = jnp.zeros((1, *shape)) if self.config.upscale > 1 else self.nothing_given(1)
        context, of_context = self.encoder.init_with_output(
            params_key,
            jnp.zeros(1, jnp.int32),
            None,
            blank_conditions(self.condition_specs, 1),
            small,
            method='encode',
        )
        x = self.features(jnp.zeros((1, *shape)))
        variables = dict(self.model.init(params_key, x, jnp.zeros(1), context))
        variables['params'] = {**variables['params'], **of_context.get('params', {})}
        if not self.learns_pixels:
            c = self.codec.latent_shape[-1]
            variables[LATENT] = {'mean': jnp.zeros(c), 'scale': jnp.ones(c)}
        return TrainState.create(run_key, variables, self.optimizer)

    def pretrained(self) -> Any:
        """What the autoencoder learned."""
        return self.codec.state()

    def init_from_data(
        self, key: jax.Array, state: TrainState, batches: Iterable[Batch], engine: Engine
    ) -> TrainState:
        """Measures the mean and the standard deviation of each channel of the latents."""
        if self.learns_pixels:
            return state
        frozen = engine.put_state(self.codec.state())

        def encode(frozen: Any, batch: Batch) -> jax.Array:
            return map_over_parts(
                lambda images: self.codec.latents(frozen, images), batch['x'], self.accumulate
            )

        compiled = engine.per_example(encode)
        latents = np.concatenate([compiled(frozen, batch) for batch in islice(batches, _START_BATCHES)])
        latents = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
        scale = np.maximum(latents.std(0), 1e-6)
        measured = {'mean': jnp.float32(latents.mean(0)), 'scale': jnp.float32(scale)}
        return engine.put_state(state.replace(variables={**state.variables, LATENT: measured}))

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters."""
        times_key, step_key = jax.random.split(state.step_key())

        def loss_fn(params: Any, batch: Batch, part: Part) -> tuple[jax.Array, dict[str, jax.Array]]:
            x0, keys = self.encoded(state, batch['x']), part.keys(step_key)
            # Times are spread evenly over the batch (Kingma et al. 2021, appendix I.1).
            t = self._time((jax.random.uniform(times_key) + part.index / part.size) % 1.0)
            variables = {'params': params}
            given = None
            if self.config.given:  # what is outside of a hole is as in inpainting
                hole = training_holes(fold_in(keys, 3), self.config.given, self.spec.grid)
                filled = self.encoded(state, fill(batch['x'], hole))
                given, x0 = self.given_grid(filled, hole), jnp.where(self.parts_of(hole), x0, filled)
            known = batch['label'], self.conditions_of(batch)
            context = self.context(variables, *known, batch['x'], given)
            context = self.encoder.drop(fold_in(keys, 0), context)
            network = self.network(variables, context, fold_in(keys, 1))
            losses = self._losses(network, x0, fold_in(keys, 2), t)
            metrics = {name: jnp.mean(value) for name, value in losses.items()}
            return metrics['loss'], metrics

        return state.descend(loss_fn, batch, self.optimizer, self.accumulate, axis_name)

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """The loss; of a model of bytes the parts of the bound in nats [b], those over time [b n].

        Of super-resolution instead of the bound 'psnr' of a sample and, to compare, of cubic interpolation
        [b]. The bound of the bytes given the image of low resolution would be valid too, but there is none to
        compare it with, and of a network that predicts x0 it is huge: the error of x0 does not vanish with
        the noise, while its weight grows without end.

        The noise and the times of an image depend on its bytes alone.
        """
        images, n = batch['x'], self.evaluation.times
        x0, keys = self.encoded(state, images), content_keys(images)
        variables = state.eval_variables()
        context = self.context(variables, batch['label'], self.conditions_of(batch), images)
        network = self.network(variables, context)

        def losses(i: jax.Array) -> jax.Array:
            own = fold_in(keys, i)
            t = self._time((i + jax.vmap(jax.random.uniform)(fold_in(own, 0))) / n)
            return self._losses(network, x0, fold_in(own, 1), t)['loss']

        values = {'loss': jnp.mean(jax.lax.map(losses, jnp.arange(n)), axis=0)}
        denoise, apart = self.denoiser(network), fold_in(keys, n)
        is_upscaled = self.config.upscale > 1
        if self._is_of_bytes and not is_upscaled:
            # What is expected of pixels is kept in their range, as Ho et al. 2020 do.
            parts = bound(clipped(denoise), self.process, apart, x0, n, self.sampling.variance)
            values |= {'prior': parts.prior, 'diffusion': parts.diffusion, 'decoder': parts.decoder}
        if self.evaluation.flow_steps:
            spread_out = likelihoods.dequantize(fold_in(keys, n + 1), x0)
            steps, probes = self.evaluation.flow_steps, self.evaluation.flow_probes
            nats = flow_log_likelihood(denoise, self.process, apart, spread_out, steps, probes)
            values['flow'] = nats + x0[0].size * math.log(likelihoods.LEVEL)
        if is_upscaled:
            sampled, _ = self.visit(state, fold_in(keys, n + 2), context, self.sampling)
            values['psnr'] = psnr(self.decoded(state, sampled, batch['label']), images)
            values['psnr_cubic'] = psnr(to_uint8(context.grid), images)
        return values

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """'loss', and bits a value: the bound, its parts, its diffusion term by quarters of the noise."""
        metrics, n = {'loss': means['loss']}, math.prod(self.spec.shape)

        def bits(nats: np.ndarray) -> float:
            return likelihoods.bits_per_dimension(-nats, n)

        if 'diffusion' in means:
            terms = means['diffusion']
            metrics['bits_per_dimension'] = bits(means['prior'] + terms.sum() + means['decoder'])
            metrics['bits_prior'], metrics['bits_decoder'] = bits(means['prior']), bits(means['decoder'])
            metrics['bits_diffusion'] = bits(terms.sum())
            if len(terms) >= 4:
                # Parts that lie in two quarters count in both, for what of them does.
                so_far = np.interp(
                    np.linspace(0, len(terms), 5), range(len(terms) + 1), [0, *np.cumsum(terms)]
                )
                for i, quarter in enumerate(np.diff(so_far), 1):
                    metrics[f'bits_diffusion_{i}_of_4'] = bits(quarter)
        if 'flow' in means:
            metrics['bits_flow'] = bits(-means['flow'])
        metrics |= {name: means[name] for name in ('psnr', 'psnr_cubic') if name in means}
        return {name: float(value) for name, value in metrics.items()}

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Images, a sample of the class of each, and the way to it from noise [b 8 h w c]."""
        images, labels = batch['x'], batch['label']
        context = self.context(state.eval_variables(), labels, self.conditions_of(batch), images)
        keys = content_keys(images)
        _, seen = self.visit(state, keys, context, self.sampling, visited=self._visited)
        chain = jax.vmap(lambda x: self.decoded(state, x, labels))(seen)
        shown = {'images': images, 'chain': jnp.moveaxis(chain, 0, 1), 'samples': chain[-1]}
        if self.config.upscale > 1:
            shown['small'] = self.codec.decode_latents(state.frozen, context.grid, labels)
        return shown

    def media(self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Media]:
        """Examples over samples (with what they were made of in between), and the ways from noise."""
        names = {'originals': 'images', 'made small': 'small', 'samples': 'samples'}
        rows = {caption: predictions[name] for caption, name in names.items() if name in predictions}
        chain = {f'sample {i}': x for i, x in enumerate(predictions['chain'], 1)}
        steps = [f'step {n}/{self.sampling.steps}' for n in self._visited]
        return {**show('samples', rows, self.spec), **show('chain', chain, self.spec, steps)}

    @property
    def _is_of_bytes(self) -> bool:
        """Whether it learns what likelihoods are of (see `vq_jax.ops.likelihoods`)."""
        return self.learns_pixels and self.spec.dtype == np.uint8

    @property
    def _visited(self) -> np.ndarray:
        """After how many steps of sampling the way from noise is shown."""
        return np.linspace(0, self.sampling.steps, _CHAIN).round().astype(int)

    def _time(self, share: jax.Array) -> jax.Array:
        """Shares from 0 to below 1 as times that the network learns."""
        n = self.config.timesteps
        return (jnp.minimum(jnp.floor(share * n), n - 1) + 1) / n if n else share

    def _losses(self, network: Any, x0: jax.Array, keys: jax.Array, t: jax.Array) -> dict[str, jax.Array]:
        """'loss', and its part that teaches the variance if that is learned, of each example [b]."""
        c, process = self.config, self.process
        noise = normal(keys, x0.shape[1:])
        x = process.diffuse(x0, noise, t)
        answer = network(x, t)
        wanted = ops.target(c.prediction, process, x0, noise, t)
        error = mean_each(jnp.square(answer[..., : x0.shape[-1]] - wanted))
        weight = ops.loss_weight(c.weighting, c.prediction, process, t, c.min_snr_gamma)
        loss = weight * error
        if not c.learned_variance:
            return {'loss': loss}
        denoised = self.denoiser(lambda x, t: answer)(x, t)
        denoised = denoised.replace(x0=jax.lax.stop_gradient(denoised.x0))
        inside = t > 1.5 / c.timesteps
        nats = step_divergence(denoised, process, x0, x, jnp.maximum(t, 2 / c.timesteps))
        nats = jnp.where(inside, nats, self._decoding(denoised, x0, inside))
        variational = c.timesteps * nats / x0[0].size
        return {'loss': loss + c.variational_weight * variational, 'variational_loss': variational}

    def _decoding(self, denoised: Denoised, x0: jax.Array, inside: jax.Array) -> jax.Array:
        """The decoder's part of the bound, in nats [b], where examples are not inside; for bytes only."""
        if not self._is_of_bytes:
            return jnp.zeros(len(x0))
        # Elsewhere what is expected may be so far off that there is no gradient to leave out.
        near = jnp.where(ops.spread(inside, x0), x0, denoised.x0)
        return -decoder_log_likelihood(denoised.replace(x0=near), self.process, x0)


def _check_process(options: DiffusionConfig) -> None:
    process = options.process()
    start, end = (float(process.scales(jnp.asarray(t))[1]) for t in (0.0, 1.0))
    known = 'straight' if options.path == 'straight' else 'cosine'
    # The published processes end at 0.99 or more; samplers begin, and bounds end, with noise of scale 1.
    for sigma, where, wanted, wrong in ((start, 'start', 0, start > 0.1), (end, 'end', 1, end < 0.98)):
        if wrong:
            raise UserError(
                f'with config.model.schedule={options.schedule}, path={options.path} and shift='
                f'{options.shift}, noise has a scale of {sigma:.2f} at the {where} instead of {wanted}; '
                f'choose others, such as shift=1 with schedule={known}.'
            )


def _times(sizes: Iterable[int]) -> str:
    """Sizes of axes, for people."""
    return 'x'.join(map(str, sizes))


def _check_upscale(factor: int, latent: LatentConfig, spec: Spec) -> None:
    if spec.kind != 'image':
        raise UserError(
            f'super-resolution (config.model.upscale) is of images, and these are {spec.kind}; set it to 1.'
        )
    if latent.workdir:
        raise UserError(
            'super-resolution (config.model.upscale) learns pixels; leave config.latent.workdir empty.'
        )
    if any(n % factor for n in spec.grid):
        raise UserError(
            f'images of {_times(spec.grid)} pixels cannot be reduced by {factor} '
            '(config.model.upscale); change it or config.data.image_size.'
        )

"""Diffusion models: learn to take noise away, and so to make pictures of nothing else."""

import dataclasses
import math
from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.models.dit import DiT, DiTSizes
from vq_jax.models.unet import UNet, UNetSizes
from vq_jax.ops import diffusion as ops
from vq_jax.ops import likelihoods, pictures
from vq_jax.ops.collectives import content_keys, example_keys, global_size, pmean
from vq_jax.ops.diffusion import PathName, PredictionName, Process, ScheduleName, Weighting
from vq_jax.ops.dropout import fold_in
from vq_jax.ops.images import to_float
from vq_jax.sampling import diffusion as sampling_ops
from vq_jax.sampling.diffusion import SAMPLERS, Denoised, Denoiser, GridName, Known, SamplerName
from vq_jax.sampling.likelihood import bound, flow_log_likelihood, step_divergence
from vq_jax.tasks.latents import LatentConfig, Pixels, Space, make_space
from vq_jax.tasks.task import Task, check_labels
from vq_jax.training.config import build, defaults
from vq_jax.training.optimizer import Optimizer, OptimizerConfig, make_optimizer
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import TrainState

LATENT = 'latent'  # the collection of the mean and the scale of latents
_START_BATCHES = 16  # whose latents are measured
_CHAIN = 8  # pictures of the way from noise to image


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """Which network learns to take which noise away.

    Attributes:
        backbone: 'unet' (section 'unet') or 'dit' (section 'dit').
        class_conditional: draw pictures of a given class.
        label_dropout: share of the training examples whose class is kept from the network, which guidance
            needs (Ho and Salimans 2022).
        upscale: if above 1, the network is shown the picture reduced to one pixel out of so many in
            height and in width: super-resolution (Saharia et al. 2021, arXiv:2104.07636).
        schedule: how noise grows with time (see `vq_jax.ops.diffusion.SCHEDULES`).
        path: from data to noise; with 'straight', `schedule` 'straight' and `prediction` 'velocity' this
            is flow matching.
        shift: how much stronger noise is than the schedule says, for large pictures.
        timesteps: of discrete time; 0 for continuous time.
        prediction: what the network is asked.
        weighting: of its squared error over time (see `vq_jax.ops.diffusion.loss_weight`).
        min_snr_gamma: the bound in the weighting 'min_snr'.
        learned_variance: the network also says how wide each step is, in discrete time (Nichol and Dhariwal
            2021, arXiv:2102.09672).
        variational_weight: of the bound that teaches it, in nats a value.
    """

    backbone: Literal['unet', 'dit'] = 'unet'
    class_conditional: bool = False
    label_dropout: float = 0.1
    upscale: int = 1
    schedule: ScheduleName = 'cosine'
    path: PathName = 'variance_preserving'
    shift: float = 1.0
    timesteps: int = 0
    prediction: PredictionName = 'v'
    weighting: Weighting = 'uniform'
    min_snr_gamma: float = 5.0
    learned_variance: bool = False
    variational_weight: float = 0.001

    def __post_init__(self) -> None:
        if not 0 <= self.label_dropout <= 1:
            raise UserError(f'config.model.label_dropout is {self.label_dropout}; give a share from 0 to 1.')
        if self.upscale < 1:
            raise UserError(f'config.model.upscale is {self.upscale}; give 1 or more.')
        if self.min_snr_gamma <= 0:
            raise UserError(f'config.model.min_snr_gamma is {self.min_snr_gamma}; give a number above 0.')
        if self.learned_variance and not self.timesteps:
            raise UserError(
                'config.model.learned_variance needs steps whose variance there is to learn; set '
                'config.model.timesteps, to 1000 say.'
            )

    def process(self) -> Process:
        """The forward process."""
        return Process(self.schedule, self.path, self.shift, self.timesteps)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How pictures are drawn.

    Attributes:
        sampler: see `vq_jax.sampling.diffusion.SAMPLERS`.
        steps: how many; 'heun' asks the network twice in each.
        grid: how times are spread (see `vq_jax.sampling.diffusion.time_grid`).
        eta: of 'ddim', from 0, which adds no noise, to 1, which is 'ddpm'.
        variance: of 'ddpm', if it is not learned.
        guidance: towards the class; 1 is the model itself.
        rescale: how far guidance keeps the contrast, from 0 to 1 (Lin et al. 2024, arXiv:2305.08891).
        threshold: what is expected of pixels is clipped to their range ('static'), or shrunk into it
            ('dynamic', Saharia et al. 2022); latents have no range, and are left as they are.
        percentile: share of the pixels that 'dynamic' brings into the range.
        repeats: in inpainting, how often each step is made (Lugmayr et al. 2022).
    """

    sampler: SamplerName = 'ddim'
    steps: int = 50
    grid: GridName = 'uniform'
    eta: float = 0.0
    variance: Literal['posterior', 'forward'] = 'posterior'
    guidance: float = 1.0
    rescale: float = 0.0
    threshold: Literal['static', 'dynamic', 'none'] = 'static'
    percentile: float = 0.995
    repeats: int = 1

    def __post_init__(self) -> None:
        for name in ('steps', 'repeats'):
            if getattr(self, name) < 1:
                raise UserError(f'{name} is {getattr(self, name)}; give 1 or more.')
        for name in ('rescale', 'percentile'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'{name} is {getattr(self, name)}; give a share from 0 to 1.')
        self.options()  # checks the rest

    def options(self) -> sampling_ops.Options:
        """Of the sampler."""
        return sampling_ops.Options(eta=self.eta, variance=self.variance)


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What an evaluation measures.

    Attributes:
        times: at how many times each picture is noised, for the loss and for the bound.
        flow_steps: of the probability flow, for the likelihood of a model of continuous time; 0 leaves
            it out. 100 take as long as the training on 300 examples for each picture.
        flow_probes: estimates of its divergence that are averaged.
    """

    times: int = 8
    flow_steps: int = 0
    flow_probes: int = 1

    def __post_init__(self) -> None:
        for name, least in (('times', 1), ('flow_steps', 0), ('flow_probes', 1)):
            if getattr(self, name) < least:
                raise UserError(f'config.evaluation.{name} is {getattr(self, name)}; give {least} or more.')


@dataclasses.dataclass(frozen=True)
class DiffusionTask(Task):
    """See `vq_jax.tasks.task.Task` for what each method does; `state.frozen` is the autoencoder's.

    Attributes:
        model: noisy examples and times to predictions.
        space: pictures to what is learned, and back.
        config: see `DiffusionConfig`.
        sampling: see `Sampling`.
        evaluation: see `EvaluationConfig`.
        optimizer: changes the parameters.
        image_shape: [h w c].
        num_labels: classes that the model is conditioned on; 0 for none.
    """

    inference_needs_frozen: ClassVar[bool] = True

    model: UNet | DiT
    space: Space
    config: DiffusionConfig
    sampling: Sampling
    evaluation: EvaluationConfig
    optimizer: Optimizer
    image_shape: tuple[int, int, int]
    num_labels: int

    @staticmethod
    def default_config() -> dict[str, ConfigDict]:
        """Sections 'latent', 'model', 'unet', 'dit', 'sampling' and 'evaluation'."""
        return {
            'latent': defaults(LatentConfig),
            'model': defaults(DiffusionConfig),
            'unet': defaults(UNetSizes),
            'dit': defaults(DiTSizes),
            'sampling': defaults(Sampling),
            'evaluation': defaults(EvaluationConfig),
        }

    @classmethod
    def from_config(
        cls, config: ConfigDict, image_shape: tuple[int, int, int], num_classes: int
    ) -> 'DiffusionTask':
        """The task of a full config, for pictures [h w c] of so many classes; reads the autoencoder's run."""
        options = build(DiffusionConfig, config.model, 'model')
        check_labels(options.class_conditional, num_classes, 'model')
        evaluation = build(EvaluationConfig, config.evaluation, 'evaluation')
        if evaluation.flow_steps and options.timesteps:
            raise UserError(
                'the likelihood of the flow (config.evaluation.flow_steps) needs continuous time, '
                'config.model.timesteps=0.'
            )
        space = make_space(build(LatentConfig, config.latent, 'latent'), image_shape)
        num_labels = num_classes if options.class_conditional else 0
        if space.num_labels and not num_labels:
            raise UserError(
                'the decoder of this autoencoder is conditioned on classes; set '
                'config.model.class_conditional=true.'
            )
        if options.backbone == 'dit':
            network, sizes = DiT, build(DiTSizes, config.dit, 'dit')
        else:
            network, sizes = UNet, build(UNetSizes, config.unet, 'unet')
        h, w, c = space.shape
        if h % sizes.factor or w % sizes.factor:
            raise UserError(
                f'what is learned is {h}x{w} and cannot be divided by {sizes.factor}, as the sizes in '
                f'config.{options.backbone} want; change them, config.data.image_size or config.data.pad.'
            )
        if options.upscale > 1:
            _check_upscale(options.upscale, space, image_shape)
        return cls(
            model=network(sizes, c * (2 if options.learned_variance else 1), num_labels),
            space=space,
            config=options,
            sampling=build(Sampling, config.sampling, 'sampling'),
            evaluation=evaluation,
            optimizer=make_optimizer(build(OptimizerConfig, config.optimizer, 'optimizer'), config.steps),
            image_shape=image_shape,
            num_labels=num_labels,
        )

    @property
    def process(self) -> Process:
        """The forward process."""
        return self.config.process()

    def check_image_shape(self, shape: tuple[int, int, int]) -> None:
        """Raises `UserError` unless the pictures are as large as those the model was made for."""
        if shape != self.image_shape:
            raise UserError(f'the pictures are {shape} and the model was made for {self.image_shape}.')

    def init(self, key: jax.Array, batch: Batch) -> TrainState:
        """Random parameters."""
        params_key, run_key = jax.random.split(key)
        h, w, c = self.space.shape
        x = jnp.zeros((1, h, w, c * (2 if self.config.upscale > 1 else 1)))
        variables = dict(self.model.init(params_key, x, jnp.zeros(1), batch['label'][:1]))
        if not isinstance(self.space, Pixels):
            variables[LATENT] = {'mean': jnp.zeros(c), 'scale': jnp.ones(c)}
        return TrainState.create(run_key, variables, self.optimizer)

    def pretrained(self) -> Any:
        """What the autoencoder learned."""
        return self.space.state()

    def pretrained_shapes(self) -> Any:
        """Their shapes."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), self.space.state())

    def start_from_data(
        self, key: jax.Array, state: TrainState, batches: Iterable[Batch], engine: Engine
    ) -> TrainState:
        """Measures the mean and the standard deviation of each channel of the latents."""
        if isinstance(self.space, Pixels):
            return state
        frozen = engine.place(self.space.state())
        compiled = engine.per_example(lambda frozen, batch: self.space.encode(frozen, batch['image']))
        latents = np.concatenate([compiled(frozen, batch) for batch in islice(batches, _START_BATCHES)])
        latents = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
        scale = np.maximum(latents.std(0), 1e-6)
        measured = {'mean': jnp.float32(latents.mean(0)), 'scale': jnp.float32(scale)}
        return engine.place(state.replace(variables={**state.variables, LATENT: measured}))

    def train_step(
        self, state: TrainState, batch: Batch, axis_name: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update of the parameters."""
        x0 = jax.lax.stop_gradient(self._encode(state, batch['image']))
        n = len(x0)
        times_key, step_key = jax.random.split(state.step_key())
        keys = example_keys(step_key, n, axis_name)
        # Times are spread evenly over the batch (Kingma et al. 2021, appendix I.1).
        first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * n
        share = (first + jnp.arange(n)) / global_size(n, axis_name)
        t = self._time((jax.random.uniform(times_key) + share) % 1.0)
        labels = self._labels(batch['label'])
        if self.num_labels:
            hidden = jax.vmap(lambda key: jax.random.bernoulli(key, self.config.label_dropout))
            labels = jnp.where(hidden(fold_in(keys, 0)), self.num_labels, labels)
        condition = self._condition(batch['image'])

        def loss_fn(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            network = self._network({'params': params}, labels, condition, fold_in(keys, 1))
            losses = self._losses(network, x0, fold_in(keys, 2), t)
            metrics = {name: jnp.mean(value) for name, value in losses.items()}
            return metrics['loss'], metrics

        grads, metrics = jax.grad(loss_fn, has_aux=True)(state.params)
        grads, metrics = pmean((grads, metrics), axis_name)
        state, update = state.apply_gradients(grads, self.optimizer)
        return state.finish_step(self.optimizer), {**metrics, **update}

    def eval_step(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """The loss; of a model of pixels, the parts of the bound in nats [b], those over time [b n].

        The draws of a picture depend on its bytes alone.
        """
        images, n = batch['image'], self.evaluation.times
        x0, keys = self._encode(state, images), content_keys(images)
        labels, condition = self._labels(batch['label']), self._condition(images)
        network = self._network(state.eval_variables(), labels, condition, None)

        def losses(i: jax.Array) -> jax.Array:
            drawn = fold_in(keys, i)
            t = self._time((i + jax.vmap(jax.random.uniform)(fold_in(drawn, 0))) / n)
            return self._losses(network, x0, fold_in(drawn, 1), t)['loss']

        values = {'loss': jnp.mean(jax.lax.map(losses, jnp.arange(n)), axis=0)}
        if isinstance(self.space, Pixels):
            denoise, apart = self._denoiser(network), fold_in(keys, n)
            parts = bound(denoise, self.process, apart, x0, n)
            values |= {'prior': parts.prior, 'diffusion': parts.diffusion, 'decoder': parts.decoder}
            if self.evaluation.flow_steps:
                spread_out = likelihoods.dequantize(fold_in(keys, n + 1), x0)
                steps, probes = self.evaluation.flow_steps, self.evaluation.flow_probes
                nats = flow_log_likelihood(denoise, self.process, apart, spread_out, steps, probes)
                values['flow'] = nats + x0[0].size * math.log(likelihoods.LEVEL)
        return values

    def summarize(self, means: dict[str, np.ndarray]) -> dict[str, float]:
        """'loss', and bits a value: the bound, its parts, its diffusion term by quarters of the noise."""
        numbers, n = {'loss': means['loss']}, math.prod(self.image_shape)

        def bits(nats: np.ndarray) -> float:
            return likelihoods.bits_per_dimension(-nats, n)

        if 'diffusion' in means:
            terms = means['diffusion']
            numbers['bits_per_dimension'] = bits(means['prior'] + terms.sum() + means['decoder'])
            numbers['bits_prior'], numbers['bits_decoder'] = bits(means['prior']), bits(means['decoder'])
            numbers['bits_diffusion'] = bits(terms.sum())
            if len(terms) >= 4:
                for i, quarter in enumerate(np.array_split(terms, 4), 1):
                    numbers[f'bits_diffusion_{i}_of_4'] = bits(quarter.sum())
        if 'flow' in means:
            numbers['bits_flow'] = bits(-means['flow'])
        return {name: float(value) for name, value in numbers.items()}

    def predict(self, state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        """Pictures, a sample of the class of each, and the way to it from noise [b 8 h w c]."""
        images, labels = batch['image'], batch['label']
        condition = self._condition(images)
        visited = self._draw(state, content_keys(images), labels, self.sampling, condition)
        chosen = np.linspace(0, len(visited) - 1, _CHAIN).round().astype(int)
        chain = jax.vmap(lambda x: self._decode(state, x, labels))(visited[chosen])
        shown = {'images': images, 'chain': jnp.moveaxis(chain, 0, 1), 'samples': chain[-1]}
        if condition is not None:
            shown['small'] = self.space.decode(state.frozen, condition, labels)
        return shown

    def pictures(
        self, predictions: dict[str, np.ndarray], means: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Pictures over samples (with what they were made of in between), and the ways from noise."""
        names = ('images', 'small', 'samples')
        return {
            'samples': pictures.rows([predictions[name] for name in names if name in predictions]),
            'chain': pictures.rows(list(predictions['chain'])),
        }

    def sample(
        self, state: TrainState, keys: jax.Array, labels: jax.Array, sampling: Sampling | None = None
    ) -> jax.Array:
        """Pictures [n h w c], uint8, of the classes int32 [n] if the model is conditioned on them."""
        if self.config.upscale > 1:
            raise UserError('a super-resolution model draws nothing of its own; give it small pictures.')
        visited = self._draw(state, keys, labels, sampling or self.sampling)
        return self._decode(state, visited[-1], labels)

    def upscale(
        self,
        state: TrainState,
        keys: jax.Array,
        small: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Large pictures, uint8 [b h w c], of small ones, uint8 [b h/upscale w/upscale c]."""
        h, w, c = self.image_shape
        factor = self.config.upscale
        if factor == 1 or small.shape[1:] != (h // factor, w // factor, c):
            raise UserError(
                f'this model makes pictures of {self.image_shape} of ones reduced by {factor} '
                f'(config.model.upscale); these are {small.shape[1:]}.'
            )
        condition = enlarge(to_float(small), factor)
        visited = self._draw(state, keys, labels, sampling or self.sampling, condition)
        return self._decode(state, visited[-1], labels)

    def _encode(self, state: TrainState, images: jax.Array) -> jax.Array:
        """What is learned of pictures [b h w d], with mean 0 and scale 1 if it is latents."""
        x = self.space.encode(state.frozen, images)
        if LATENT not in state.variables:
            return x
        measured = state.variables[LATENT]
        return (x - measured['mean']) / measured['scale']

    def _decode(self, state: TrainState, x: jax.Array, labels: jax.Array) -> jax.Array:
        if LATENT in state.variables:
            measured = state.variables[LATENT]
            x = x * measured['scale'] + measured['mean']
        return self.space.decode(state.frozen, x, labels)

    def _labels(self, labels: jax.Array) -> jax.Array:
        return labels if self.num_labels else jnp.zeros_like(labels)

    def _condition(self, images: jax.Array) -> jax.Array | None:
        """What a super-resolution model is shown: the picture made small, and large again."""
        factor = self.config.upscale
        return None if factor == 1 else enlarge(to_float(reduce(images, factor)), factor)

    def _time(self, share: jax.Array) -> jax.Array:
        """Shares from 0 to below 1 as times that the network learns."""
        n = self.config.timesteps
        return (jnp.minimum(jnp.floor(share * n), n - 1) + 1) / n if n else share

    def _network(
        self, variables: Any, labels: jax.Array, condition: jax.Array | None, keys: jax.Array | None
    ) -> Any:
        """The network as a function of x_t and times."""
        first = 1 / self.config.timesteps if self.config.timesteps else 0.0

        def network(x: jax.Array, t: jax.Array) -> jax.Array:
            x = x if condition is None else jnp.concatenate([x, condition], axis=-1)
            # In discrete time the network does not know time 0.
            return self.model.apply(variables, x, jnp.maximum(t, first), labels, keys)

        return network

    def _denoiser(self, network: Any) -> Denoiser:
        """What a network's answers mean."""

        def denoise(x: jax.Array, t: jax.Array) -> Denoised:
            prediction, share = network(x, t), None
            if self.config.learned_variance:
                prediction, share = jnp.split(prediction, 2, axis=-1)
                share = jnp.clip((share + 1) / 2, 0, 1)
            x0 = ops.to_x0(self.config.prediction, self.process, prediction, x, t)
            return Denoised(x0=x0, variance_share=share)

        return denoise

    def _losses(self, network: Any, x0: jax.Array, keys: jax.Array, t: jax.Array) -> dict[str, jax.Array]:
        """'loss', and its part that teaches the variance if that is learned, of each example [b]."""
        c, process = self.config, self.process
        noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(keys)
        x = process.diffuse(x0, noise, t)
        answer = network(x, t)
        wanted = ops.target(c.prediction, process, x0, noise, t)
        error = jnp.square(answer[..., : x0.shape[-1]] - wanted)
        weight = ops.loss_weight(c.weighting, c.prediction, process, t, c.min_snr_gamma)
        loss = weight * jnp.mean(error, axis=(1, 2, 3))
        if not c.learned_variance:
            return {'loss': loss}
        denoised = self._denoiser(lambda x, t: answer)(x, t)
        denoised = denoised.replace(x0=jax.lax.stop_gradient(denoised.x0))
        inside = t > 1.5 / c.timesteps  # the first step is the decoder's, whose width is not learned
        divergence = step_divergence(denoised, process, x0, x, jnp.maximum(t, 2 / c.timesteps))
        variational = jnp.where(inside, c.timesteps * divergence / x0[0].size, 0)
        return {'loss': loss + c.variational_weight * variational, 'variational_loss': variational}

    def _sampling_denoiser(
        self, state: TrainState, labels: jax.Array, sampling: Sampling, condition: jax.Array | None
    ) -> Denoiser:
        """The denoiser with guidance and threshold."""
        variables = state.eval_variables()
        labels = self._labels(labels)
        denoise = self._denoiser(self._network(variables, labels, condition, None))
        if self.num_labels and sampling.guidance != 1:
            none = jnp.full_like(labels, self.num_labels)
            without = self._denoiser(self._network(variables, none, condition, None))
            denoise = sampling_ops.guided(denoise, without, sampling.guidance, sampling.rescale)
        if isinstance(self.space, Pixels) and sampling.threshold == 'static':
            denoise = sampling_ops.clipped(denoise)
        elif isinstance(self.space, Pixels) and sampling.threshold == 'dynamic':
            denoise = sampling_ops.thresholded(denoise, sampling.percentile)
        return denoise

    def _draw(
        self,
        state: TrainState,
        keys: jax.Array,
        labels: jax.Array,
        sampling: Sampling,
        condition: jax.Array | None = None,
        start: float | jax.Array = 1.0,
        x: jax.Array | None = None,
        known: Known | None = None,
    ) -> jax.Array:
        """All that a sampler visits [steps + 1, b ...], from noise or from x at the time `start`."""
        if x is None:
            x = jax.vmap(lambda key: jax.random.normal(key, self.space.shape))(fold_in(keys, 0))
        times = sampling_ops.time_grid(sampling.grid, self.process, sampling.steps, start)
        return sampling_ops.solve(
            SAMPLERS[sampling.sampler],
            self._sampling_denoiser(state, labels, sampling, condition),
            self.process,
            fold_in(keys, 1),
            x,
            times,
            sampling.options(),
            known,
            sampling.repeats,
        )


def reduce(images: jax.Array, factor: int) -> jax.Array:
    """Bytes [b h w c] averaged over squares of so many pixels, and rounded [b h/factor w/factor c]."""
    b, h, w, c = images.shape
    squares = images.reshape(b, h // factor, factor, w // factor, factor, c)
    return jnp.round(jnp.mean(squares.astype(jnp.float32), axis=(2, 4))).astype(jnp.uint8)


def enlarge(x: jax.Array, factor: int) -> jax.Array:
    """Pictures in [-1, 1] [b h w c] enlarged by cubic interpolation [b h*factor w*factor c]."""
    b, h, w, c = x.shape
    return jnp.clip(jax.image.resize(x, (b, h * factor, w * factor, c), 'cubic'), -1, 1)


def _check_upscale(factor: int, space: Space, image_shape: tuple[int, int, int]) -> None:
    if not isinstance(space, Pixels):
        raise UserError(
            'super-resolution (config.model.upscale) learns pixels; leave config.latent.workdir empty.'
        )
    if image_shape[0] % factor or image_shape[1] % factor:
        raise UserError(
            f'pictures of {image_shape[0]}x{image_shape[1]} pixels cannot be reduced by {factor} '
            '(config.model.upscale); change it or config.data.image_size.'
        )

"""Samples of a diffusion model: new images, and changes to images that are there."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.models.context import NO_CONDITIONS, Conditioner, Conditions, Context, ContextEncoder, enlarge
from vq_jax.models.dit import DiT
from vq_jax.models.unet import UNet
from vq_jax.ops.diffusion import CLOCKS, Process, spread, to_x0
from vq_jax.ops.grids import any_within, mean_within, to_patches
from vq_jax.ops.images import fill, level, to_float
from vq_jax.ops.keys import fold_in, normal
from vq_jax.ops.traced import differs
from vq_jax.sampling.diffusion import (
    SAMPLERS,
    Denoised,
    Denoiser,
    Known,
    check_steps,
    clipped,
    guided,
    solve,
    thresholded,
    time_grid,
)
from vq_jax.spec import Spec
from vq_jax.tasks.batched_sampling import check_guidance
from vq_jax.tasks.codec import Codec
from vq_jax.tasks.diffusion_config import DiffusionConfig, Sampling
from vq_jax.tasks.task import Task
from vq_jax.training.state import TrainState

LATENT = 'latent'  # the collection of the mean and the scale of latents


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionSampling(Task):
    """The part of a diffusion task that needs no training; `state.frozen` is the autoencoder's.

    What makes examples takes a random key for each [b], classes, int32 [b], which have no meaning for a model
    that is not conditioned on them, how to sample, by default as the config says, and the conditions [b ...]
    of a model with a conditioner. It returns examples as the spec says [b ...].

    Attributes:
        model: noisy examples, times and contexts to predictions.
        encoder: classes, conditions and small images to contexts; its parameters lie beside the model's.
        codec: images to what is learned, and back.
        config: see `DiffusionConfig`.
        sampling: see `Sampling`.
    """

    inference_needs_frozen: ClassVar[bool] = True

    model: UNet | DiT
    encoder: ContextEncoder
    codec: Codec
    config: DiffusionConfig
    sampling: Sampling
    spec: Spec
    num_labels: int

    @property
    def conditioner(self) -> Conditioner | None:
        """What encodes the conditions."""
        return self.encoder.conditioner

    @property
    def learns_pixels(self) -> bool:
        """Whether pixels are learned, and not the latents of an autoencoder."""
        return self.codec.run is None

    @property
    def process(self) -> Process:
        """The forward process."""
        return self.config.process()

    def unused(self, sampling: Sampling, method: str) -> dict[str, str]:
        """Keys that change nothing in a method of this model, beside the other choices, and why."""
        unused = sampling.unused(method)
        if not self.encoder.conditional:
            unused['rescale'] = 'this model is not conditioned on classes'
        if not self.learns_pixels:
            unused |= dict.fromkeys(('threshold', 'percentile'), 'latents have no range')
        if self.config.learned_variance:
            unused['variance'] = 'this model has learned it'
        return unused

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises `UserError` if this model cannot be sampled in this way."""
        check_guidance(sampling.guidance, self.encoder.conditional, self.encoder.most_dropped)
        check_steps(sampling.steps, self.process)

    def sample(
        self,
        state: TrainState,
        keys: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> jax.Array:
        """Examples [n ...] of the classes int32 [n] if the model is conditioned on them."""
        if self.config.upscale > 1:
            raise UserError('a super-resolution model samples nothing of its own; give it small images.')
        x, _ = self.visit(state, keys, self.context(state.eval_variables(), labels, conditions), sampling)
        return self.decoded(state, x, labels)

    def upscale(
        self,
        state: TrainState,
        keys: jax.Array,
        small: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> jax.Array:
        """Large images, uint8 [b h w c], of small ones, uint8 [b h/upscale w/upscale c]."""
        factor = self.config.upscale
        if factor == 1:
            raise UserError(
                'this model was not trained to make small images large; use one trained with '
                'config.model.upscale (configs/image/sr_imagenette.py).'
            )
        if small.shape[1:] != (*(n // factor for n in self.spec.grid), self.spec.channels):
            raise UserError(
                f'this model makes images of {self.spec.shape} of ones reduced by {factor} '
                f'(config.model.upscale); these are {small.shape[1:]}.'
            )
        context = self.encoder.apply(
            state.eval_variables(),
            labels,
            None,
            conditions,
            enlarge(to_float(small), factor),
            method='encode',
        )
        x, _ = self.visit(state, keys, context, sampling)
        return self.decoded(state, x, labels)

    def inpaint(
        self,
        state: TrainState,
        keys: jax.Array,
        images: jax.Array,
        mask: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> jax.Array:
        """Samples a part of examples anew; all else stays as it is, byte for byte.

        What examples hold where the mask, bool [b *grid], is True does not count, and is sampled anew; a
        latent that has a part in it is sampled as a whole. Samples fit best with the sampler 'ddpm', 4
        repeats and guidance 1 (see the config ddpm_mnist). Of samplers that add no noise, repeats change next
        to nothing.
        """
        self._needs_no_small_image('sample a part of an image anew')
        filled = self.encoded(state, fill(images, mask))
        given = self.given_grid(filled, mask) if self.config.given else None
        context = self.context(state.eval_variables(), labels, conditions, given=given)
        x, _ = self.visit(state, keys, context, sampling, known=Known(x0=filled, mask=self.parts_of(mask)))
        return jnp.where(mask[..., None], self.decoded(state, x, labels), images)

    def denoise(
        self,
        state: TrainState,
        keys: jax.Array,
        images: jax.Array,
        sigma: float | jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> jax.Array:
        """Takes normal noise out of examples, from the time at which there is as much of it.

        They are as the spec says [b ...], or float32 in [-1, 1] and beyond, where integers would cut noise
        off. Sigma is the standard deviation of the noise in the integers of the spec: of images, grey levels
        of 255. One step of 'ddim' gives the expected example, which has the least squared error and is
        smooth; more steps give a likely one. A model of latents raises `UserError`.
        """
        if not self.learns_pixels:
            raise UserError('a model of latents cannot take noise out of pixels; use one of pixels.')
        self._needs_no_small_image('take noise out of images')
        x = to_float(images) if images.dtype == self.spec.dtype else images
        noise = jnp.maximum(sigma * level(self.spec.dtype), 1e-6)
        t = self._known_time(self.process.time(-2 * jnp.log(noise)))
        alpha, _ = self.process.scales(t)
        x, _ = self.visit(
            state, keys, self.context(state.eval_variables(), labels, conditions), sampling, t, alpha * x
        )
        return self.decoded(state, x, labels)

    def image_to_image(
        self,
        state: TrainState,
        keys: jax.Array,
        images: jax.Array,
        strength: float | jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> jax.Array:
        """Adds noise to examples, and takes it out again (Meng et al. 2022, SDEdit, arXiv:2108.01073).

        The strength is the time up to which noise is added, from 0, which changes next to nothing (of
        latents, as the autoencoder rebuilds them), to 1, which leaves nothing of the example. Labels are the
        classes to come to.
        """
        t = self._known_time(jnp.asarray(strength, jnp.float32))
        x0 = self.encoded(state, images)
        x = self.process.diffuse(x0, normal(fold_in(keys, 0), x0.shape[1:]), t)
        context = self.context(state.eval_variables(), labels, conditions, images)
        x, _ = self.visit(state, keys, context, sampling, t, x)
        return self.decoded(state, x, labels)

    def interpolate(
        self,
        state: TrainState,
        a: jax.Array,
        b: jax.Array,
        n: int,
        labels: jax.Array,
        sampling: Sampling | None = None,
        conditions: Conditions = NO_CONDITIONS,
    ) -> jax.Array:
        """Examples [n ...] on the way from one to another, through the noise that DDIM finds for both.

        Song et al. 2021 (arXiv:2010.02502), section 5.3. The noise of the examples in between lies on the arc
        between the two. Both ends are included, as the model rebuilds them; labels [n] are of each on the
        way, and of the sampling the steps and the grid count.

        Raises:
            UserError: if the network predicts x0. Noise starts as a thousandth of an image, so that it would
                be a difference of two images that are equal but for what the network errs in.
        """
        if self.config.prediction == 'x0':
            raise UserError(
                'a model that predicts x0 cannot find the noise of an image, which this goes through; use '
                'one with another config.model.prediction.'
            )
        sampling = sampling or self.sampling
        sampling = dataclasses.replace(sampling, sampler='ddim', eta=0.0, guidance=1.0, threshold='none')
        ends = jnp.stack([a, b])
        times = time_grid(sampling.grid_name(), self.process, sampling.steps)
        keys = jax.random.split(jax.random.key(0), n)  # of no effect: no noise is added
        variables, first_and_last = state.eval_variables(), jnp.array([0, n - 1])
        given = jax.tree.map(lambda x: x[first_and_last], (labels, dict(conditions)))
        of_ends = self.context(variables, *given, ends)
        noise, _ = solve(
            SAMPLERS['ddim'],
            self.sampling_denoiser(state, of_ends, sampling),
            self.process,
            keys[:2],
            self.encoded(state, ends),
            times[::-1],
        )
        x = arc(noise[0], noise[1], jnp.linspace(0, 1, n))
        context, grid = self.context(variables, labels, conditions), of_ends.grid
        if self.config.upscale > 1:
            share = spread(jnp.linspace(0, 1, n), x)
            context = context.replace(grid=(1 - share) * grid[0] + share * grid[1])
        x, _ = self.visit(state, keys, context, sampling, x=x)
        return self.decoded(state, x, labels)

    def encoded(self, state: TrainState, images: jax.Array) -> jax.Array:
        """What is learned of examples [b *grid d], with mean 0 and scale 1 if it is latents."""
        x = self.codec.latents(state.frozen, images)
        if LATENT not in state.variables:
            return x
        measured = state.variables[LATENT]
        return (x - measured['mean']) / measured['scale']

    def decoded(self, state: TrainState, x: jax.Array, labels: jax.Array) -> jax.Array:
        """Examples [b ...] of what is learned of them."""
        if LATENT in state.variables:
            measured = state.variables[LATENT]
            x = x * measured['scale'] + measured['mean']
        return self.codec.decode_latents(state.frozen, x, labels)

    def context(
        self,
        variables: Any,
        labels: jax.Array,
        conditions: Conditions = NO_CONDITIONS,
        images: jax.Array | None = None,
        given: jax.Array | None = None,
    ) -> Context:
        """The context of examples.

        Args:
            variables: of the encoder, beside those of the model.
            labels: int32 [b]; not read for a model that is not conditioned on them.
            conditions: [b ...] by name, of a model with a conditioner.
            images: uint8 [b *grid c], which super-resolution is given at low resolution; None without it.
            given: of examples, as `given_grid` returns it; None is nothing.
        """
        factor = self.config.upscale
        if factor > 1:
            given = None if images is None else enlarge(to_float(reduce(images, factor)), factor)
        elif given is None:
            given = self.nothing_given(len(labels))
        return self.encoder.apply(variables, labels, None, conditions, given, method='encode')

    def parts_of(self, hole: jax.Array) -> jax.Array:
        """Where what is learned has a part in a hole, bool [b *grid]: bool [b *grid' 1]."""
        return any_within(hole, self.codec.latent_shape[:-1], self.codec.first_apart)[..., None]

    def given_grid(self, filled: jax.Array, hole: jax.Array) -> jax.Array:
        """What the network reads of what is given around a hole, bool [b *grid].

        That is what is encoded of filled examples [b *grid' d], with zeros where nothing is given, and the
        share of each position that is [b *grid' d+1].
        """
        shares = mean_within(~hole, filled.shape[1:-1], self.codec.first_apart)[..., None]
        return jnp.concatenate([jnp.where(shares > 0, filled, 0.0), shares], axis=-1)

    def nothing_given(self, b: int) -> jax.Array | None:
        """The same of b examples of which nothing is given; None if the network reads nothing of the kind."""
        *grid, d = self.codec.latent_shape
        return jnp.zeros((b, *grid, d + 1)) if self.config.given else None

    def features(self, x: jax.Array) -> jax.Array:
        """What the network sees of noisy examples [b *grid c]: further channels beside them."""
        angles = [math.pi * 2**n * x for n in self.config.fourier]
        return jnp.concatenate([x, *(f(angle) for angle in angles for f in (jnp.sin, jnp.cos))], axis=-1)

    def network(self, variables: Any, context: Context, keys: jax.Array | None = None) -> Any:
        """The network as a function of x_t and times; with a key for each example [b], it drops out."""
        timesteps = self.config.timesteps
        first, clock = 1 / timesteps if timesteps else 0.0, CLOCKS[self.config.clock]

        def network(x: jax.Array, t: jax.Array) -> jax.Array:
            # In discrete time the network does not know time 0.
            told = clock(jnp.maximum(t, first), timesteps)
            return self.model.apply(variables, self.features(x), told, context, keys)

        return network

    def denoiser(self, network: Any) -> Denoiser:
        """What a network's answers mean."""

        def denoise(x: jax.Array, t: jax.Array) -> Denoised:
            prediction, share = network(x, t), None
            if self.config.learned_variance:
                prediction, share = jnp.split(prediction, 2, axis=-1)
                share = (share + 1) / 2  # not held within 0 and 1, where it could not learn its way back
            x0 = to_x0(self.config.prediction, self.process, prediction, x, t)
            return Denoised(x0=x0, variance_share=share)

        return denoise

    def sampling_denoiser(self, state: TrainState, context: Context, sampling: Sampling) -> Denoiser:
        """The denoiser with guidance and threshold."""
        is_guided = self.encoder.most_dropped and differs(sampling.guidance, 1)
        if is_guided:
            context = self.encoder.both(context)
        denoise = self.denoiser(self.network(state.eval_variables(), context))
        if is_guided:
            denoise = guided(denoise, sampling.guidance, sampling.rescale)
        if self.learns_pixels and sampling.threshold == 'static':
            denoise = clipped(denoise)
        elif self.learns_pixels and sampling.threshold == 'dynamic':
            denoise = thresholded(denoise, sampling.percentile)
        return denoise

    def visit(
        self,
        state: TrainState,
        keys: jax.Array,
        context: Context,
        sampling: Sampling | None,
        start: float | jax.Array = 1.0,
        x: jax.Array | None = None,
        known: Known | None = None,
        visited: Sequence[int] = (),
    ) -> tuple[jax.Array, jax.Array]:
        """Where a sampler leads, from noise or from x at the time `start`; see `solve` for `visited`."""
        sampling = sampling or self.sampling
        if x is None:
            x = normal(fold_in(keys, 0), self.codec.latent_shape)
        times = time_grid(sampling.grid_name(), self.process, sampling.steps, start)
        return solve(
            SAMPLERS[sampling.sampler],
            self.sampling_denoiser(state, context, sampling),
            self.process,
            fold_in(keys, 1),
            x,
            times,
            sampling,
            known,
            sampling.repeats,
            visited,
        )

    def _needs_no_small_image(self, ability: str) -> None:
        """Raises `UserError` from a super-resolution model, whose context is the whole image."""
        if self.config.upscale > 1:
            raise UserError(
                f'a super-resolution model cannot {ability}; use one without config.model.upscale.'
            )

    def _known_time(self, t: jax.Array) -> jax.Array:
        """The nearest time that the network learned."""
        n = self.process.timesteps
        return jnp.round(t * n) / n if n else t


def reduce(images: jax.Array, factor: int) -> jax.Array:
    """Bytes [b *grid c] averaged over so many positions on each axis, and rounded [b *grid/factor c]."""
    patches = to_patches(images.astype(jnp.float32), factor)
    means = jnp.mean(patches.reshape(*patches.shape[:-1], -1, images.shape[-1]), axis=-2)
    return jnp.round(means).astype(jnp.uint8)


def arc(a: jax.Array, b: jax.Array, shares: jax.Array) -> jax.Array:
    """Points on the arc from one array [...] to another, at shares [n] of its angle [n ...]."""
    cosine = jnp.sum(a * b) / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), 1e-6)
    angle = jnp.maximum(jnp.arccos(jnp.clip(cosine, -1, 1)), 1e-3)
    shares = spread(shares, a[None])
    return (jnp.sin((1 - shares) * angle) * a + jnp.sin(shares * angle) * b) / jnp.sin(angle)

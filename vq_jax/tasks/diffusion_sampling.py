"""What a diffusion model can draw: new images, and changes to images that are there."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.models.dit import DiT
from vq_jax.models.unet import UNet
from vq_jax.ops.diffusion import Process, spread, to_x0
from vq_jax.ops.images import fill, to_float
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
from vq_jax.tasks.diffusion_config import DiffusionConfig, Sampling
from vq_jax.tasks.latents import Pixels, Space
from vq_jax.tasks.task import Task
from vq_jax.training.state import TrainState

LATENT = 'latent'  # the collection of the mean and the scale of latents


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionSampling(Task):
    """The part of a diffusion task that needs no training; `state.frozen` is the autoencoder's.

    Attributes:
        model: noisy examples and times to predictions.
        space: images to what is learned, and back.
        config: see `DiffusionConfig`.
        sampling: see `Sampling`.
        spec: of the examples.
        num_labels: classes that the model is conditioned on; 0 for none.
    """

    inference_needs_frozen: ClassVar[bool] = True

    model: UNet | DiT
    space: Space
    config: DiffusionConfig
    sampling: Sampling
    spec: Spec
    num_labels: int

    @property
    def process(self) -> Process:
        """The forward process."""
        return self.config.process()

    def unused(self, sampling: Sampling, method: str) -> dict[str, str]:
        """Keys that change nothing in a method of this model, beside the other choices, and why."""
        unused = sampling.unused(method)
        if not self.num_labels:
            unused['rescale'] = 'this model is not conditioned on classes'
        if not isinstance(self.space, Pixels):
            unused |= dict.fromkeys(('threshold', 'percentile'), 'latents have no range')
        if self.config.learned_variance:
            unused['variance'] = 'this model has learned it'
        return unused

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises `UserError` if this model cannot be drawn from in this way."""
        check_guidance(sampling.guidance, self.num_labels, self.config.label_dropout)
        check_steps(sampling.steps, self.process)

    def sample(
        self, state: TrainState, keys: jax.Array, labels: jax.Array, sampling: Sampling | None = None
    ) -> jax.Array:
        """Images [n h w c], uint8, of the classes int32 [n] if the model is conditioned on them."""
        if self.config.upscale > 1:
            raise UserError('a super-resolution model draws nothing of its own; give it small images.')
        x, _ = self.visit(state, keys, labels, sampling or self.sampling)
        return self.decoded(state, x, labels)

    def upscale(
        self,
        state: TrainState,
        keys: jax.Array,
        small: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Large images, uint8 [b h w c], of small ones, uint8 [b h/upscale w/upscale c]."""
        h, w, c = self.spec.shape
        factor = self.config.upscale
        if factor == 1:
            raise UserError(
                'this model was not trained to make small images large; use one trained with '
                'config.model.upscale (configs/image/sr_imagenette.py).'
            )
        if small.shape[1:] != (h // factor, w // factor, c):
            raise UserError(
                f'this model makes images of {self.spec.shape} of ones reduced by {factor} '
                f'(config.model.upscale); these are {small.shape[1:]}.'
            )
        condition = enlarge(to_float(small), factor)
        x, _ = self.visit(state, keys, labels, sampling or self.sampling, condition)
        return self.decoded(state, x, labels)

    def inpaint(
        self,
        state: TrainState,
        keys: jax.Array,
        images: jax.Array,
        mask: jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Draws a part of images anew; all else stays as it is, byte for byte.

        What is drawn fits best with the sampler 'ddpm', 4 repeats and guidance 1 (see the config
        ddpm_mnist). Of samplers that add no noise, repeats change next to nothing.

        Args:
            state: of the model.
            keys: a random key for each image [b].
            images: uint8 [b h w c]; what they hold where they are to be drawn anew does not count.
            mask: True where an image is to be drawn anew, bool [b h w]; a latent that has a part in it
                is drawn as a whole.
            labels: int32 [b]; without meaning for a model that is not conditioned on them.
            sampling: how; by default as the config says.

        Returns:
            uint8 [b h w c].
        """
        self._needs_no_small_image('draw a part of an image anew')
        sampling = sampling or self.sampling
        (h, w, _), (b, height, width) = self.space.shape, mask.shape
        parts = mask.reshape(b, h, height // h, w, width // w).any((2, 4))[..., None]
        known = Known(x0=self.encoded(state, fill(images, mask)), mask=parts)
        x, _ = self.visit(state, keys, labels, sampling, known=known)
        return jnp.where(mask[..., None], self.decoded(state, x, labels), images)

    def denoise(
        self,
        state: TrainState,
        keys: jax.Array,
        images: jax.Array,
        sigma: float | jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Takes normal noise out of images, from the time at which there is as much of it.

        Args:
            state: of a model of pixels.
            keys: a random key for each image [b].
            images: noisy, uint8 [b h w c], or float32 in [-1, 1] and beyond, where bytes would cut noise off.
            sigma: the standard deviation of the noise in grey levels, of 255.
            labels: int32 [b]; without meaning for a model that is not conditioned on them.
            sampling: how; by default as the config says. One step of 'ddim' gives the expected image,
                which has the least squared error and is smooth; more steps give a likely one.

        Returns:
            uint8 [b h w c].
        """
        if not isinstance(self.space, Pixels):
            raise UserError('a model of latents cannot take noise out of pixels; use one of pixels.')
        self._needs_no_small_image('take noise out of images')
        x = to_float(images) if images.dtype == jnp.uint8 else images
        t = self._known_time(self.process.time(-2 * jnp.log(jnp.maximum(sigma / 127.5, 1e-6))))
        alpha, _ = self.process.scales(t)
        x, _ = self.visit(state, keys, labels, sampling or self.sampling, None, t, alpha * x)
        return self.decoded(state, x, labels)

    def image_to_image(
        self,
        state: TrainState,
        keys: jax.Array,
        images: jax.Array,
        strength: float | jax.Array,
        labels: jax.Array,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Adds noise to images, and takes it out again (Meng et al. 2022, SDEdit, arXiv:2108.01073).

        Args:
            state: of the model.
            keys: a random key for each image [b].
            images: uint8 [b h w c].
            strength: the time up to which noise is added, from 0, which changes next to nothing (of
                latents, as the autoencoder rebuilds them), to 1, which leaves nothing of the image.
            labels: the classes to come to, int32 [b]; without meaning for a model that is not conditioned
                on them.
            sampling: how; by default as the config says.

        Returns:
            uint8 [b h w c].
        """
        t = self._known_time(jnp.asarray(strength, jnp.float32))
        x0 = self.encoded(state, images)
        x = self.process.diffuse(x0, normal(fold_in(keys, 0), x0.shape[1:]), t)
        condition = self.condition(images)
        x, _ = self.visit(state, keys, labels, sampling or self.sampling, condition, t, x)
        return self.decoded(state, x, labels)

    def interpolate(
        self,
        state: TrainState,
        a: jax.Array,
        b: jax.Array,
        n: int,
        labels: jax.Array,
        sampling: Sampling | None = None,
    ) -> jax.Array:
        """Images on the way from one to another, through the noise that DDIM finds for both.

        Song et al. 2021 (arXiv:2010.02502), section 5.3. The noise of the images in between lies on the
        arc between the two.

        Args:
            state: of the model.
            a: where to begin, uint8 [h w c].
            b: where to end, uint8 [h w c].
            n: how many images, both ends included (as the model rebuilds them).
            labels: of each image on the way, int32 [n]; without meaning for a model that is not
                conditioned on them.
            sampling: its steps and grid, by default as the config says.

        Returns:
            uint8 [n h w c].

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
        keys = jax.random.split(jax.random.key(0), n)  # of no effect: nothing is drawn
        of_ends = jnp.stack([labels[0], labels[-1]])
        noise, _ = solve(
            SAMPLERS['ddim'],
            self.sampling_denoiser(state, of_ends, sampling, self.condition(ends)),
            self.process,
            keys[:2],
            self.encoded(state, ends),
            times[::-1],
        )
        x = arc(noise[0], noise[1], jnp.linspace(0, 1, n))
        condition = self.condition(ends)
        if condition is not None:
            share = spread(jnp.linspace(0, 1, n), x)
            condition = (1 - share) * condition[0] + share * condition[1]
        x, _ = self.visit(state, keys, labels, sampling, condition, x=x)
        return self.decoded(state, x, labels)

    def encoded(self, state: TrainState, images: jax.Array) -> jax.Array:
        """What is learned of images [b h w d], with mean 0 and scale 1 if it is latents."""
        x = self.space.encode(state.frozen, images)
        if LATENT not in state.variables:
            return x
        measured = state.variables[LATENT]
        return (x - measured['mean']) / measured['scale']

    def decoded(self, state: TrainState, x: jax.Array, labels: jax.Array) -> jax.Array:
        """Images, uint8 [b h w c], of what is learned of them."""
        if LATENT in state.variables:
            measured = state.variables[LATENT]
            x = x * measured['scale'] + measured['mean']
        return self.space.decode(state.frozen, x, labels)

    def asked(self, labels: jax.Array) -> jax.Array:
        """The classes that the network is told of; zeros if it is told of none."""
        return labels if self.num_labels else jnp.zeros_like(labels)

    def condition(self, images: jax.Array) -> jax.Array | None:
        """What a super-resolution model is shown: the image made small, and large again."""
        factor = self.config.upscale
        return None if factor == 1 else enlarge(to_float(reduce(images, factor)), factor)

    def shown(self, x: jax.Array, condition: jax.Array | None) -> jax.Array:
        """What the network is shown of noisy examples [b h w c]: further channels beside them."""
        angles = [math.pi * 2**n * x for n in self.config.fourier]
        features = [f(angle) for angle in angles for f in (jnp.sin, jnp.cos)]
        given = [] if condition is None else [condition]
        return jnp.concatenate([x, *features, *given], axis=-1)

    def network(
        self, variables: Any, labels: jax.Array, condition: jax.Array | None, keys: jax.Array | None
    ) -> Any:
        """The network as a function of x_t and times."""
        first = 1 / self.config.timesteps if self.config.timesteps else 0.0

        def network(x: jax.Array, t: jax.Array) -> jax.Array:
            # In discrete time the network does not know time 0.
            return self.model.apply(variables, self.shown(x, condition), jnp.maximum(t, first), labels, keys)

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

    def sampling_denoiser(
        self, state: TrainState, labels: jax.Array, sampling: Sampling, condition: jax.Array | None
    ) -> Denoiser:
        """The denoiser with guidance and threshold."""
        variables = state.eval_variables()
        labels = self.asked(labels)
        denoise = self.denoiser(self.network(variables, labels, condition, None))
        if self.num_labels and differs(sampling.guidance, 1):
            none = jnp.full_like(labels, self.num_labels)
            without = self.denoiser(self.network(variables, none, condition, None))
            denoise = guided(denoise, without, sampling.guidance, sampling.rescale)
        if isinstance(self.space, Pixels) and sampling.threshold == 'static':
            denoise = clipped(denoise)
        elif isinstance(self.space, Pixels) and sampling.threshold == 'dynamic':
            denoise = thresholded(denoise, sampling.percentile)
        return denoise

    def visit(
        self,
        state: TrainState,
        keys: jax.Array,
        labels: jax.Array,
        sampling: Sampling,
        condition: jax.Array | None = None,
        start: float | jax.Array = 1.0,
        x: jax.Array | None = None,
        known: Known | None = None,
        visited: Sequence[int] = (),
    ) -> tuple[jax.Array, jax.Array]:
        """Where a sampler leads, from noise or from x at the time `start`; see `solve` for `visited`."""
        if x is None:
            x = normal(fold_in(keys, 0), self.space.shape)
        times = time_grid(sampling.grid_name(), self.process, sampling.steps, start)
        return solve(
            SAMPLERS[sampling.sampler],
            self.sampling_denoiser(state, labels, sampling, condition),
            self.process,
            fold_in(keys, 1),
            x,
            times,
            sampling.options(),
            known,
            sampling.repeats,
            visited,
        )

    def _needs_no_small_image(self, ability: str) -> None:
        """Raises `UserError` from a super-resolution model, which must be shown the whole image."""
        if self.config.upscale > 1:
            raise UserError(
                f'a super-resolution model cannot {ability}; use one without config.model.upscale.'
            )

    def _known_time(self, t: jax.Array) -> jax.Array:
        """The nearest time that the network learned."""
        n = self.process.timesteps
        return jnp.round(t * n) / n if n else t


def reduce(images: jax.Array, factor: int) -> jax.Array:
    """Bytes [b h w c] averaged over squares of so many pixels, and rounded [b h/factor w/factor c]."""
    b, h, w, c = images.shape
    squares = images.reshape(b, h // factor, factor, w // factor, factor, c)
    return jnp.round(jnp.mean(squares.astype(jnp.float32), axis=(2, 4))).astype(jnp.uint8)


def enlarge(x: jax.Array, factor: int) -> jax.Array:
    """Images in [-1, 1] [b h w c] enlarged by cubic interpolation [b h*factor w*factor c]."""
    b, h, w, c = x.shape
    return jnp.clip(jax.image.resize(x, (b, h * factor, w * factor, c), 'cubic'), -1, 1)


def arc(a: jax.Array, b: jax.Array, shares: jax.Array) -> jax.Array:
    """Points on the arc from one array [...] to another, at shares [n] of its angle [n ...]."""
    cosine = jnp.sum(a * b) / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), 1e-6)
    angle = jnp.maximum(jnp.arccos(jnp.clip(cosine, -1, 1)), 1e-3)
    shares = spread(shares, a[None])
    return (jnp.sin((1 - shares) * angle) * a + jnp.sin(shares * angle) * b) / jnp.sin(angle)

"""What a diffusion model learns: pixels, or the latents of an autoencoder."""

import dataclasses
from typing import Any, ClassVar, Protocol

import jax

from vq_jax.errors import UserError
from vq_jax.ops.images import to_float, to_uint8
from vq_jax.spec import Spec
from vq_jax.tasks.autoencoder import AutoencoderTask
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.restore import restore_part
from vq_jax.training.state import abstract_examples


@dataclasses.dataclass(frozen=True)
class LatentConfig:
    """What is learned.

    Attributes:
        workdir: a run of the task vqvae, vqgan or vae whose latents are a grid; empty learns pixels.
        step: the checkpoint of that run; None is its newest.
    """

    workdir: str = ''
    step: int | None = None

    def __post_init__(self) -> None:
        if self.step is not None and not self.workdir:
            raise UserError('step is of the run in workdir; give that too.')


class Space(Protocol):
    """Images to what is learned, and back.

    Attributes:
        shape: of what is learned of one image [h w d].
        num_labels: classes that `decode` is conditioned on; 0 for none.
        class_names: of these classes; None if they are not known.
        run: the trained run that it is, as far as inference needs it; None if nothing is learned.
    """

    shape: tuple[int, int, int]
    num_labels: int
    class_names: ClassNames
    run: Any

    def state(self) -> Any:
        """What `encode` and `decode` are given as their first argument."""

    def encode(self, state: Any, images: jax.Array) -> jax.Array:
        """Images, uint8 [b H W c], to float32 [b h w d]."""

    def decode(self, state: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        """Float32 [b h w d], and classes int32 [b], to images, uint8 [b H W c]."""


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The images themselves, in [-1, 1].

    Attributes:
        shape: [h w c].
    """

    shape: tuple[int, int, int]
    num_labels: int = 0
    class_names: ClassVar[None] = None
    run: ClassVar[None] = None

    def state(self) -> None:
        """None: nothing is learned."""

    def encode(self, state: Any, images: jax.Array) -> jax.Array:
        """Bytes as numbers in [-1, 1]."""
        return to_float(images)

    def decode(self, state: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        """And back, rounded and clipped."""
        return to_uint8(x)


class Latents:
    """The latents of a trained run; its state is on the host.

    Of a VAE or KL autoencoder they are the means. Of a VQ-VAE or VQGAN they are the vectors that are
    compared with the codes, and `decode` begins with the nearest codes: the quantizer belongs to the
    decoder (Rombach et al. 2022, arXiv:2112.10752, section 3.1).
    """

    def __init__(self, config: LatentConfig, spec: Spec) -> None:
        """Reads the run; raises `UserError` if it has no grid of latents, or takes no such images."""
        restored = restore_part('latent.workdir', config.workdir, config.step)
        self._task = restored.task
        if not isinstance(self._task, AutoencoderTask):
            raise UserError(
                f'{config.workdir} is a run of the task {restored.config.task}, which has no latents; set '
                'config.latent.workdir to one of vae, vqvae or vqgan.'
            )
        restored.check_spec(spec)
        if len(self._task.vocabularies) > 1:
            raise UserError(
                f'{config.workdir} has several scales of codes, which cannot be learned as one image; set '
                'config.latent.workdir to a run with one.'
            )
        self.run = restored
        self._state = restored.state
        self.shape = jax.eval_shape(self.encode, self._state, abstract_examples(1, spec)).shape[1:]
        if len(self.shape) != 3:
            raise UserError(
                f'the latent of {config.workdir} is a vector, which cannot be learned as an image; use a '
                'run whose latents are a grid.'
            )
        self.num_labels = self._task.num_labels
        self.class_names = restored.class_names

    def state(self) -> Any:
        """What the run learned."""
        return self._state

    def encode(self, state: Any, images: jax.Array) -> jax.Array:
        """See `Space.encode`."""
        if not self._task.vocabularies:
            return self._task.encode(state, images)[0]
        return self._task.project(state, images)

    def decode(self, state: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        """See `Space.decode`."""
        if self._task.vocabularies:
            return self._task.decode(state, self._task.nearest(state, x), labels)
        return self._task.decode(state, (x,), labels)


def make_space(config: LatentConfig, spec: Spec) -> Space:
    """What is learned of images [h w c].

    Raises:
        UserError: if the run cannot be read or its images are others.
    """
    return Latents(config, spec) if config.workdir else Pixels(spec.shape)

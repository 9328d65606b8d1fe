"""The perceptual loss that a config names, and the weights that it needs."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.models.lpips import LEAST_SIZE, LPIPS, params_from_published
from vq_jax.ops.frames import each_frame
from vq_jax.ops.similarity import WINDOW, ms_ssim
from vq_jax.spec import Spec
from vq_jax.training.manifest import fingerprint
from vq_jax.weights import LPIPS_FILES, download, read_weights

_OTHERWISE = (
    'name your own files in config.perceptual.weights, or choose config.perceptual.kind=ms_ssim or random_vgg'
)


@dataclasses.dataclass(frozen=True)
class Perceptual:
    """How different two images look; of videos, the mean over their frames.

    Attributes:
        kind: 'lpips' (see `vq_jax.models.lpips`) needs published weights; 'random_vgg' is the same with
            random weights; 'ms_ssim' is one minus the similarity over several scales; 'none' is 0.
        weights: files of VGG-16 and of the heads of LPIPS, such as `.pth` or `.safetensors`. Empty looks in
            `~/.cache/vq_jax/weights`, and downloads the published ones if they are not there.
    """

    kind: Literal['lpips', 'random_vgg', 'ms_ssim', 'none'] = 'lpips'
    weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.weights and self.kind != 'lpips':
            raise UserError(
                f'weights is given, but kind is {self.kind}, which needs none; set kind to lpips, or leave '
                'weights out.'
            )

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` if examples are too small, or neither images nor videos."""
        if self.kind != 'none' and spec.kind not in ('image', 'video'):
            raise UserError(
                f'config.perceptual.kind={self.kind} compares images or frames, and these are {spec.kind}; '
                'set it to none.'
            )
        least = {'lpips': LEAST_SIZE, 'random_vgg': LEAST_SIZE, 'ms_ssim': WINDOW}.get(self.kind, 1)
        if min(spec.grid[-2:]) < least:
            raise UserError(
                f'config.perceptual.kind={self.kind} needs {spec.plural} of {least} pixels or more, not '
                f'{spec.size_in_words}; set it to none or config.data.image_size to a greater one.'
            )

    def pretrained(self) -> Any:
        """The parameters of the network, or None.

        Raises:
            UserError: if the published weights can be found nowhere; nothing else is taken instead.
        """
        if self.kind == 'lpips':
            return read_lpips(self.weights, _OTHERWISE)[0]
        return jax.device_get(jax.jit(_random_network)()) if self.kind == 'random_vgg' else None

    def shapes(self) -> Any:
        """The shapes and types of what `pretrained` returns."""
        return jax.eval_shape(_random_network) if self.kind in ('lpips', 'random_vgg') else None

    def distance(self, params: Any, x: jax.Array, y: jax.Array, dtype: str) -> jax.Array:
        """The distance of images [b h w c] or videos [b t h w c] in [-1, 1], float32 [b].

        It is cheaper for y where only x has a gradient.

        The parameters are what `pretrained` returned, of a kind that is not 'none', and `dtype` is what the
        network computes in.
        """
        if x.ndim == 5:
            of_frames = functools.partial(self.distance, params, dtype=dtype)
            return jnp.mean(each_frame(of_frames, x, y), 1)
        if self.kind == 'ms_ssim':
            return 1 - ms_ssim(x, y)
        return LPIPS(dtype).apply({'params': params}, x, y)


def read_lpips(files: Sequence[str], otherwise: str) -> tuple[Any, dict[str, str]]:
    """The parameters of `LPIPS`, and the SHA-256 of each file that they come from, by its path.

    Args:
        files: of VGG-16 and of the heads of LPIPS; if none, the published ones are found or downloaded.
        otherwise: what a user can do if they cannot be had, as an imperative clause.

    Raises:
        UserError: if they cannot be had, or are of other networks.
    """
    weights = read_weights(files or download(LPIPS_FILES, otherwise))
    return params_from_published(weights.arrays), weights.checksums


def lpips_for(spec: Spec, files: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The parameters of `LPIPS` to evaluate examples with, and what a record says of them in JSON values.

    Files are as for `read_lpips`. Examples that are too small, or neither images nor videos, raise
    `UserError`.
    """
    if spec.kind not in ('image', 'video') or min(spec.grid[-2:]) < LEAST_SIZE:
        raise UserError(
            f'LPIPS needs images or frames of {LEAST_SIZE} pixels or more, not {spec.plural} of '
            f'{spec.size_in_words}; leave lpips out.'
        )
    params, checksums = read_lpips(files, 'name your own files by --lpips=VGG_FILE,HEADS_FILE')
    return params, {'checksum': fingerprint(params), 'weights': checksums}


def _random_network() -> Any:
    """The same random parameters whenever it is called."""
    images = jnp.zeros((1, 16, 16, 3))
    return LPIPS().init(jax.random.key(0), images, images)['params']

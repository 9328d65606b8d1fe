"""Discriminators: one logit for an example (DCGAN), or one for each of its patches (PatchGAN).

Both return a `DiscriminatorOutput`, share their convolutions, and can be conditioned on a class by
projection. Those of sound are in `sound_discriminators.py`.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least
from vq_jax.models.convolution import Conv, check_strides, strided_sizes
from vq_jax.models.normalisation import BATCH_STATS, batch_norm
from vq_jax.ops.grids import over_grid

_INIT = nn.initializers.normal(0.02)  # Radford et al. 2016, section 4


@chex.dataclass(frozen=True)
class DiscriminatorOutput:
    """What a discriminator returns.

    Attributes:
        logits: greater where an example seems real: float32, [b] or [b *grid']; of several discriminators a
            tuple, with a grid for each.
        classes: logits of the classes that a linear probe reads from the features, without a gradient to them
            [b k]; None without labels.
        features: what layers before the last one see of an example [b *grid' c], which feature matching
            compares.
    """

    logits: jax.Array | tuple[jax.Array, ...]
    classes: jax.Array | None
    features: tuple[jax.Array, ...] = ()


class Discriminator(nn.Module):
    """The discriminator of DCGAN: Radford et al. 2016 (arXiv:1511.06434), section 3.

    Convolutions of size 4 and stride 2 until each axis of the grid has 4 positions, then a linear layer.
    Along an axis that is shorter than others, the last of them have size 3 and stride 1.

    Attributes:
        channels: of the first convolution; each further one doubles them.
        norm: batch normalisation after all convolutions but the first, or none.
        spectral_norm: divide each weight by its largest singular value (Miyato et al. 2018,
            arXiv:1802.05957).
        num_classes: classes that the probe tells apart; 0 without labels.
        conditional: tell whether an example fits its class, by projection (Miyato and Koyama 2018,
            arXiv:1802.05637, equation 3).
        dtype: what the convolutions compute in.
    """

    channels: int = 64
    norm: Literal['batch', 'none'] = 'batch'
    spectral_norm: bool = False
    num_classes: int = 0
    conditional: bool = False
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'channels')
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: jax.Array, labels: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> DiscriminatorOutput:
        """Scores examples [b *grid c], with axes of 4 * 2^n positions, and labels int32 [b]."""
        layer, norm = _layers(self, train, axis_name)
        features = []
        for stage, strides in enumerate(halving_strides(x.shape[1:-1])):
            use_bias = self.norm == 'none' or stage == 0
            conv = Conv(
                self.channels * 2**stage,
                strided_sizes(strides),
                strides,
                use_bias=use_bias,
                dtype=self.dtype,
                kernel_init=_INIT,
            )
            x = layer(conv)(x)
            x = nn.leaky_relu(x if stage == 0 else norm(x), 0.2)
            features.append(x)
        x = x.astype(jnp.float32)
        logits = layer(nn.Dense(1, kernel_init=_INIT))(x.reshape(x.shape[0], -1))[:, 0]
        if self.conditional:
            vectors = layer(nn.Embed(self.num_classes, x.shape[-1]))(labels)
            logits += jnp.sum(vectors * jnp.sum(x, tuple(range(1, x.ndim - 1))), -1)
        classes = None
        if self.num_classes:
            flat = jax.lax.stop_gradient(x.reshape(x.shape[0], -1))
            classes = nn.Dense(self.num_classes, name='probe')(flat)
        return DiscriminatorOutput(logits=logits, classes=classes, features=tuple(features))


class PatchDiscriminator(nn.Module):
    """PatchGAN: Isola et al. 2017 (arXiv:1611.07004), appendix 6.1.2, as VQGAN uses it.

    Attributes:
        channels: of the first convolution; each further one doubles them, up to eight times.
        stages: strided convolutions; with 3 of stride 2, each logit sees 70 positions along each axis.
        strides: of each of them, one for all axes or one for each; kernels are twice as large (see
            `strided_sizes`).
        norm: batch normalisation after all convolutions but the first and the last, or none.
        spectral_norm: divide each kernel by its largest singular value (Miyato et al. 2018,
            arXiv:1802.05957).
        num_classes: classes to be conditioned on; 0 for none.
        dtype: what the convolutions compute in.
    """

    channels: int = 64
    stages: int = 3
    strides: tuple[int, ...] = (2,)
    norm: Literal['batch', 'none'] = 'batch'
    spectral_norm: bool = False
    num_classes: int = 0
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'stages')
        check_strides(self.strides)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: jax.Array, labels: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> DiscriminatorOutput:
        """Scores the patches of examples [b *grid c], with labels int32 [b]; logits [b *grid']."""
        layer, norm = _layers(self, train, axis_name)
        size = strided_sizes(self.strides)
        conv = functools.partial(
            Conv,
            kernel_size=size,
            padding=tuple(((k - s) // 2,) * 2 for k, s in zip(size, self.strides, strict=True)),
            dtype=self.dtype,
            kernel_init=_INIT,
        )
        x = nn.leaky_relu(layer(conv(self.channels, strides=self.strides))(x), 0.2)
        features = [x]
        for stage in range(1, self.stages + 1):
            strides = self.strides if stage < self.stages else 1
            width = self.channels * min(2**stage, 8)
            x = layer(conv(width, strides=strides, use_bias=self.norm == 'none'))(x)
            x = nn.leaky_relu(norm(x), 0.2)
            features.append(x)
        logits = layer(conv(1))(x)[..., 0].astype(jnp.float32)
        if self.num_classes:
            vectors = layer(nn.Embed(self.num_classes, x.shape[-1]))(labels)
            pooled = jnp.mean(x.astype(jnp.float32), tuple(range(1, x.ndim - 1)))
            logits += over_grid(jnp.sum(vectors * pooled, -1), x)
        return DiscriminatorOutput(logits=logits, classes=None, features=tuple(features))


def halving_strides(grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The strides of convolutions that halve each axis of a grid until it has 4 positions, the finest first.

    Axes have 4 * 2^n positions; with another n for each, the longer ones are halved further.
    """
    halvings = [max(0, (size // 4).bit_length() - 1) for size in grid]
    return [tuple(2 if stage < n else 1 for n in halvings) for stage in range(max(halvings))]


def _layers(
    module: Discriminator | PatchDiscriminator, train: bool, axis_name: str | None
) -> tuple[Callable[[nn.Module], Any], Callable[[jax.Array], jax.Array]]:
    """Functions that wrap a layer in, and apply, the normalisations that a discriminator is made with."""

    def layer(inner: nn.Module) -> Any:
        if not module.spectral_norm:
            return inner
        # 15 at the start, as PyTorch makes: from a random vector, one finds much less than the true value.
        starts = module.is_initializing()
        wrapped = nn.SpectralNorm(inner, n_steps=15 if starts else 1, collection_name=BATCH_STATS)
        return functools.partial(wrapped, update_stats=train or starts)

    def norm(x: jax.Array) -> jax.Array:
        return batch_norm(train, axis_name, module.dtype)(x) if module.norm == 'batch' else x

    return layer, norm

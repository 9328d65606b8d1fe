"""The generator of DCGAN."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least
from vq_jax.models.convolution import ConvTranspose, strided_sizes
from vq_jax.models.discriminators import halving_strides
from vq_jax.models.normalisation import batch_norm

_INIT = nn.initializers.normal(0.02)


class Generator(nn.Module):
    """The generator of DCGAN: Radford et al. 2016 (arXiv:1511.06434), section 3 and figure 1.

    Noise is projected to 4 positions along each axis, and transposed convolutions of size 4 and stride 2
    enlarge the grid, mirroring the discriminator's.

    Attributes:
        shape: of an example, (*grid, c), with axes of 4 * 2^n positions, at least one of them of 8 or more.
        noise_dim: dimensions of the noise.
        channels: before the last convolution; each one before has twice as many.
        num_classes: if not 0, the class is appended to the noise.
        dtype: what the convolutions compute in.
    """

    shape: tuple[int, ...]
    noise_dim: int = 100
    channels: int = 64
    num_classes: int = 0
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'noise_dim')
        super().__post_init__()

    @nn.compact
    def __call__(
        self, noise: jax.Array, labels: jax.Array, train: bool = False, axis_name: str | None = None
    ) -> jax.Array:
        """Maps noise [b noise_dim] and labels int32 [b] to examples [b *grid c] in [-1, 1], float32."""

        def normal(x: jax.Array) -> jax.Array:
            return nn.relu(batch_norm(train, axis_name, self.dtype)(x))

        if self.num_classes:
            # Of mean 0 over the classes. A constant would let the first layer make one example of it
            # before it has learned to use the noise, and training collapses.
            k = self.num_classes
            classes = (jax.nn.one_hot(labels, k) - 1 / k) * jnp.sqrt(k)
            noise = jnp.concatenate([noise, classes], -1)
        *grid, out_channels = self.shape
        stages = halving_strides(grid)
        width = self.channels * 2 ** (len(stages) - 1)
        start = (4,) * len(grid)
        x = nn.Dense(math.prod(start) * width, use_bias=False, kernel_init=_INIT, dtype=self.dtype)(noise)
        x = normal(x.reshape(-1, *start, width))
        for stage, strides in reversed(list(enumerate(stages))):
            last = stage == 0
            conv = ConvTranspose(
                out_channels if last else self.channels * 2 ** (stage - 1),
                strided_sizes(strides),
                strides,
                use_bias=last,
                dtype=self.dtype,
                kernel_init=_INIT,
            )
            x = conv(x) if last else normal(conv(x))
        return jnp.tanh(x.astype(jnp.float32))

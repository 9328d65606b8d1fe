"""What a denoising network is told beside the noisy example: the time, and the class."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn


def sinusoids(t: jax.Array, width: int) -> jax.Array:
    """Numbers as sines and cosines of many wavelengths (Vaswani et al. 2017, section 3.5).

    Args:
        t: numbers [...].
        width: of the result, even.

    Returns:
        Cosines, then sines, of wavelengths from 2 pi to 20,000 pi, float32 [... width].
    """
    speeds = jnp.exp(-math.log(10_000) * jnp.arange(width // 2) / (width // 2))
    angles = t.astype(jnp.float32)[..., None] * speeds
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class Conditioning(nn.Module):
    """Times and classes to vectors.

    Attributes:
        width: of the vectors.
        num_classes: classes that can be asked for; one more stands for none.
        frequencies: width of the sinusoids of the time.
        dtype: what is computed in.
    """

    width: int
    num_classes: int = 0
    frequencies: int = 256
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, t: jax.Array, labels: jax.Array) -> jax.Array:
        """The vectors [b width] of times [b] from 0 to 1 and classes int32 [b]."""
        # Published networks count 1,000 steps, to which the wavelengths are made.
        x = sinusoids(1000 * t, self.frequencies)
        x = nn.swish(nn.Dense(self.width, dtype=self.dtype)(x))
        x = nn.Dense(self.width, dtype=self.dtype)(x)
        if self.num_classes:
            vectors = nn.initializers.normal(0.02)
            x = x + nn.Embed(self.num_classes + 1, self.width, embedding_init=vectors)(labels)
        return x

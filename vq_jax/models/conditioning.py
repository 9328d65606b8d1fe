"""The vector that conditions a denoising network: of the time, and of the context."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.context import VectorEmbedding


def sinusoids(t: jax.Array, width: int, endpoint: bool = False) -> jax.Array:
    """Numbers [...] as sines and cosines of many wavelengths (Vaswani et al. 2017, section 3.5).

    Cosines, then sines, of wavelengths from 2 pi to 20,000 pi, float32 [... width]; the width is even. With
    `endpoint` the longest is that of 20,000 pi, as in `jnp.linspace`; else that would be the next.
    """
    n = width // 2
    speeds = jnp.exp(-math.log(10_000) * jnp.arange(n) / max(n - endpoint, 1))
    angles = t.astype(jnp.float32)[..., None] * speeds
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class Conditioning(nn.Module):
    """Times, and vectors of contexts, to vectors.

    Attributes:
        width: of the result.
        frequencies: width of the sinusoids of the time.
        endpoint: see `sinusoids`.
        dtype: what is computed in.
    """

    width: int
    frequencies: int = 256
    endpoint: bool = False
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, t: jax.Array, vector: jax.Array | None) -> jax.Array:
        """The vectors [b width] of times [b] and of a context's vector [b d], or None.

        Times are what a network is told of them (see `vq_jax.ops.diffusion.CLOCKS`). Published networks count
        1,000 steps, to which the wavelengths are made.
        """
        x = sinusoids(t, self.frequencies, self.endpoint)
        x = nn.swish(nn.Dense(self.width, dtype=self.dtype)(x))
        x = nn.Dense(self.width, dtype=self.dtype)(x)
        if vector is not None:
            x = x + VectorEmbedding(self.width, nn.initializers.normal(0.02), name='Embed_0')(vector)
        return x

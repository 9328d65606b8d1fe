"""What a finer scale of codes knows of the coarser one: Razavi et al. 2019 (arXiv:1906.00446).

The conditioning stack of section 3.2: residual blocks on the coarse grid, brought to the fine one.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.code_embedding import embed_codes
from vq_jax.models.convolution import Conv
from vq_jax.models.strided import ReluBlock


class ConditioningStack(nn.Module):
    """Codes of a coarse grid to vectors of a fine one.

    Attributes:
        num_tokens: codes of the coarse scale, at each depth.
        width: of the vectors.
        grid: sizes of the axes of the fine grid, multiples of those of the coarse one.
        blocks: residual blocks.
        dtype: what the layers compute in.
    """

    num_tokens: int
    width: int
    grid: tuple[int, ...]
    blocks: int = 2
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, codes: jax.Array) -> jax.Array:
        """Maps codes, int [b *coarse grid depth], to vectors [b *grid width]."""
        depth = codes.shape[-1]
        embed = nn.Embed(depth * self.num_tokens, self.width)
        x = embed_codes(embed, codes).astype(self.dtype)
        for _ in range(self.blocks):
            x = ReluBlock(self.width, self.dtype)(x)
        for axis, size in enumerate(self.grid, 1):
            x = jnp.repeat(x, size // x.shape[axis], axis=axis)
        # After being repeated, children of one parent differ only by what surrounds it.
        return Conv(self.width, dtype=self.dtype)(nn.relu(x))

"""What a finer level of codes is told of the coarser one above it: Razavi et al. 2019 (arXiv:1906.00446).

The conditioning stack of section 3.2: residual blocks on the coarse grid, brought to the fine one.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.autoencoder import ResidualBlock
from vq_jax.models.convolution import Conv


class ConditioningStack(nn.Module):
    """Tokens of a coarse grid to vectors of a fine one.

    Attributes:
        num_tokens: of the coarse level.
        width: of the vectors.
        grid: rows and columns of the fine grid; multiples of the coarse ones.
        blocks: residual blocks.
        dtype: what the layers compute in.
    """

    num_tokens: int
    width: int
    grid: tuple[int, int]
    blocks: int = 2
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens, int [b h' w'], to vectors [b h w width]."""
        x = nn.Embed(self.num_tokens, self.width)(tokens).astype(self.dtype)
        for _ in range(self.blocks):
            x = ResidualBlock(self.width, self.dtype)(x)
        for axis, size in ((1, self.grid[0]), (2, self.grid[1])):
            x = jnp.repeat(x, size // x.shape[axis], axis=axis)
        # After being repeated, neighbours of one parent are told apart by what surrounds it.
        return Conv(self.width, (3, 3), dtype=self.dtype)(nn.relu(x))

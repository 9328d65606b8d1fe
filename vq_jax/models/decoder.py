"""What all decoders are."""

import jax
import jax.numpy as jnp
from flax import linen as nn

LAST_KERNEL = ('decoder', 'last', 'kernel')  # where a decoder's last kernel is among a model's parameters


class Decoder(nn.Module):
    """A trunk, and a last layer that can be called apart.

    Attributes:
        trunk: maps vectors [b *grid d] to what the last layer is given.
        last: maps that to examples [b *grid*factors c].
        shape: of an example, (*grid, c), if the last layer gives its values as one vector.
        tanh: bound examples to [-1, 1] by the hyperbolic tangent.
        unit: what the last layer gives is about in [0, 1], of which examples in [-1, 1] are made.
    """

    trunk: nn.Module
    last: nn.Module
    shape: tuple[int, ...] | None = None
    tanh: bool = False
    unit: bool = False

    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b *grid d] to examples [b *grid*factors c], float32."""
        return self.outputs(self.trunk(z))

    def outputs(self, features: jax.Array) -> jax.Array:
        """Examples [b *grid*factors c], float32, of what the trunk returned."""
        outputs = self.last(features).astype(jnp.float32)
        outputs = jnp.tanh(outputs) if self.tanh else outputs
        outputs = 2 * outputs - 1 if self.unit else outputs
        return outputs if self.shape is None else outputs.reshape(-1, *self.shape)

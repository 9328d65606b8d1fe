"""What all decoders have in common."""

import jax
import jax.numpy as jnp
from flax import linen as nn

LAST_KERNEL = ('decoder', 'last', 'kernel')  # where a decoder's last kernel is among a model's parameters


class Decoder(nn.Module):
    """What decoders have in common: a trunk, and a last layer that can be called apart.

    Subclasses make both, `trunk` and `last`, in `setup`.
    """

    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b *grid d] to examples [b *grid*factors out_channels], float32."""
        return self.outputs(self.trunk(z))

    def outputs(self, features: jax.Array) -> jax.Array:
        """Examples [b *grid*factors out_channels], float32, of what the trunk returned."""
        return self.last(features).astype(jnp.float32)

"""BSQ: binary spherical quantization."""

import jax
import jax.numpy as jnp

from vq_jax.ops import quantization
from vq_jax.quantizers.binary import BinaryQuantizer


class BinarySphericalQuantizer(BinaryQuantizer):
    """BSQ, the quantizer of Zhao et al. 2024 (arXiv:2406.07548).

    Vectors are brought to the unit sphere, u = z / ||z||, and become the nearest of its corners,
    `sign(u) / sqrt(bits)`. The difference is bounded, so that the authors train without a commitment loss.
    The straight-through gradient is theirs: that of the signs, which the size of a corner divides. Their
    codes count the first bit of a group most, these count it least. Their commitment loss is the sum over
    numbers where this one is the mean, their inverse temperature (1) also divides the entropy loss.

    Attributes:
        group_bits: bits of each code, and, as in the authors' code, of the groups whose entropies of the mean
            stand for that of all bits: a position has as many codes as there are groups of so many, and a
            prior learns them like those of a residual quantizer. None makes one code of all bits, up to 30.
    """

    bits: int = 18
    commitment: float = 0.0
    temperature: float = 1.0
    group_bits: int | None = 9

    @property
    def size(self) -> float:
        """That of the numbers of a unit vector, if all are equal."""
        return self.bits**-0.5

    def project(self, z: jax.Array) -> jax.Array:
        """Takes vectors [... dim] to the unit sphere, where they are compared with codes, float32 [... bits].

        A vector of zeros has no direction, and stays where it is.
        """
        return quantization.normalise(super().project(z))

    def _pass(self, x: jax.Array, e: jax.Array) -> jax.Array:
        return quantization.straight_through(jnp.float32(self.size) * x, e)

"""FSQ: finite scalar quantization."""

import math

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.ops import quantization
from vq_jax.ops import scalar_quantization as scalar
from vq_jax.quantizers.scalar import MOST_CODES, ScalarQuantizer


class FiniteScalarQuantizer(ScalarQuantizer):
    """FSQ, the quantizer of Mentzer et al. 2023 (arXiv:2309.15505).

    Each number is bounded and rounded to one of its levels; levels of an even count are shifted by half of
    one, as in the authors' code (google-research/fsq). There is no loss. As published is `normalise=False`,
    the rest is the same.

    Attributes:
        levels: how many each number has; their product is the number of codes. The paper (table 1) has
            (8, 6, 5) for about 2^8 codes, (8, 5, 5, 5) for 2^10, (7, 5, 5, 5, 5) for 2^12, (8, 8, 8, 6, 5)
            for 2^14 and (8, 8, 8, 5, 5, 5) for 2^16.
        dim: width of the vectors that come in and go out.
        normalise: bring the vectors that come in to a root mean square of 1, which the paper does not. It
            keeps an encoder that does not end with a normalisation from drifting to where tanh is flat and
            all vectors have the same code.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)
    dim: int = 64
    normalise: bool = True

    def __post_init__(self) -> None:
        if not self.levels or not all(2 <= count <= scalar.MOST_LEVELS for count in self.levels):
            raise UserError(
                f'levels is {tuple(self.levels)}; give one number or more from 2 to '
                f'{scalar.MOST_LEVELS:,}, such as (8, 5, 5, 5).'
            )
        if self.num_codes > MOST_CODES:
            raise UserError(
                f'levels is {tuple(self.levels)}, which are {self.num_codes:,} codes; give levels '
                f'whose product is at most {MOST_CODES:,}.'
            )
        super().__post_init__()

    def project(self, z: jax.Array) -> jax.Array:
        """Takes vectors [... dim] to where codes are compared, in about [-1, 1], float32 [... d]."""
        if self.normalise:
            z = math.sqrt(self.dim) * quantization.normalise(z.astype(jnp.float32))
        return scalar.bound(super().project(z), self.levels)

    def _digits(self, x: jax.Array) -> jax.Array:
        return scalar.nearest_digits(x, self.levels)

    def _values(self, digits: jax.Array) -> jax.Array:
        return scalar.level_values(digits, self.levels)

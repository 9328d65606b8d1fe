"""Quantizers without a codebook: a few numbers are quantized one by one, and together are the code.

They do what `vq_jax.quantizers.Quantizer` says. There is nothing to start, to average or to
revive, and no search.
"""

import abc
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least
from vq_jax.ops import quantization
from vq_jax.ops import scalar_quantization as scalar
from vq_jax.ops.parts import Part
from vq_jax.ops.rows import dot_by_rows
from vq_jax.quantizers.quantizer import Quantized, check_width

MOST_CODES = 2**31 - 1  # codes are counted in 32 bits


class ScalarQuantizer(nn.Module, abc.ABC):
    """What all have in common: linear maps to the numbers and back, and codes that are made of digits.

    A subclass has the attributes `dim` and `levels`, how many values each digit has [d], and the abstract
    methods.
    """

    def __post_init__(self) -> None:
        check_least(1, self, 'dim')
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        self.project_in = nn.Dense(len(self.levels), dot_general=dot_by_rows)
        self.project_out = nn.Dense(self.dim, dot_general=dot_by_rows)

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b ... dim]; the arguments are those of `Quantizer`."""
        x = self.project(z)
        codes = self.nearest(x)
        e = self._vectors(codes)
        loss, metrics = self._loss(x, e, train, part)
        values = self.project_out(self._pass(x, e))
        return Quantized(values=values, codes=codes, loss=loss, metrics=metrics)

    @property
    def num_codes(self) -> int:
        """How many there are of all codes of a position together."""
        return math.prod(self.levels)

    @property
    def depth(self) -> int:
        """How many codes the digits of a position make, each of equally many with the same levels."""
        return 1

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """See `Quantizer`."""
        return (math.prod(self._levels_of_code),) * self.depth

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... depth]."""
        return self.project_out(self._vectors(codes))

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [... depth], nearest to vectors where codes are compared [... d]."""
        digits = self._digits(vectors)
        return scalar.to_codes(digits.reshape(*digits.shape[:-1], self.depth, -1), self._levels_of_code)

    def project(self, z: jax.Array) -> jax.Array:
        """Takes vectors [... dim] to where codes are compared [... d], in float32."""
        check_width(z, self.dim)
        return self.project_in(z).astype(jnp.float32)

    def unquantized(self, z: jax.Array) -> jax.Array:
        """See `PassesUnquantized`."""
        return self.project_out(self.project(z))

    @property
    def _levels_of_code(self) -> scalar.Levels:
        return tuple(self.levels[: len(self.levels) // self.depth])

    def _vectors(self, codes: jax.Array) -> jax.Array:
        """Codes, int32 [... depth], where they are compared [... d]."""
        digits = scalar.to_digits(codes, self._levels_of_code)
        return self._values(digits.reshape(*codes.shape[:-1], -1))

    def _pass(self, x: jax.Array, e: jax.Array) -> jax.Array:
        """The value of codes where they are compared, with a gradient of what was quantized [b ... d]."""
        return quantization.straight_through(x, e)

    @abc.abstractmethod
    def _digits(self, x: jax.Array) -> jax.Array:
        """The digits, int32 [... d], nearest to numbers [... d]."""

    @abc.abstractmethod
    def _values(self, digits: jax.Array) -> jax.Array:
        """What digits, int32 [... d], stand for, float32 [... d]."""

    def _loss(
        self, x: jax.Array, e: jax.Array, train: bool, part: Part | None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of each example [b], and metrics; of what was quantized, and what it became [b ... d].

        None, unless a subclass has one.
        """
        return jnp.zeros(len(x), jnp.float32), {}

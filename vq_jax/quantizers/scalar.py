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
from vq_jax.quantizers.quantizer import Quantized, check_width

MOST_CODES = 2**31 - 1  # codes are counted in 32 bits


class ScalarQuantizer(nn.Module, abc.ABC):
    """What both have in common: linear maps to the numbers and back, and codes that are made of digits.

    A subclass has the attributes `dim` and `levels`, how many values each digit has [d], and the abstract
    methods.
    """

    def __post_init__(self) -> None:
        check_least(1, self, 'dim')
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        self.project_in = nn.Dense(len(self.levels))
        self.project_out = nn.Dense(self.dim)

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b ... dim]; the arguments are those of `Quantizer`."""
        x = self.project(z)
        codes = self.nearest(x)
        e = self._vectors(codes)
        loss, metrics = self._loss(x, e, train, part)
        values = self.project_out(quantization.straight_through(x, e))
        return Quantized(values=values, codes=codes, loss=loss, metrics=metrics)

    @property
    def num_codes(self) -> int:
        """How many codes there are."""
        return math.prod(self.levels)

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """See `Quantizer`."""
        return (self.num_codes,)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... 1]."""
        return self.project_out(self._vectors(codes))

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [... 1], nearest to vectors where codes are compared [... d]."""
        return scalar.to_codes(self._digits(vectors), self.levels)[..., None]

    def project(self, z: jax.Array) -> jax.Array:
        """Takes vectors [... dim] to where codes are compared [... d], in float32."""
        check_width(z, self.dim)
        return self.project_in(z).astype(jnp.float32)

    def _vectors(self, codes: jax.Array) -> jax.Array:
        """Codes, int32 [... 1], where they are compared [... d]."""
        return self._values(scalar.to_digits(codes[..., 0], self.levels))

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

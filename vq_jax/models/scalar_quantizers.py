"""Quantizers without a codebook: a few numbers are quantized one by one, and together are the code.

They keep the contract of `vq_jax.models.quantizers.Quantizer`. There is nothing to start, to average or to
revive, and no search.
"""

import abc
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, on_device
from vq_jax.models.quantizers import Quantized, check_width
from vq_jax.ops import quantization
from vq_jax.ops import scalar_quantization as scalar
from vq_jax.ops.parts import Part

MOST_BITS = 18
MOST_CODES = 2**MOST_BITS  # tasks count the use of each, in every picture


class _ScalarQuantizer(nn.Module, abc.ABC):
    """What both have in common: linear maps to the numbers and back, and codes that are made of digits.

    A subclass has the attribute `dim`, and the abstract methods.
    """

    def setup(self) -> None:
        check_least(1, 'config.quantizer.', self, 'dim')
        self.project_in = nn.Dense(len(self._radix))
        self.project_out = nn.Dense(self.dim)

    def __call__(
        self,
        z: jax.Array,
        train: bool = False,
        part: Part | None = None,
        step: jax.Array | None = None,
    ) -> Quantized:
        """Quantizes vectors.

        Args:
            z: vectors [b ... dim].
            train: the loss is to be that of training.
            part: see `Quantizer`.
            step: not used.
        """
        x = self.project(z)
        codes = self.nearest(x)
        e = self._vectors(codes)
        loss, metrics = self._loss(x, e, train, part)
        metrics['code_shares'] = quantization.code_shares(codes, self.num_codes)
        values = self.project_out(quantization.straight_through(x, e))
        return Quantized(values=values, codes=codes, loss=loss, metrics=metrics)

    @property
    def num_codes(self) -> int:
        """How many codes there are."""
        return math.prod(self._radix)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [...]."""
        return self.project_out(self._vectors(codes))

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [...], nearest to vectors where codes are compared [... d]."""
        return scalar.to_codes(self._digits(vectors), self._radix)

    def project(self, z: jax.Array) -> jax.Array:
        """Takes vectors [... dim] to where codes are compared [... d], in float32."""
        check_width(z, self.dim)
        return self.project_in(z).astype(jnp.float32)

    def _vectors(self, codes: jax.Array) -> jax.Array:
        """Codes, int32 [...], where they are compared [... d]."""
        return self._values(scalar.to_digits(codes, self._radix))

    @property
    @abc.abstractmethod
    def _radix(self) -> scalar.Levels:
        """How many values each digit has [d]."""

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


class FiniteScalarQuantizer(_ScalarQuantizer):
    """FSQ, the quantizer of Mentzer et al. 2023 (arXiv:2309.15505).

    Each number is bounded and rounded to one of its levels. There is no loss.

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

    def setup(self) -> None:  # noqa: D102 (Flax's)
        if not self.levels or not all(2 <= count <= scalar.MOST_LEVELS for count in self.levels):
            raise UserError(
                f'config.fsq.levels is {tuple(self.levels)}; give one number or more from 2 to '
                f'{scalar.MOST_LEVELS:,}, such as (8, 5, 5, 5).'
            )
        if self.num_codes > MOST_CODES:
            raise UserError(
                f'config.fsq.levels is {tuple(self.levels)}, which are {self.num_codes:,} codes; give levels '
                f'whose product is at most {MOST_CODES:,}.'
            )
        super().setup()

    def project(self, z: jax.Array) -> jax.Array:
        """Takes vectors [... dim] to where codes are compared, in about [-1, 1], float32 [... d]."""
        if self.normalise:
            z = math.sqrt(self.dim) * quantization.normalise(z.astype(jnp.float32))
        return scalar.bound(super().project(z), self.levels)

    @property
    def _radix(self) -> scalar.Levels:
        return self.levels

    def _digits(self, x: jax.Array) -> jax.Array:
        return scalar.nearest_digits(x, self.levels)

    def _values(self, digits: jax.Array) -> jax.Array:
        return scalar.level_values(digits, self.levels)


class LookupFreeQuantizer(_ScalarQuantizer):
    """LFQ, the quantizer of Yu et al. 2023 (MAGVIT-v2, arXiv:2310.05737), section 3.1.

    Each number becomes its sign, 1 or -1, which is a bit of the code. For the entropy loss,
    `E[H(q(z))] - H(E[q(z)])`, a vector z has the code c with a probability q in proportion to
    `exp(-||z - c||^2 / temperature)`, so that bits are independent and each is 1 with the probability
    sigmoid(4 z / temperature). Both terms are exact. The second one is of the whole batch, over all devices,
    and no function of an example: the loss that evaluation gives is without it.

    Attributes:
        bits: how many numbers there are; 2^bits is the number of codes.
        dim: width of the vectors that come in and go out.
        commitment: weight of the commitment loss, `||z - sg(sign(z))||^2`.
        entropy: weight of the entropy loss, in nats: the mean entropy of a position's code, which makes
            choices certain, minus `diversity` times the entropy of the mean over positions, which makes
            codes be used evenly.
        diversity: see `entropy`; 1 is the paper's equation.
        temperature: of the probabilities of codes.
    """

    bits: int = 10
    dim: int = 64
    commitment: float = 0.25
    entropy: float = 0.1
    diversity: float = 1.0
    temperature: float = 0.01

    def setup(self) -> None:  # noqa: D102 (Flax's)
        if not 1 <= self.bits <= MOST_BITS:
            raise UserError(f'config.lfq.bits is {self.bits}; give a number from 1 to {MOST_BITS}.')
        check_least(0, 'config.lfq.', self, 'commitment', 'entropy', 'diversity')
        if not on_device('config.lfq.temperature', self.temperature) > 0:
            raise UserError(f'config.lfq.temperature is {self.temperature}; give a number above 0.')
        super().setup()

    @property
    def depends_on_batch(self) -> bool:
        """Whether the loss of training is a function of the batch as a whole."""
        return bool(self.entropy * self.diversity)

    @property
    def _radix(self) -> scalar.Levels:
        return (2,) * self.bits

    def _digits(self, x: jax.Array) -> jax.Array:
        return (x > 0).astype(jnp.int32)

    def _values(self, digits: jax.Array) -> jax.Array:
        return jnp.float32(2 * digits - 1)

    def _loss(
        self, x: jax.Array, e: jax.Array, train: bool, part: Part | None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits = 4 / self.temperature * x
        certainty = scalar.bit_entropy(logits).sum(-1).reshape(len(x), -1).mean(1)
        commitment = quantization.commitment_loss(x, e)
        loss = self.commitment * commitment + self.entropy * certainty
        metrics = {'commitment_loss': jnp.mean(commitment), 'code_entropy': jnp.mean(certainty)}
        if train and self.depends_on_batch:
            axis_name = part and part.axis_name
            mean = scalar.mean_code_probabilities(logits.reshape(-1, self.bits), axis_name)
            metrics['entropy_of_mean'] = quantization.entropy(mean)
            loss -= self.entropy * self.diversity * metrics['entropy_of_mean']
        return loss, metrics

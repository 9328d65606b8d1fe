"""Quantizers to bits: each of a few numbers becomes its sign, and signs together are codes."""

import abc

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError, check_least, check_positive
from vq_jax.ops import quantization
from vq_jax.ops import scalar_quantization as scalar
from vq_jax.ops.losses import mean_each
from vq_jax.ops.parts import Part
from vq_jax.quantizers.scalar import ScalarQuantizer

_MOST_BITS = 30  # of a code: they are counted in 32 bits
_MOST_BITS_OF_DIVERSITY = 18


class BinaryQuantizer(ScalarQuantizer):
    """What LFQ and BSQ have in common: bits, groups of them, and the entropy loss.

    For the entropy loss, `E[H(q(z))] - H(E[q(z)])`, a vector z has the code c with a probability q in
    proportion to `exp(-||z - c||^2 / temperature)`, so that bits are independent and each is 1 with the
    probability sigmoid(4 u z / temperature), u the size of the numbers of a code. Both terms are exact; by
    groups of bits, the second is the sum of their entropies of the mean, which is no less than that of all
    bits together. It is of the whole batch, over all devices, and no function of an example: the loss that
    evaluation gives is without it.

    Attributes:
        bits: how many numbers there are, and so bits of a position.
        dim: width of the vectors that come in and go out.
        commitment: weight of the commitment loss, the mean square of what quantization changes.
        entropy: weight of the entropy loss, in nats: the mean entropy of a position's bits, which makes
            choices certain, minus `diversity` times the entropy of the mean over positions, which makes
            codes be used evenly.
        diversity: see `entropy`; 1 is the paper's equation.
        temperature: of the probabilities of codes.
        group_bits: bits of each code: a position has as many codes as there are groups of so many, and a
            prior learns them like those of a residual quantizer. None makes one code of all bits, up to 30.
        entropy_bits: bits of the groups whose entropies of the mean are summed, up to 18; None is those of a
            code.
    """

    bits: int = 10
    dim: int = 64
    commitment: float = 0.25
    entropy: float = 0.1
    diversity: float = 1.0
    temperature: float = 0.01
    group_bits: int | None = None
    entropy_bits: int | None = None

    def __post_init__(self) -> None:
        if self.bits < 1 or (self.group_bits is None and self.bits > _MOST_BITS):
            raise UserError(
                f'bits is {self.bits}; give a number from 1 to {_MOST_BITS}, or more in groups (group_bits).'
            )
        for name in ('group_bits', 'entropy_bits'):
            value = getattr(self, name)
            if value is not None and not (1 <= value <= _MOST_BITS and self.bits % value == 0):
                raise UserError(
                    f'{name} is {value}; give a number from 1 to {_MOST_BITS} that divides the {self.bits} '
                    'bits.'
                )
        if self.depends_on_batch and self._entropy_bits > _MOST_BITS_OF_DIVERSITY:
            given = ('entropy_bits', 'group_bits', 'bits')
            name = next(name for name in given if getattr(self, name) is not None)
            raise UserError(
                f'{name} is {getattr(self, name)}, and the entropy of the mean (diversity) holds the '
                f'probability of each code; give {_MOST_BITS_OF_DIVERSITY} bits or fewer, or diversity=0, or '
                f'take it in groups, by entropy_bits of at most {_MOST_BITS_OF_DIVERSITY}.'
            )
        check_least(0, self, 'commitment', 'entropy', 'diversity')
        check_positive(self, 'temperature')
        super().__post_init__()

    @property
    def depends_on_batch(self) -> bool:
        """Whether the loss of training is a function of the batch as a whole."""
        return bool(self.entropy * self.diversity)

    @property
    def levels(self) -> scalar.Levels:
        """Two for each bit."""
        return (2,) * self.bits

    @property
    def depth(self) -> int:
        """How many codes a position has."""
        return self.bits // (self.group_bits or self.bits)

    @property
    @abc.abstractmethod
    def size(self) -> float:
        """The size of the numbers of a code."""

    @property
    def _entropy_bits(self) -> int:
        return self.entropy_bits or self.group_bits or self.bits

    def _digits(self, x: jax.Array) -> jax.Array:
        return (x > 0).astype(jnp.int32)

    def _values(self, digits: jax.Array) -> jax.Array:
        return jnp.float32(2 * digits - 1) * jnp.float32(self.size)

    def _loss(
        self, x: jax.Array, e: jax.Array, train: bool, part: Part | None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        logits = 4 * self.size / self.temperature * x
        certainty = mean_each(scalar.bit_entropy(logits).sum(-1).reshape(len(x), -1))
        commitment = quantization.commitment_loss(x, e)
        loss = self.commitment * commitment + self.entropy * certainty
        metrics = {'commitment_loss': jnp.mean(commitment), 'code_entropy': jnp.mean(certainty)}
        if train and self.depends_on_batch:
            groups = logits.reshape(-1, self.bits // self._entropy_bits, self._entropy_bits)
            axis_name = part and part.axis_name
            means = [scalar.mean_code_probabilities(groups[:, i], axis_name) for i in range(groups.shape[1])]
            metrics['entropy_of_mean'] = sum(map(quantization.entropy, means))
            loss -= self.entropy * self.diversity * metrics['entropy_of_mean']
        return loss, metrics

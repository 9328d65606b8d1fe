"""LFQ: lookup-free quantization."""

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError, check_least, on_device
from vq_jax.ops import quantization
from vq_jax.ops import scalar_quantization as scalar
from vq_jax.ops.parts import Part
from vq_jax.quantizers.scalar import ScalarQuantizer

_MOST_BITS = 30  # codes are counted in 32 bits
_MOST_BITS_OF_DIVERSITY = 18


class LookupFreeQuantizer(ScalarQuantizer):
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

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= _MOST_BITS:
            raise UserError(f'bits is {self.bits}; give a number from 1 to {_MOST_BITS}.')
        if self.depends_on_batch and self.bits > _MOST_BITS_OF_DIVERSITY:
            raise UserError(
                f'bits is {self.bits}, and the entropy of the mean (diversity) holds the '
                f'probability of each code; give {_MOST_BITS_OF_DIVERSITY} bits or fewer, or diversity=0.'
            )
        check_least(0, self, 'commitment', 'entropy', 'diversity')
        if not on_device('temperature', self.temperature) > 0:
            raise UserError(f'temperature is {self.temperature}; give a number above 0.')
        super().__post_init__()

    @property
    def depends_on_batch(self) -> bool:
        """Whether the loss of training is a function of the batch as a whole."""
        return bool(self.entropy * self.diversity)

    @property
    def levels(self) -> scalar.Levels:
        """Two for each bit."""
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

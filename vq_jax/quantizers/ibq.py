"""IBQ: index backpropagation quantization."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least, check_positive
from vq_jax.ops import quantization
from vq_jax.ops.collectives import pmean
from vq_jax.ops.losses import mean_each, mean_square
from vq_jax.ops.nearest import largest_product
from vq_jax.ops.parts import Part
from vq_jax.ops.rows import dot_by_rows
from vq_jax.ops.soft_codes import soft_codes
from vq_jax.quantizers.quantizer import Quantized, check_width


class IndexBackpropagationQuantizer(nn.Module):
    """IBQ, the quantizer of Shi et al. 2024 (arXiv:2412.02692).

    A vector z has the code e_k with the largest product z.e_k. What goes out is
    `sum_k (onehot_k + p_k - sg(p_k)) e_k` with `p = softmax(z.e)`: the vector of that code, whose gradient
    reaches all codes, and the encoder by way of the softmax. The loss is

        ||q - z||^2 + commitment ||z - sg(e)||^2 + codebook_weight ||sg(z) - e||^2
        + entropy (E[H(p')] - diversity H(E[p'])),

    where q is what goes out, with that gradient, and `p' = softmax(z.e / temperature)`. The defaults are
    those of the authors' code, which adds 1e-5 to E[p'] in the logarithm; here nothing is added, so that
    codes of small shares count in full. The last entropy is of the whole batch, over all devices, and no
    function of an example: the loss that evaluation gives is without it.

    Attributes:
        num_codes: the number of codes, k.
        dim: width of the vectors that come in and go out.
        code_dim: width of the codes, reached by a linear map from the input and left by another; None
            compares in the input's own space, of width `dim`.
        commitment: weight of the commitment loss.
        codebook_weight: weight of the codebook loss.
        entropy: weight of the entropy loss, in nats.
        diversity: how much the entropy of the mean over positions, which makes codes be used evenly, counts
            beside the mean entropy of a position's code, which makes choices certain.
        temperature: of the probabilities whose entropies are taken.
    """

    num_codes: int = 16_384
    dim: int = 64
    code_dim: int | None = None
    commitment: float = 1.0
    codebook_weight: float = 0.25
    entropy: float = 0.05
    diversity: float = 1.0
    temperature: float = 0.01

    def __post_init__(self) -> None:
        check_least(1, self, 'num_codes', 'dim', 'code_dim')
        check_least(0, self, 'commitment', 'codebook_weight', 'entropy', 'diversity')
        check_positive(self, 'temperature')
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        d = self.dim if self.code_dim is None else self.code_dim
        if self.code_dim is not None:
            self.project_in = nn.Dense(d, dot_general=dot_by_rows)
            self.project_out = nn.Dense(self.dim, dot_general=dot_by_rows)
        self.codebook = self.param('codebook', nn.initializers.normal(1.0), (self.num_codes, d))

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b ... dim]; the arguments are those of `Quantizer`."""
        z = self.project(z)
        codes = self.nearest(z)
        e = self.codebook[codes[..., 0]]
        soft = soft_codes(z.reshape(-1, z.shape[-1]), self.codebook, self.temperature)
        means = soft.means.reshape(z.shape)
        q = e + means - jax.lax.stop_gradient(means)

        commitment = quantization.commitment_loss(z, e)
        own = mean_each(soft.entropy.reshape(len(z), -1))
        loss = mean_square(q, z) + self.commitment * commitment + self.entropy * own
        loss += self.codebook_weight * quantization.codebook_loss(z, e)
        metrics = {'commitment_loss': jnp.mean(commitment), 'code_entropy': jnp.mean(own)}
        if train and self.depends_on_batch:
            shares = pmean(soft.shares, part and part.axis_name)
            metrics['entropy_of_mean'] = quantization.entropy(shares)
            loss -= self.entropy * self.diversity * metrics['entropy_of_mean']
        return Quantized(values=self._leave(q), codes=codes, loss=loss, metrics=metrics)

    @property
    def depends_on_batch(self) -> bool:
        """Whether the loss of training is a function of the batch as a whole."""
        return bool(self.entropy * self.diversity)

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """See `Quantizer`."""
        return (self.num_codes,)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... 1]."""
        return self._leave(self.codebook[codes[..., 0]])

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [... 1], of the largest product with vectors [... code_dim]."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        return largest_product(flat, self.codebook).reshape(*vectors.shape[:-1], 1)

    def project(self, z: jax.Array) -> jax.Array:
        """Takes vectors [... dim] to where codes are compared [... code_dim], in float32."""
        check_width(z, self.dim)
        return (z if self.code_dim is None else self.project_in(z)).astype(jnp.float32)

    def unquantized(self, z: jax.Array) -> jax.Array:
        """See `PassesUnquantized`."""
        return self._leave(self.project(z))

    def _leave(self, e: jax.Array) -> jax.Array:
        return e if self.code_dim is None else self.project_out(e)

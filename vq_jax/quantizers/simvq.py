"""SimVQ: a codebook that a linear map moves as a whole."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least
from vq_jax.ops import quantization
from vq_jax.ops.nearest import nearest_code
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import STATISTICS, Quantized, check_estimator, check_width


class SimVectorQuantizer(nn.Module):
    """SimVQ, the quantizer of Zhu et al. 2024 (arXiv:2411.02038).

    The codebook is `C W`: random vectors C, from a normal distribution of variance 1/d, which stay as they
    are, times a learned matrix W. Its gradient is that of the codes that were chosen, but moves all of them,
    so that none is left behind: nothing has to be revived. The loss is theirs,
    `||sg(z) - e||^2 + commitment ||z - sg(e)||^2`.

    Attributes:
        num_codes: the number of codes, k.
        dim: width of the vectors that come in and go out, d.
        commitment: weight of the commitment loss.
        estimator: as that of `VectorQuantizer`.
    """

    num_codes: int = 512
    dim: int = 64
    commitment: float = 0.25
    estimator: quantization.Estimator = 'straight_through'

    def __post_init__(self) -> None:
        check_least(1, self, 'num_codes', 'dim')
        check_estimator(self.estimator)
        check_least(0, self, 'commitment')
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        def random_codes() -> jax.Array:
            key, shape = self.make_rng('params'), (self.num_codes, self.dim)
            return jax.random.normal(key, shape, jnp.float32) * self.dim**-0.5

        # No parameter, so that no optimizer changes it.
        self.frozen = self.variable(STATISTICS, 'codebook', random_codes)
        self.map = nn.Dense(self.dim, use_bias=False, precision=jax.lax.Precision.HIGHEST)

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b ... dim]; the arguments are those of `Quantizer`."""
        z = self.project(z)
        codes = self.nearest(z)
        e = self.lookup(codes)
        commitment, codebook_loss = quantization.commitment_loss(z, e), quantization.codebook_loss(z, e)
        return Quantized(
            values=quantization.ESTIMATORS[self.estimator](z, e),
            codes=codes,
            loss=codebook_loss + self.commitment * commitment,
            metrics={'commitment_loss': jnp.mean(commitment), 'codebook_loss': jnp.mean(codebook_loss)},
        )

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """See `Quantizer`."""
        return (self.num_codes,)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... 1]."""
        return self.map(self.frozen.value[codes[..., 0]])

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [... 1], nearest to vectors [... dim]."""
        flat = vectors.reshape(-1, vectors.shape[-1])
        return nearest_code(flat, self.vectors()).reshape(*vectors.shape[:-1], 1)

    def project(self, z: jax.Array) -> jax.Array:
        """Vectors [... dim] in float32: they are compared as they come in."""
        check_width(z, self.dim)
        return z.astype(jnp.float32)

    def unquantized(self, z: jax.Array) -> jax.Array:
        """See `PassesUnquantized`."""
        return self.project(z)

    def vectors(self) -> jax.Array:
        """The codebook as it is compared with vectors [k dim], float32."""
        return self.map(self.frozen.value)

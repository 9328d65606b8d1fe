"""The continuous latent: a diagonal Gaussian for every example, vector or grid."""

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least
from vq_jax.ops import gaussians
from vq_jax.ops.collectives import pmean
from vq_jax.ops.losses import sum_each
from vq_jax.ops.parts import Part
from vq_jax.ops.rows import dot_by_rows
from vq_jax.quantizers.quantizer import Quantized

LATENT = 'latent'  # the random stream that samples are made with


@chex.dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian for each example.

    Attributes:
        mean: [b ... d].
        log_variance: [b ... d].
    """

    mean: jax.Array
    log_variance: jax.Array

    def kl(self) -> jax.Array:
        """The divergence of each dimension from the standard normal, in nats [b ... d]."""
        return gaussians.kl_to_standard(self.mean, self.log_variance)


class GaussianBottleneck(nn.Module):
    """A bottleneck that is called like a quantizer, and passes a sample of a Gaussian on.

    Kingma and Welling 2014 (arXiv:1312.6114), section 3; over a grid, the latent of Rombach et al. 2022
    (arXiv:2112.10752), section 3.1.

    Attributes:
        latent_dim: dimensions of the Gaussian, at each position of a grid.
        dim: width of the vectors that go out; None passes the sample on as it is.
        free_bits: nats, on average over a batch, that each dimension may hold for nothing in training (Kingma
            et al. 2016, arXiv:1606.04934, equation 15).
    """

    latent_dim: int = 4
    dim: int | None = None
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        check_least(1, self, 'latent_dim')
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        self.project_in = nn.Dense(2 * self.latent_dim, dot_general=dot_by_rows)
        if self.dim is not None:
            self.project_out = nn.Dense(self.dim, dot_general=dot_by_rows)

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Passes on a sample in training, else the mean, of vectors [b ... d]; called as `Quantizer` is.

        The sample is made with the random stream 'latent', whose key must be equal in all parts of a batch.

        Returns:
            Like a quantizer's; the 'codes' are the means, float32 [b ... latent_dim], the loss is the
            divergence from the standard normal in nats, beyond `free_bits` in training.
        """
        posterior = self.posterior(z)
        latent = posterior.mean
        if train and not self.is_initializing():
            keys = (part or Part.of_device(len(z))).keys(self.make_rng(LATENT))
            latent = gaussians.sample(keys, posterior.mean, posterior.log_variance)
        units = posterior.kl()
        metrics = {'kl': jnp.mean(sum_each(units))}
        if train and self.free_bits:
            # Whether a dimension is below its free bits is a matter of the whole batch.
            mean = pmean(jax.lax.stop_gradient(jnp.mean(units, 0)), part and part.axis_name)
            units = jnp.where(mean > self.free_bits, units, self.free_bits)
        return Quantized(
            values=self.lookup(latent), codes=posterior.mean, loss=sum_each(units), metrics=metrics
        )

    def posterior(self, z: jax.Array) -> Posterior:
        """The Gaussian of each example, from vectors [b ... d]."""
        mean, log_variance = jnp.split(self.project_in(z.astype(jnp.float32)), 2, axis=-1)
        # Where exp is finite in float32, with room for sums.
        return Posterior(mean=mean, log_variance=jnp.clip(log_variance, -30.0, 20.0))

    def lookup(self, latents: jax.Array) -> jax.Array:
        """What goes out for latents [b ... latent_dim]: [b ... dim]."""
        return latents if self.dim is None else self.project_out(latents)

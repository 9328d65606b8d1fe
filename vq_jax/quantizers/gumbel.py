"""The Gumbel-softmax quantizer: codes are sampled, ever more surely."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_positive
from vq_jax.ops.blocks import map_blocks
from vq_jax.ops.losses import mean_each
from vq_jax.ops.parts import Part
from vq_jax.ops.rows import dot_by_rows
from vq_jax.ops.soft_codes import gumbel_softmax
from vq_jax.quantizers.quantizer import Quantized, check_width

_MAX_LOGITS = 2**22  # that may be held at once, of one position at least


class GumbelQuantizer(nn.Module):
    """Gumbel-softmax (Jang et al. 2016, arXiv:1611.01144), as a quantizer.

    A linear map gives the logits of the codes. In training a code is sampled of them, by the largest of the
    logits with Gumbel noise; the gradient is that of their softmax at a temperature that falls by steps.
    Otherwise the likeliest code is taken. The loss is the divergence of `softmax(logits)` from even
    probabilities. So it was in DALL-E (Ramesh et al. 2021, arXiv:2102.12092, appendix A.2), whose schedule
    this is, without `straight_through`, and in taming-transformers (Esser et al. 2021), whose weight of the
    loss this is, and which samples in evaluation too.

    Attributes:
        num_codes: the number of codes, k.
        dim: width of the vectors that come in and go out.
        straight_through: what goes out in training is the vector of the sampled code; else the mixture of all
            by the softmax, which the decoder does not see in evaluation.
        temperature: before the first step.
        last_temperature: from the step `anneal_steps` on.
        anneal_steps: over which the temperature falls from one to the other, along half a cosine.
        kl: weight of the divergence from even probabilities, in nats a position.
    """

    num_codes: int = 8192
    dim: int = 64
    straight_through: bool = True
    temperature: float = 1.0
    last_temperature: float = 0.0625
    anneal_steps: int = 150_000
    kl: float = 5e-4

    def __post_init__(self) -> None:
        check_least(1, self, 'num_codes', 'dim', 'anneal_steps')
        check_positive(self, 'temperature', 'last_temperature')
        check_least(0, self, 'kl')
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        self.to_logits = nn.Dense(self.num_codes, dot_general=dot_by_rows)
        self.codebook = self.param('codebook', nn.initializers.normal(1.0), (self.num_codes, self.dim))

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b ... dim]; the arguments are those of `Quantizer`.

        Codes are sampled with the random stream 'codebook', whose key must be equal in all parts of a batch.
        Positions are taken in blocks: the table of their logits is never held when it is large.
        """
        check_width(z, self.dim)
        sampled = train and not self.is_initializing()
        if self.is_initializing():
            self.to_logits(z)
        layer, variables = self.to_logits.unbind()
        temperature = self._temperature(step) if sampled else None
        # That of an example is the same on whatever device, and in whatever part of the batch, it is.
        keys = (part or Part.of_device(len(z))).keys(self.make_rng('codebook')) if sampled else None
        flat = z.reshape(-1, self.dim)
        positions = len(flat) // len(z)

        def gumbel(i: jax.Array) -> jax.Array:
            return jax.random.gumbel(
                jax.random.fold_in(keys[i // positions], i % positions), [self.num_codes]
            )

        def of_block(z: jax.Array, i: jax.Array) -> tuple[jax.Array, ...]:
            logits = layer.apply(variables, z).astype(jnp.float32)
            log_p = jax.nn.log_softmax(logits)
            divergence = jnp.sum(jnp.exp(log_p) * (log_p + jnp.log(self.num_codes)), axis=-1)
            if not sampled:
                return divergence, self.nearest(logits)
            noise = jax.vmap(gumbel)(i)
            shares = gumbel_softmax(logits, noise, temperature, self.straight_through)
            values = jnp.einsum('nk,kd->nd', shares, self.codebook, precision=jax.lax.Precision.HIGHEST)
            return divergence, self.nearest(logits + noise), values

        rows = flat, jnp.arange(len(flat))
        found = map_blocks(of_block, rows, max(1, _MAX_LOGITS // self.num_codes))
        divergence = mean_each(found[0].reshape(len(z), -1))
        codes = found[1].reshape(*z.shape[:-1], 1)
        metrics = {'kl_uniform': jnp.mean(divergence)}
        if sampled:
            metrics['temperature'] = temperature
        values = found[2].reshape(z.shape) if sampled else self.lookup(codes)
        return Quantized(values=values, codes=codes, loss=self.kl * divergence, metrics=metrics)

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """See `Quantizer`."""
        return (self.num_codes,)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... 1]."""
        return self.codebook[codes[..., 0]]

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The likeliest codes, int32 [... 1], of logits [... k]."""
        return jnp.argmax(vectors, axis=-1, keepdims=True).astype(jnp.int32)

    def project(self, z: jax.Array) -> jax.Array:
        """The logits of the codes, float32 [... k], of vectors [... dim]."""
        check_width(z, self.dim)
        return self.to_logits(z).astype(jnp.float32)

    def unquantized(self, z: jax.Array) -> jax.Array:
        """The mean of the codes' vectors by their probabilities; see `PassesUnquantized`."""
        shares = jax.nn.softmax(self.project(z))
        return jnp.einsum('...k,kd->...d', shares, self.codebook, precision=jax.lax.Precision.HIGHEST)

    def _temperature(self, step: jax.Array | None) -> jax.Array:
        if step is None:
            raise UserError('the temperature falls by steps; give the steps done (step) in training.')
        share = jnp.minimum(step / self.anneal_steps, 1.0)
        fallen = (1 - jnp.cos(jnp.pi * share)) / 2
        return self.temperature + fallen * (self.last_temperature - self.temperature)

"""Residual quantization: each depth quantizes what the ones before it left over."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.ops import quantization
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import Quantized, after_update, check_width
from vq_jax.quantizers.vq import VectorQuantizer


class ResidualQuantizer(nn.Module):
    """The residual quantizer of Zeghidour et al. 2021 (SoundStream, arXiv:2107.03312), section III.C.

    As in EnCodec (Défossez et al. 2022, arXiv:2210.13438), what a depth subtracts has no gradient, and one
    straight-through estimator is around the sum: with one around each depth, the gradient of the commitment
    loss would vanish after the first.

    Attributes:
        quantizer: what each depth is; each has parameters and a codebook of its own.
        depth: how many codes a position has.
    """

    quantizer: VectorQuantizer
    depth: int = 4

    def __post_init__(self) -> None:
        check_least(1, self, 'depth')
        if self.quantizer.code_dim is not None or self.quantizer.cosine:
            raise UserError(
                'a residual quantizer compares vectors as they come in; leave code_dim and cosine of its '
                'quantizer out.'
            )
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        self.stages = [self.quantizer.clone(parent=None, name=None) for _ in range(self.depth)]

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b ... dim] as `VectorQuantizer` does, to codes int32 [b ... depth].

        Loss and metrics are means over the depths.
        """
        z = self.project(z)
        found: list[Quantized] = []

        def quantize(stage: VectorQuantizer, residual: jax.Array) -> jax.Array:
            found.append(stage(residual, train=train, part=part, step=step))
            return stage.lookup(found[-1].codes)

        total, _ = self._cascade(z, quantize)
        losses, metrics = [one.loss for one in found], [one.metrics for one in found]
        return Quantized(
            values=quantization.straight_through(z, total),
            codes=jnp.concatenate([one.codes for one in found], axis=-1),
            loss=sum(losses) / self.depth,
            metrics=jax.tree.map(lambda *x: sum(x) / self.depth, *metrics),
        )

    @property
    def dim(self) -> int:
        """Width of the vectors that come in and go out."""
        return self.quantizer.dim

    @property
    def vocabulary(self) -> tuple[int, ...]:
        """See `Quantizer`."""
        return self.quantizer.vocabulary * self.depth

    @property
    def init_batches(self) -> int:
        """See `StartsFromData`."""
        return self.quantizer.init_batches

    def init_from_data(self, key: jax.Array, z: jax.Array) -> None:
        """Begins with k-means, depth after depth, each over what the ones before it leave over."""
        keys = iter(jax.random.split(key, self.depth))

        def begin(stage: VectorQuantizer, residual: jax.Array) -> jax.Array:
            stage.init_from_data(next(keys), residual)
            return stage.lookup(stage.nearest(stage.project(residual)))

        self._cascade(self.project(z), begin)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... n], of the first n depths."""
        return sum(
            stage.lookup(codes[..., i : i + 1]) for i, stage in enumerate(self.stages[: codes.shape[-1]])
        )

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [... depth], of vectors [... dim], each depth's nearest to what is left over."""
        codes = []

        def choose(stage: VectorQuantizer, residual: jax.Array) -> jax.Array:
            codes.append(stage.nearest(stage.project(residual)))
            return stage.lookup(codes[-1])

        self._cascade(vectors, choose)
        return jnp.concatenate(codes, axis=-1)

    def project(self, z: jax.Array) -> jax.Array:
        """Vectors [... dim] in float32: they are compared as they come in."""
        check_width(z, self.dim)
        return z.astype(jnp.float32)

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`; numbers are sums over the depths."""
        metrics = [after_update(stage) for stage in self.stages]
        return jax.tree.map(lambda *x: sum(x), *metrics)

    def _cascade(
        self, z: jax.Array, quantize: Callable[[VectorQuantizer, jax.Array], jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """The sum of what a function makes of the residual at each depth, and what is left over at last."""
        total, residual = jnp.zeros_like(z), z
        for stage in self.stages:
            e = quantize(stage, residual)
            total, residual = total + e, residual - jax.lax.stop_gradient(e)
        return total, residual

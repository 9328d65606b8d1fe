"""Residual quantization: each depth quantizes what the ones before it left over."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.ops import quantization
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import Quantized, after_update, check_width
from vq_jax.quantizers.vq import VectorQuantizer


class ResidualQuantizer(nn.Module):
    """The residual quantizer of Zeghidour et al. 2021 (SoundStream, arXiv:2107.03312), section III.C.

    Depth i has the code nearest to the residual `r_i`, and `r_{i+1} = r_i - e_i`; the value is the sum of the
    codes' vectors e_i. As in EnCodec (Défossez et al. 2022, arXiv:2210.13438), what a depth subtracts has no
    gradient, and one estimator is around the sum: with one around each depth, the gradient of the commitment
    loss would vanish after the first.

    With a `code_dim`, each depth maps what is left over into its space and back, as in DAC (Kumar et al.
    2023, arXiv:2306.06546), and subtracts what comes back. As there, the estimator is around the code of each
    depth, and what is subtracted has its gradient, so that all maps learn: a map to fewer dimensions lets no
    gradient vanish.

    Attributes:
        quantizer: what each depth is.
        depth: how many codes a position has.
        shared: one codebook for all depths, with its maps, instead of one for each. It learns from the
            vectors of all depths together, once an update.
        dropout: share of training's examples that have fewer depths, evenly from 1 to `depth` (quantizer
            dropout, ibid.; DAC has 0.5): their values are sums of these alone, and no other depth learns from
            them. Decoding of the first depths alone needs it (see `lookup`).
    """

    quantizer: VectorQuantizer
    depth: int = 4
    shared: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_least(1, self, 'depth')
        check_share(self, 'dropout')
        if not isinstance(self.quantizer, VectorQuantizer):
            raise UserError(
                f'quantizer is a {type(self.quantizer).__name__}, and each depth of a residual quantizer is '
                'a VectorQuantizer; give one.'
            )
        if self.quantizer.cosine and self.quantizer.unit_length and self.quantizer.code_dim is None:
            raise UserError(
                'a residual quantizer subtracts codes, and with cosine those of its quantizer are of unit '
                'length; give it a code_dim, whose map changes the length, or unit_length=False.'
            )
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        count = 1 if self.shared else self.depth
        self.stages = [self.quantizer.clone(parent=None, name=None) for _ in range(count)]

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b ... dim] as `VectorQuantizer` does, to codes int32 [b ... depth].

        Loss and metrics are means over the depths. Codes are of all depths, whatever `dropout`.
        """
        z = self.project(z)
        learns = train and not self.is_initializing()
        used = self._used(z, part or Part.of_device(len(z))) if learns and self.dropout else None
        found: list[Quantized] = []
        compared: list[jax.Array] = []

        def quantize(stage: VectorQuantizer, residual: jax.Array) -> jax.Array:
            one, vectors = stage.quantize(residual)
            found.append(one)
            compared.append(vectors)
            return one.values if self._maps else stage.lookup(one.codes)

        total = self._cascade(z, quantize, used)
        if learns:
            self._observe(compared, [one.codes for one in found], part, used)
        losses, metrics = [one.loss for one in found], [one.metrics for one in found]
        if used is not None:
            losses = [loss * one.reshape(-1) for loss, one in zip(losses, used, strict=True)]
        return Quantized(
            values=total if self._maps else quantization.ESTIMATORS[self.quantizer.estimator](z, total),
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
    def decodable(self) -> tuple[int, ...]:
        """See `DecodesFewer`: any number of depths."""
        return tuple(range(1, self.depth + 1))

    @property
    def init_batches(self) -> int:
        """See `StartsFromData`."""
        return self.quantizer.init_batches

    def init_from_data(self, key: jax.Array, z: jax.Array) -> None:
        """Begins with k-means, depth after depth, each over what the ones before it leave over.

        A shared codebook begins anew at each depth, over the vectors of all depths so far.
        """
        keys, seen = iter(jax.random.split(key, self.depth)), []

        def begin(stage: VectorQuantizer, residual: jax.Array) -> jax.Array:
            seen.append(residual)
            stage.init_from_data(next(keys), jnp.concatenate(seen) if self.shared else residual)
            return stage.lookup(stage.nearest(stage.project(residual)))

        self._cascade(self.project(z), begin)

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [... n], of the first n depths.

        Raises:
            UserError: if there are more depths than were learned.
        """
        n = codes.shape[-1]
        if n > self.depth:
            raise UserError(
                f'the codes have {n} depths, and {self.depth} were learned; leave the others out.'
            )
        return sum(self._stage(i).lookup(codes[..., i : i + 1]) for i in range(n))

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [... depth], of vectors [... dim], each depth's nearest to what is left over."""
        codes = []

        def choose(stage: VectorQuantizer, residual: jax.Array) -> jax.Array:
            codes.append(stage.nearest(stage.project(residual)))
            return stage.lookup(codes[-1])

        self._cascade(vectors, choose)
        return jnp.concatenate(codes, axis=-1)

    def project(self, z: jax.Array) -> jax.Array:
        """Vectors [... dim] in float32: they are what the first depth is given."""
        check_width(z, self.dim)
        return z.astype(jnp.float32)

    def unquantized(self, z: jax.Array) -> jax.Array:
        """See `PassesUnquantized`."""
        return self.project(z)

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`; numbers are sums over the codebooks."""
        metrics = [after_update(stage) for stage in self.stages]
        return jax.tree.map(lambda *x: sum(x), *metrics)

    @property
    def _maps(self) -> bool:
        """Whether each depth compares in a space of its own."""
        return self.quantizer.code_dim is not None

    def _stage(self, depth: int) -> VectorQuantizer:
        return self.stages[0 if self.shared else depth]

    def _cascade(
        self,
        z: jax.Array,
        quantize: Callable[[VectorQuantizer, jax.Array], jax.Array],
        used: list[jax.Array] | None = None,
    ) -> jax.Array:
        """The sum of what a function makes of the residual at each depth; in each example, of those used."""
        total, residual = jnp.zeros_like(z), z
        for depth in range(self.depth):
            e = quantize(self._stage(depth), residual)
            total += e if used is None else jnp.where(used[depth][..., None], e, 0)
            residual -= e if self._maps else jax.lax.stop_gradient(e)
        return total

    def _used(self, z: jax.Array, part: Part) -> list[jax.Array]:
        """Of each depth, which examples have it, bool [b 1 ...], by random numbers of the example's own."""

        def depths(key: jax.Array) -> jax.Array:
            some, count = jax.random.split(key)
            fewer = jax.random.randint(count, (), 1, self.depth + 1)
            return jnp.where(jax.random.bernoulli(some, self.dropout), fewer, self.depth)

        counts = jax.vmap(depths)(part.keys(self.make_rng('codebook')))
        counts = counts.reshape(-1, *[1] * (z.ndim - 2))
        return [depth < counts for depth in range(self.depth)]

    def _observe(
        self,
        compared: list[jax.Array],
        codes: list[jax.Array],
        part: Part | None,
        used: list[jax.Array] | None,
    ) -> None:
        """Lets each codebook see the vectors that were compared with it, and which codes they got."""
        if self.shared:  # the depths of an example side by side, as if they were positions
            of_depths = None if used is None else jnp.stack(used, axis=1)
            self.stages[0].observe(jnp.stack(compared, 1), jnp.stack(codes, 1), part, of_depths)
            return
        for i, stage in enumerate(self.stages):
            stage.observe(compared[i], codes[i], part, None if used is None else used[i])

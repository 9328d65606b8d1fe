"""Multi-scale residual quantization: each scale quantizes, on its own grid, what the coarser ones leave."""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.ops import quantization
from vq_jax.ops.conv import conv
from vq_jax.ops.interpolation import area, bicubic
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import Quantized, check_width
from vq_jax.quantizers.vq import VectorQuantizer

Scales = tuple[jax.Array, ...]  # codes of each scale, int32 [b *grid 1], from coarse to fine


class MultiScaleQuantizer(nn.Module):
    """The multi-scale residual quantizer of VAR (Tian et al. 2024, arXiv:2404.02905), algorithms 1 and 2.

    Scale i has a grid of its own. What the coarser scales left over of the vectors is averaged over the parts
    of that grid, and each average gets the nearest code of one codebook for all scales. The codes' vectors
    are brought to the grid of z by bicubic interpolation, a convolution phi gives back detail that this
    loses, and the result is added to the sum. What goes out is the sum `f_n` of all n scales, and the loss
    that of the authors' code, over the sums of the first scales,

        mean over i of ||f_i - sg(z)||^2 + commitment ||sg(f_i) - z||^2,

    so that each of these comes as near to the vectors as it can, and can be decoded alone. A codebook that
    learns by moving average has no part in the gradient of the first term, and learns from the averages that
    have its codes, of all scales together.

    It is a `Multiscale` bottleneck: codes are a tuple, and values one array.

    Attributes:
        quantizer: has the codebook.
        grid: of the vectors that come in and go out.
        scales: how many positions the grid of each scale has along the longest axis of `grid`, from coarse to
            fine, the last as many as that; along other axes, in proportion, rounded up. Some may be equal.
        convolutions: how many phi there are, each with weights of its own, shared by neighbouring scales. As
            many as there are scales, or more, are one for each.
        blend: how much of phi is the convolution: `phi(x) = (1 - blend) x + blend conv(x)`, with a kernel
            three positions wide. 0 leaves it out.
        shared_codebook: see `Multiscale`.
    """

    shared_codebook: ClassVar[bool] = True

    quantizer: VectorQuantizer
    grid: tuple[int, ...] = (16, 16)
    scales: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    convolutions: int = 4
    blend: float = 0.5

    def __post_init__(self) -> None:
        check_least(1, self, 'grid', 'scales', 'convolutions')
        check_share(self, 'blend')
        if list(self.scales) != sorted(self.scales):
            raise UserError(f'scales is {self.scales}; give them from coarse to fine.')
        if self.scales[-1] != max(self.grid):
            raise UserError(
                f'scales is {self.scales}, and the vectors have a grid of {_in_words(self.grid)}; let the '
                f'last be {max(self.grid)}.'
            )
        if self.quantizer.code_dim is not None:
            raise UserError(
                f'a multi-scale quantizer compares vectors as they are, and its quantizer has a code_dim of '
                f'{self.quantizer.code_dim}; leave that out, and give the vectors themselves fewer numbers.'
            )
        if self.quantizer.cosine and self.quantizer.unit_length:
            raise UserError(
                'a multi-scale quantizer subtracts codes, and with cosine those of its quantizer are of unit '
                'length; give it unit_length=False.'
            )
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        self.phi = [_Phi(self.blend) for _ in range(self._num_phi if self.blend else 0)]

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes vectors [b *grid dim]; the arguments are those of `Quantizer`.

        Training calls want what those of `VectorQuantizer` want. Metrics are means over the scales.

        Raises:
            UserError: if the vectors have another grid.
        """
        z = self._checked(z)
        compared, codes, sums = self._quantize(z)
        if train and not self.is_initializing():
            # The positions of all scales of an example side by side.
            flat = [jnp.concatenate([_flat(x) for x in scales], axis=1) for scales in (compared, codes)]
            self.quantizer.observe(*flat, part)

        commitment = sum(quantization.commitment_loss(z, f) for f in sums) / len(sums)
        codebook_loss = sum(quantization.codebook_loss(z, f) for f in sums) / len(sums)
        loss = self.quantizer.commitment * commitment + codebook_loss
        metrics = {'commitment_loss': jnp.mean(commitment), 'codebook_loss': jnp.mean(codebook_loss)}
        if self.quantizer.orthogonality:
            metrics['orthogonality_loss'] = quantization.orthogonality_loss(self.quantizer.vectors())
            loss += self.quantizer.orthogonality * metrics['orthogonality_loss']
        return Quantized(
            values=quantization.ESTIMATORS[self.quantizer.estimator](z, sums[-1]),
            codes=tuple(codes),
            loss=loss,
            metrics=metrics,
        )

    @property
    def dim(self) -> int:
        """Width of the vectors that come in and go out."""
        return self.quantizer.dim

    @property
    def grids(self) -> tuple[tuple[int, ...], ...]:
        """The sizes of the axes of each scale's codes."""
        longest = max(self.grid)
        return tuple(tuple(-(-n * scale // longest) for n in self.grid) for scale in self.scales)

    @property
    def quantizers(self) -> tuple[VectorQuantizer, ...]:
        """See `Multiscale`: it is the same for all."""
        return (self.quantizer,) * len(self.scales)

    @property
    def decodable_scales(self) -> tuple[int, ...]:
        """See `Multiscale`: any number of them."""
        return tuple(range(1, len(self.scales) + 1))

    @property
    def init_batches(self) -> int:
        """See `StartsFromData`."""
        return self.quantizer.init_batches

    def init_from_data(self, key: jax.Array, z: jax.Array) -> None:
        """Begins with k-means, anew at each scale, over what all scales so far are given.

        As long as these are fewer than the codes, each could have a code of its own, and nothing would be
        left over of it. The vectors [n dim] are those of whole grids, one after another.
        """
        keys, seen = jax.random.split(key, len(self.scales)), []

        def begin(vectors: jax.Array) -> jax.Array:
            seen.append(vectors.reshape(-1, self.dim))
            last = len(seen) == len(self.scales)
            if sum(map(len, seen)) < self.quantizer.num_codes and not last:
                return vectors
            self.quantizer.init_from_data(keys[len(seen) - 1], jnp.concatenate(seen))
            return self.quantizer.lookup(self.quantizer.nearest(vectors))

        self._cascade(self._checked(z.reshape(-1, *self.grid, z.shape[-1])), begin)

    def lookup(self, codes: Scales) -> jax.Array:
        """The sum [b *grid dim] that stands for codes, int32 [b *grid' 1] of all scales or the first alone.

        Raises:
            UserError: if there are more scales, or other grids.
        """
        given = tuple(scale.shape[1:-1] for scale in codes)
        if not given or given != self.grids[: len(given)]:
            raise UserError(
                f'the codes have grids of {", ".join(map(_in_words, given))}, and were made on '
                f'{", ".join(map(_in_words, self.grids))}; give all of these, or the first so many.'
            )
        return sum(self._spread(self.quantizer.lookup(scale), i) for i, scale in enumerate(codes))

    def vectors(self, z: jax.Array, scale: int) -> jax.Array:
        """What is compared with the codes at a scale [b *grid' dim], of vectors [b *grid dim]."""
        return self._quantize(self._checked(z))[0][scale]

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`."""
        return self.quantizer.after_update()

    def _checked(self, z: jax.Array) -> jax.Array:
        check_width(z, self.dim)
        if z.shape[1:-1] != self.grid:
            raise UserError(
                f'the vectors have a grid of {_in_words(z.shape[1:-1])}, and the scales end with '
                f'{_in_words(self.grid)}; give examples of the size that was learned.'
            )
        return z.astype(jnp.float32)

    def _quantize(self, z: jax.Array) -> tuple[list[jax.Array], list[jax.Array], list[jax.Array]]:
        """What each scale compares, the codes nearest to it, and the sums after each scale."""
        compared, codes = [], []

        def nearest(vectors: jax.Array) -> jax.Array:
            compared.append(vectors)
            codes.append(self.quantizer.nearest(vectors))
            return self.quantizer.lookup(codes[-1])

        return compared, codes, self._cascade(z, nearest)

    def _cascade(self, z: jax.Array, choose: Callable[[jax.Array], jax.Array]) -> list[jax.Array]:
        """The sums after each scale, of what a function makes of the averages of the residual."""
        total, sums = jnp.zeros_like(z), []
        for i, grid in enumerate(self.grids):
            total += self._spread(choose(area(jax.lax.stop_gradient(z - total), grid)), i)
            sums.append(total)
        return sums

    def _spread(self, e: jax.Array, scale: int) -> jax.Array:
        """Vectors of a scale [b *grid' dim], brought to the grid of the vectors."""
        x = bicubic(e, self.grid)
        return self.phi[self._phi_of(scale)](x) if self.blend else x

    @property
    def _num_phi(self) -> int:
        return min(self.convolutions, len(self.scales))

    def _phi_of(self, scale: int) -> int:
        """Which convolution a scale has: the one nearest to it, when both are spread over [0, 1].

        Scales are from 0 to 1, and convolutions half a step within, but a third where there are four: so it
        is in the authors' code, and thus in the weights that they published.
        """
        k = self._num_phi
        margin = 1 / (3 if k == 4 else 2) / k
        at = scale / max(1, len(self.scales) - 1)
        return int(np.argmin(np.abs(np.linspace(margin, 1 - margin, k) - at)))


class _Phi(nn.Module):
    """A convolution beside what it is given, which begins as PyTorch's does.

    Attributes:
        blend: its share.
    """

    blend: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to the same shape."""
        c, rank = x.shape[-1], x.ndim - 2
        uniform = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')
        kernel = self.param('kernel', uniform, (*(3,) * rank, c, c), jnp.float32)
        bias = self.param('bias', nn.initializers.zeros_init(), (c,), jnp.float32)
        # What is left over for the scales after it depends on all its digits.
        with jax.default_matmul_precision('highest'):
            y = conv(x, kernel) + bias
        return (1 - self.blend) * x + self.blend * y


def _flat(x: jax.Array) -> jax.Array:
    """Arrays [b *grid n] as [b positions n]."""
    return x.reshape(len(x), -1, x.shape[-1])


def _in_words(grid: tuple[int, ...]) -> str:
    return 'x'.join(map(str, grid))

"""The two scales of codes of VQ-VAE-2: the coarse ones say what is where, the fine ones add the detail.

Razavi et al. 2019 (arXiv:1906.00446), section 3.1 and algorithm 1, where the coarse scale is called 'top' and
the fine one 'bottom': the fine vectors are made of the example and of the decoded coarse codes, and the
decoder sees the codes of both.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.convolution import Conv, ConvTranspose, strided_sizes
from vq_jax.models.strided import StridedEncoder, StridedSizes, StridedTrunk, strided_decoder
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import Quantized, Quantizer, after_update

Pair = tuple[jax.Array, jax.Array]  # of the coarse scale, and of the fine one


class TwoScaleBottleneck(nn.Module):
    """Quantizes features at two scales; a `Multiscale` bottleneck.

    Attributes:
        quantizers: of the coarse and of the fine scale, whose vectors are equally wide.
        sizes: of encoder and decoder between the scales; its stages are those from the fine grid to the
            coarse one.
        shared_codebook: see `Multiscale`, as for what follows.
        decodable_scales: both.
    """

    shared_codebook: ClassVar[bool] = False
    decodable_scales: ClassVar[tuple[int, ...]] = (2,)

    quantizers: tuple[Quantizer, Quantizer]
    sizes: StridedSizes

    def setup(self) -> None:  # noqa: D102 (Flax's)
        dim = self.quantizers[1].dim
        self.encoder = StridedEncoder(self.sizes, dim)
        self.decoder = strided_decoder(self.sizes, dim)
        self.join = Conv(dim, 1, dtype=self.sizes.dtype)

    def __call__(
        self, z: jax.Array, train: bool = False, part: Part | None = None, step: jax.Array | None = None
    ) -> Quantized:
        """Quantizes features [b *fine channels]; the arguments are those of `Quantizer`.

        Returns:
            Values and codes are pairs, with fine = coarse * strides^stages; the loss is the sum of both, and
            the names of metrics end with '_scale_0' for the coarse scale and '_scale_1' for the fine one.
        """
        training = {'train': train, 'part': part, 'step': step}
        coarse = self.quantizers[0](self.vectors(z, 0), **training)
        fine = self.quantizers[1](self._fine(z, coarse.values), **training)
        return Quantized(
            values=(coarse.values, fine.values),
            codes=(coarse.codes, fine.codes),
            loss=coarse.loss + fine.loss,
            metrics=_of_both(coarse.metrics, fine.metrics),
        )

    def lookup(self, codes: Pair) -> Pair:
        """The vectors [... dim] that stand for codes, int32 [... depth], of both scales."""
        coarse, fine = (q.lookup(c) for q, c in zip(self.quantizers, codes, strict=True))
        return coarse, fine

    def vectors(self, z: jax.Array, scale: int) -> jax.Array:
        """What the quantizer of a scale is given of features [b *fine channels]: [b *grid dim]."""
        coarse = self.encoder(nn.relu(z))
        return self._fine(z, self.quantizers[0](coarse).values) if scale else coarse

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`."""
        return _of_both(*map(after_update, self.quantizers))

    def _fine(self, z: jax.Array, coarse: jax.Array) -> jax.Array:
        """The vectors of the fine scale [b *fine dim], given those that stand for the coarse codes."""
        return self.join(jnp.concatenate([nn.relu(z), self.decoder(coarse)], axis=-1))


class TwoScaleTrunk(nn.Module):
    """The trunk of the strided decoder, of vectors of both scales.

    Attributes:
        sizes: of the decoder.
        enlarged: how many times finer the fine grid is, along all axes or each.
    """

    sizes: StridedSizes
    enlarged: tuple[int, ...]

    @nn.compact
    def __call__(self, vectors: Pair) -> jax.Array:
        """Maps vectors [b *coarse d] and [b *fine d] to what the last layer is given."""
        coarse, fine = vectors
        enlarge = ConvTranspose(
            fine.shape[-1],
            strided_sizes(self.enlarged),
            self.enlarged,
            dtype=self.sizes.dtype,
            name='enlarge',
        )
        return StridedTrunk(self.sizes)(jnp.concatenate([enlarge(coarse), fine], axis=-1))


def _of_both(coarse: dict[str, Any], fine: dict[str, Any]) -> dict[str, Any]:
    return {f'{name}_scale_{i}': x for i, metrics in enumerate((coarse, fine)) for name, x in metrics.items()}

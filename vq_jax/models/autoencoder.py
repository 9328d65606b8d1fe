"""An autoencoder: an encoder, a bottleneck and a decoder, whatever these are."""

import dataclasses
from typing import Any

import jax
from flax import linen as nn

from vq_jax.models.context import NOTHING, Context, VectorEmbedding
from vq_jax.models.decoder import Decoder
from vq_jax.models.observation import Distribution, Observation, expected
from vq_jax.ops.grids import over_grid
from vq_jax.ops.parts import Part
from vq_jax.quantizers.gaussian import GaussianBottleneck, Posterior
from vq_jax.quantizers.quantizer import (
    Multiscale,
    Quantized,
    Quantizer,
    StartsFromData,
    after_update,
    decodable,
)

Codes = tuple[jax.Array, ...]  # codes, int32 [b *grid depth], or latents [b ... d], from coarse to fine


class Autoencoder(nn.Module):
    """An encoder, a bottleneck, a decoder, and maybe a head that makes its outputs a likelihood.

    By its parts it is a VAE (Kingma and Welling 2014, arXiv:1312.6114), a VQ-VAE (van den Oord et al. 2017,
    arXiv:1711.00937), a VQ-VAE-2 (Razavi et al. 2019, arXiv:1906.00446; see `vq_jax.models.two_scales`), a
    VQGAN (Esser et al. 2021, arXiv:2012.09841) or a KL autoencoder (Rombach et al. 2022, arXiv:2112.10752).

    Attributes:
        encoder: maps examples [b *grid c] to what the bottleneck is given [b ... d].
        bottleneck: a quantizer, one or several of them as `Multiscale`, or a Gaussian.
        decoder: maps what the bottleneck passes on to examples [b *grid c].
        head: the likelihood of examples, whose parameters the decoder's outputs are; None if they are the
            reconstructions.
        conditional: whether the decoder is given the vector of a context, such as a class, too; only around
            a bottleneck with a `dim`, whose values are one array.
    """

    encoder: nn.Module
    bottleneck: Quantizer | Multiscale | GaussianBottleneck
    decoder: Decoder
    head: Observation | None = None
    conditional: bool = False

    def setup(self) -> None:  # noqa: D102 (Flax's)
        if self.conditional:
            self.condition = VectorEmbedding(self.bottleneck.dim)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """One for each scale of codes, from coarse to fine; none for a Gaussian."""
        if isinstance(self.bottleneck, Multiscale):
            return self.bottleneck.quantizers
        return () if isinstance(self.bottleneck, GaussianBottleneck) else (self.bottleneck,)

    @property
    def vocabularies(self) -> tuple[tuple[int, ...], ...]:
        """How many codes there are, of each scale at each depth; empty for continuous latents."""
        return tuple(tuple(quantizer.vocabulary) for quantizer in self.quantizers)

    @property
    def decodable(self) -> tuple[tuple[int, ...], ...]:
        """How many codes of a position can be decoded, of each scale (see `DecodesFewer`)."""
        return tuple(decodable(quantizer) for quantizer in self.quantizers)

    @property
    def decodable_scales(self) -> tuple[int, ...]:
        """Of how many scales `decode` takes the codes, the first so many, in ascending order."""
        return self.bottleneck.decodable_scales if isinstance(self.bottleneck, Multiscale) else (1,)

    @property
    def shared_codebook(self) -> bool:
        """Whether several scales take their codes from one codebook."""
        return isinstance(self.bottleneck, Multiscale) and self.bottleneck.shared_codebook

    @property
    def beginners(self) -> tuple[Any, ...]:
        """What may begin from data (see `StartsFromData`): the bottleneck, or its quantizers one by one."""
        return (self.bottleneck,) if isinstance(self.bottleneck, StartsFromData) else self.quantizers

    def __call__(
        self,
        x: jax.Array,
        context: Context = NOTHING,
        train: bool = False,
        part: Part | None = None,
        step: jax.Array | None = None,
    ) -> tuple[jax.Array | Distribution, Quantized]:
        """Reconstructs examples.

        Args:
            x: in [-1, 1] [b *grid c].
            context: of the decoder.
            train: see `Quantizer`, as for all that follow.
            part: which examples of the whole batch they are.
            step: training steps done.

        Returns:
            Reconstructions about in [-1, 1], or `p(x | z)` if there is a head; and what the bottleneck did,
            whose codes (or means of latents) are a tuple of scales, from coarse to fine.
        """
        features, quantized = self.features(x, context, train=train, part=part, step=step)
        return self.last(features), quantized

    def features(
        self, x: jax.Array, context: Context = NOTHING, **training: Any
    ) -> tuple[jax.Array, Quantized]:
        """All but the last layer, which is `last`; the arguments are those of a call."""
        quantized = self.quantized(self.encoder(x), **training)
        return self._trunk(quantized.values, context), quantized

    def quantized(self, z: jax.Array, **training: Any) -> Quantized:
        """What the bottleneck makes of what the encoder returns [b ... d]: what `__call__` returns second."""
        quantized = self.bottleneck(z, **training)
        return dataclasses.replace(quantized, codes=_scales(quantized.codes))

    def reconstruct(self, values: Any, context: Context = NOTHING) -> jax.Array | Distribution:
        """What `__call__` returns first, of the values that the bottleneck passes on."""
        return self.last(self._trunk(values, context))

    def last(self, features: jax.Array) -> jax.Array | Distribution:
        """The last layer, and the head if there is one, of what `features` returned."""
        outputs = self.decoder.outputs(features)
        return outputs if self.head is None else self.head(outputs)

    def encode(self, x: jax.Array) -> Codes:
        """Codes, or means of latents, of examples in [-1, 1] [b *grid c]."""
        return _scales(self.bottleneck(self.encoder(x)).codes)

    def outputs(self, codes: Codes, context: Context = NOTHING) -> jax.Array | Distribution:
        """What `__call__` returns first, of codes or latents."""
        codes = codes if isinstance(self.bottleneck, Multiscale) else codes[0]
        return self.reconstruct(self.bottleneck.lookup(codes), context)

    def decode(self, codes: Codes, context: Context = NOTHING) -> jax.Array:
        """Examples [b *grid c], about in [-1, 1], of codes or latents; expected ones, if there is a head.

        Of several scales, the first alone will do if so many are among `decodable_scales`.
        """
        return expected(self.outputs(codes, context))

    def lookup(self, codes: Codes) -> Codes:
        """The vectors [... dim] that stand for codes, int32 [... depth] of each scale."""
        return tuple(quantizer.lookup(scale) for quantizer, scale in zip(self.quantizers, codes, strict=True))

    def posterior(self, x: jax.Array) -> Posterior:
        """The Gaussian of examples in [-1, 1] [b *grid c]; only of a Gaussian bottleneck."""
        return self.bottleneck.posterior(self.encoder(x))

    def vectors(self, x: jax.Array, scale: int = 0) -> jax.Array:
        """What the quantizer of a scale is given of examples in [-1, 1]: [b *grid' dim]."""
        return self.given(self.encoder(x), scale)

    def given(self, z: jax.Array, scale: int = 0) -> jax.Array:
        """The same, of what the encoder returns [b ... d]."""
        return self.bottleneck.vectors(z, scale) if isinstance(self.bottleneck, Multiscale) else z

    def project(self, x: jax.Array) -> jax.Array:
        """The vectors [b *grid' code_dim] that are compared with the codes; only of one scale."""
        return self.bottleneck.project(self.encoder(x))

    def nearest(self, vectors: jax.Array) -> Codes:
        """The codes nearest to vectors [... code_dim]; only of one scale."""
        return _scales(self.bottleneck.nearest(vectors))

    def beginning(self, x: jax.Array, i: int) -> jax.Array:
        """The vectors [b *grid' dim] of examples in [-1, 1] from which one of `beginners` may begin."""
        return self.encoder(x) if isinstance(self.bottleneck, StartsFromData) else self.vectors(x, i)

    def init_codes(self, key: jax.Array, vectors: jax.Array, i: int) -> None:
        """Lets one of `beginners` begin from vectors (see `StartsFromData`)."""
        self.beginners[i].init_from_data(key, vectors)

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`."""
        return after_update(self.bottleneck)

    def _trunk(self, values: Any, context: Context) -> jax.Array:
        if self.conditional:
            values = values + over_grid(self.condition(context.vector), values)
        return self.decoder.trunk(values)


def _scales(codes: Any) -> Codes:
    """What a bottleneck has of each scale; one of a single scale gives it as it is."""
    return codes if isinstance(codes, tuple) else (codes,)

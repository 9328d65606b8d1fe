"""VQGAN's generator: encoder, bottleneck, decoder. With a Gaussian bottleneck, the KL autoencoder."""

import jax
from flax import linen as nn

from vq_jax.models.residual import ResidualDecoder, ResidualEncoder, ResidualSizes
from vq_jax.ops.grids import over_grid
from vq_jax.ops.parts import Part
from vq_jax.quantizers.gaussian import GaussianBottleneck
from vq_jax.quantizers.quantizer import Quantized, Quantizer, after_update

LAST_KERNEL = ('decoder', 'last', 'kernel')  # where the kernel of the last layer is among the parameters


class VQGAN(nn.Module):
    """The generator of Esser et al. 2021 (arXiv:2012.09841).

    Attributes:
        bottleneck: the quantizer, or the Gaussian of Rombach et al. 2022 (arXiv:2112.10752). Its `dim`
            must be `sizes.features`.
        sizes: of encoder and decoder.
        out_channels: of the examples that come out; those that go in may have others.
        num_classes: if not 0, the decoder is given a class as well as the codes.
    """

    bottleneck: Quantizer | GaussianBottleneck
    sizes: ResidualSizes
    out_channels: int = 3
    num_classes: int = 0

    def setup(self) -> None:  # noqa: D102 (Flax's)
        gaussian = isinstance(self.bottleneck, GaussianBottleneck)
        self.encoder = ResidualEncoder(self.sizes, self.sizes.features * (2 if gaussian else 1))
        self.decoder = ResidualDecoder(self.sizes, self.out_channels)
        if self.num_classes:
            self.class_vectors = nn.Embed(self.num_classes, self.sizes.features)

    def __call__(
        self,
        x: jax.Array,
        labels: jax.Array | None = None,
        train: bool = False,
        part: Part | None = None,
        step: jax.Array | None = None,
    ) -> tuple[jax.Array, Quantized]:
        """Reconstructs examples in [-1, 1] [b *grid c]; also returns what the bottleneck did."""
        features, latent = self.features(x, labels, train, part, step)
        return self.head(features), latent

    def features(
        self,
        x: jax.Array,
        labels: jax.Array | None = None,
        train: bool = False,
        part: Part | None = None,
        step: jax.Array | None = None,
    ) -> tuple[jax.Array, Quantized]:
        """All but the last layer, which is `head`: [b *grid features]."""
        latent = self.bottleneck(self.encoder(x), train=train, part=part, step=step)
        return self.decoder.trunk(self._conditioned(latent.values, labels)), latent

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`."""
        return after_update(self.bottleneck)

    def head(self, features: jax.Array) -> jax.Array:
        """The last layer: examples [b *grid out_channels], float32, of what `features` returned."""
        return self.decoder.head(features)

    def encode(self, x: jax.Array) -> jax.Array:
        """Codes, int32 [b *grid'], or latents, float32 [b *grid' d], of examples in [-1, 1] [b *grid c]."""
        return self.bottleneck(self.encoder(x)).codes

    def decode(self, codes: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """Examples [b *grid out_channels], about in [-1, 1], of codes or latents."""
        return self.decoder(self._conditioned(self.bottleneck.lookup(codes), labels))

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [...]."""
        return self.bottleneck.lookup(codes)

    def vectors(self, x: jax.Array) -> jax.Array:
        """What the bottleneck is given of examples: [b *grid' dim]."""
        return self.encoder(x)

    def project(self, x: jax.Array) -> jax.Array:
        """The vectors [b *grid' code_dim] that are compared with the codes."""
        return self.bottleneck.project(self.encoder(x))

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [...], nearest to vectors [... code_dim]."""
        return self.bottleneck.nearest(vectors)

    def init_codes(self, key: jax.Array, vectors: jax.Array) -> None:
        """See `StartsFromData`."""
        self.bottleneck.init_from_data(key, vectors)

    def _conditioned(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
        return z + over_grid(self.class_vectors(labels), z) if self.num_classes else z

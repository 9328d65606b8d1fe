"""The VQ-VAE with two levels of codes: the top ones say what is where, the bottom ones add the detail."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.autoencoder import Decoder, Encoder
from vq_jax.models.convolution import Conv, ConvTranspose
from vq_jax.models.observation import Observation, PixelDistribution, to_image
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import Quantized, Quantizer, after_update

Levels = tuple[jax.Array, jax.Array]


class VQVAE2(nn.Module):
    """The two-level VQ-VAE of Razavi et al. 2019 (arXiv:1906.00446), section 3.1.

    Their algorithm 1: the bottom vectors are made of the image and of the decoded top codes; the decoder
    sees the codes of both levels.

    Attributes:
        quantizer: of the bottom level.
        top_quantizer: of the top level; vectors of both are equally wide.
        observation: what the decoder's outputs say about pixels; None if they are the pixels.
        image_channels: 1 for grey images, 3 for colour.
        channels: channels of encoders and decoders.
        stages: how often height and width are halved up to the bottom codes, at least once.
        top_stages: how often they are halved from there to the top codes, at least once.
        residual_blocks: residual blocks in each encoder and decoder.
        residual_channels: channels inside them.
        dtype: what the layers compute in; parameters, codes and losses are float32.
    """

    quantizer: Quantizer
    top_quantizer: Quantizer
    observation: Observation | None = None
    image_channels: int = 3
    channels: int = 128
    stages: int = 2
    top_stages: int = 1
    residual_blocks: int = 2
    residual_channels: int = 32
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def setup(self) -> None:  # noqa: D102 (Flax's)
        sizes = {
            'channels': self.channels,
            'residual_blocks': self.residual_blocks,
            'residual_channels': self.residual_channels,
            'dtype': self.dtype,
        }
        dim, factor = self.quantizer.dim, 2**self.top_stages
        self.bottom_encoder = Encoder(features=self.channels, stages=self.stages, **sizes)
        self.top_encoder = Encoder(features=dim, stages=self.top_stages, **sizes)
        self.top_decoder = Decoder(features=dim, stages=self.top_stages, **sizes)
        self.join = Conv(dim, (1, 1), dtype=self.dtype)
        self.enlarge = ConvTranspose(dim, (2 * factor, 2 * factor), strides=factor, dtype=self.dtype)
        self.decoder = Decoder(features=self.image_channels, stages=self.stages, **sizes)

    @property
    def factor(self) -> int:
        """How much smaller the grid of top codes is than the image, in height and width."""
        return 2 ** (self.stages + self.top_stages)

    def __call__(
        self,
        images: jax.Array,
        train: bool = False,
        part: Part | None = None,
        step: jax.Array | None = None,
    ) -> tuple[jax.Array | PixelDistribution, Quantized]:
        """What is made of images in [-1, 1] (see `outputs`), and what the quantizers did.

        Args:
            images: [b h w c].
            train: see the quantizers.
            part: see `Quantizer`.
            step: see `Quantizer`.

        Returns:
            Of the quantizers, values and codes are pairs, top and bottom; the loss is the sum of both, and
            the names of the top level's metrics begin with 'top_'.
        """
        top, bottom = self._quantize(images, train=train, part=part, step=step)
        quantized = Quantized(
            values=(top.values, bottom.values),
            codes=(top.codes, bottom.codes),
            loss=top.loss + bottom.loss,
            metrics=_of_both(top.metrics, bottom.metrics),
        )
        return self._outputs(*quantized.values), quantized

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`."""
        return _of_both(after_update(self.top_quantizer), after_update(self.quantizer))

    def encode(self, images: jax.Array) -> Levels:
        """Codes of images [b h w c] in [-1, 1].

        Returns:
            Those of the top, int32 [b h2 w2], and of the bottom, int32 [b h1 w1], with
            h1 = 2^top_stages h2.
        """
        top, bottom = self._quantize(images)
        return top.codes, bottom.codes

    def outputs(self, codes: Levels) -> jax.Array | PixelDistribution:
        """Images [b h w c], about in [-1, 1], or `p(x | z)`, of top and bottom codes."""
        top, bottom = codes
        return self._outputs(self.top_quantizer.lookup(top), self.quantizer.lookup(bottom))

    def decode(self, codes: Levels) -> jax.Array:
        """Images [b h w c], about in [-1, 1], of top and bottom codes."""
        return to_image(self.outputs(codes))

    def lookup(self, codes: Levels) -> Levels:
        """The vectors [... dim] that stand for top and bottom codes, int32 [...]."""
        top, bottom = codes
        return self.top_quantizer.lookup(top), self.quantizer.lookup(bottom)

    def project(self, images: jax.Array) -> jax.Array:
        """The bottom's vectors [b h1 w1 code_dim] that are compared with its codes."""
        features = self._features(images)
        top = self.top_quantizer(self.top_encoder(features))
        return self.quantizer.project(self._bottom(features, top.values))

    def project_top(self, images: jax.Array) -> jax.Array:
        """The top's vectors [b h2 w2 code_dim] that are compared with its codes."""
        return self.top_quantizer.project(self.top_encoder(self._features(images)))

    def set_codes(self, centres: jax.Array, shares: jax.Array) -> None:
        """Puts the bottom's codes at given places (see `VectorQuantizer.set_codes`)."""
        self.quantizer.set_codes(centres, shares)

    def set_top_codes(self, centres: jax.Array, shares: jax.Array) -> None:
        """Puts the top's codes at given places (see `VectorQuantizer.set_codes`)."""
        self.top_quantizer.set_codes(centres, shares)

    def _quantize(self, images: jax.Array, **training: Any) -> tuple[Quantized, Quantized]:
        features = self._features(images)
        top = self.top_quantizer(self.top_encoder(features), **training)
        bottom = self.quantizer(self._bottom(features, top.values), **training)
        return top, bottom

    def _features(self, images: jax.Array) -> jax.Array:
        """What both levels are made of [b h1 w1 channels]."""
        return nn.relu(self.bottom_encoder(images))

    def _bottom(self, features: jax.Array, top_values: jax.Array) -> jax.Array:
        """The bottom's vectors [b h1 w1 dim], given the top's."""
        return self.join(jnp.concatenate([features, self.top_decoder(top_values)], axis=-1))

    def _outputs(self, top: jax.Array, bottom: jax.Array) -> jax.Array | PixelDistribution:
        painted = self.decoder(jnp.concatenate([self.enlarge(top), bottom], axis=-1))
        return painted if self.observation is None else self.observation(painted)


def _of_both(top: dict[str, jax.Array], bottom: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {**bottom, **{f'top_{name}': x for name, x in top.items()}}

"""The strided convolutional encoder and decoder of the VQ-VAE, and the two around a quantizer."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.models.convolution import Conv, ConvTranspose
from vq_jax.models.observation import Observation, PixelDistribution, to_image
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import Quantized, Quantizer, after_update


class ResidualBlock(nn.Module):
    """ReLU, 3x3 convolution, ReLU, 1x1 convolution, added to the input.

    van den Oord et al. 2017 (arXiv:1711.00937), section 4.1.

    Attributes:
        hidden: channels between the two convolutions.
        dtype: what the convolutions compute in.
    """

    hidden: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b h w c] to [b h w c]."""
        h = Conv(self.hidden, (3, 3), dtype=self.dtype)(nn.relu(x))
        return x + Conv(x.shape[-1], (1, 1), dtype=self.dtype)(nn.relu(h))


class Encoder(nn.Module):
    """Images to a grid of vectors: strided convolutions, then residual blocks.

    Attributes:
        features: width of the vectors.
        channels: channels of the layers.
        stages: convolutions of size 4 and stride 2; each halves height and width.
        residual_blocks: how many follow at the lowest resolution.
        residual_channels: channels inside them.
        dtype: what the layers compute in.
    """

    features: int
    channels: int
    stages: int
    residual_blocks: int
    residual_channels: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images [b h w c] to vectors [b h/2^stages w/2^stages features]."""
        for _ in range(self.stages):
            x = nn.relu(Conv(self.channels, (4, 4), strides=2, dtype=self.dtype)(x))
        x = Conv(self.channels, (3, 3), dtype=self.dtype)(x)
        for _ in range(self.residual_blocks):
            x = ResidualBlock(self.residual_channels, self.dtype)(x)
        return Conv(self.features, (1, 1), dtype=self.dtype)(nn.relu(x))


class Decoder(nn.Module):
    """The encoder's mirror image: residual blocks, then transposed convolutions.

    Attributes:
        features: channels of the images.
        channels: channels of the layers.
        stages: transposed convolutions of size 4 and stride 2; each doubles height and width.
        residual_blocks: how many come first.
        residual_channels: channels inside them.
        dtype: what the layers compute in.
    """

    features: int
    channels: int
    stages: int
    residual_blocks: int
    residual_channels: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b h w d] to images [b h*2^stages w*2^stages features], float32."""
        x = Conv(self.channels, (3, 3), dtype=self.dtype)(z)
        for _ in range(self.residual_blocks):
            x = ResidualBlock(self.residual_channels, self.dtype)(x)
        x = nn.relu(x)
        for stage in range(self.stages):
            last = stage == self.stages - 1
            width = self.features if last else self.channels
            x = ConvTranspose(width, (4, 4), strides=2, dtype=self.dtype)(x)
            x = x if last else nn.relu(x)
        return x.astype(jnp.float32)


class VQVAE(nn.Module):
    """The VQ-VAE of van den Oord et al. 2017 (arXiv:1711.00937).

    Attributes:
        quantizer: turns the encoder's vectors into codes.
        observation: what the decoder's outputs say about pixels; None if they are the pixels.
        image_channels: 1 for grey images, 3 for colour.
        channels: channels of encoder and decoder.
        stages: how often height and width are halved, at least once: 2 makes 32x32 pixels 8x8 codes.
        residual_blocks: residual blocks in each of encoder and decoder.
        residual_channels: channels inside them.
        dtype: what the layers compute in; parameters, codes and losses are float32.
    """

    quantizer: Quantizer
    observation: Observation | None = None
    image_channels: int = 3
    channels: int = 128
    stages: int = 2
    residual_blocks: int = 2
    residual_channels: int = 32
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def setup(self) -> None:  # noqa: D102 (Flax's)
        sizes = {
            'channels': self.channels,
            'stages': self.stages,
            'residual_blocks': self.residual_blocks,
            'residual_channels': self.residual_channels,
            'dtype': self.dtype,
        }
        self.encoder = Encoder(features=self.quantizer.dim, **sizes)
        self.decoder = Decoder(features=self.image_channels, **sizes)

    @property
    def factor(self) -> int:
        """How much smaller the grid of codes is than the image, in height and width."""
        return 2**self.stages

    def __call__(
        self,
        images: jax.Array,
        train: bool = False,
        part: Part | None = None,
        step: jax.Array | None = None,
    ) -> tuple[jax.Array | PixelDistribution, Quantized]:
        """What is made of images in [-1, 1] (see `outputs`), and what the quantizer did.

        Args:
            images: [b h w c].
            train: see the quantizer.
            part: see `Quantizer`.
            step: see `Quantizer`.
        """
        quantized = self.quantizer(self.encoder(images), train=train, part=part, step=step)
        return self._outputs(quantized.values), quantized

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`."""
        return after_update(self.quantizer)

    def encode(self, images: jax.Array) -> jax.Array:
        """Codes, int32 [b h' w'], of images [b h w c] in [-1, 1]."""
        return self.quantizer(self.encoder(images)).codes

    def outputs(self, codes: jax.Array) -> jax.Array | PixelDistribution:
        """Images [b h w c], about in [-1, 1], or `p(x | z)`, of codes, int32 [b h' w']."""
        return self._outputs(self.quantizer.lookup(codes))

    def decode(self, codes: jax.Array) -> jax.Array:
        """Images [b h w c], about in [-1, 1], of codes, int32 [b h' w']."""
        return to_image(self.outputs(codes))

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [...]."""
        return self.quantizer.lookup(codes)

    def project(self, images: jax.Array) -> jax.Array:
        """The vectors [b h' w' code_dim] that are compared with the codes."""
        return self.quantizer.project(self.encoder(images))

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [...], nearest to vectors [... code_dim]."""
        return self.quantizer.nearest(vectors)

    def set_codes(self, centres: jax.Array, shares: jax.Array) -> None:
        """Puts the codes at given places (see `VectorQuantizer.set_codes`)."""
        self.quantizer.set_codes(centres, shares)

    def _outputs(self, values: jax.Array) -> jax.Array | PixelDistribution:
        painted = self.decoder(values)
        return painted if self.observation is None else self.observation(painted)

"""The strided convolutional encoder and decoder of the VQ-VAE, and the two around a quantizer."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least
from vq_jax.models.convolution import Conv, ConvTranspose, check_strides, strided_sizes
from vq_jax.models.observation import Distribution, Observation, expected
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import Quantized, Quantizer, after_update


class ResidualBlock(nn.Module):
    """ReLU, convolution of size 3, ReLU, convolution of size 1, added to the input.

    van den Oord et al. 2017 (arXiv:1711.00937), section 4.1.

    Attributes:
        hidden: channels between the two convolutions.
        dtype: what the convolutions compute in.
    """

    hidden: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b *grid c] to [b *grid c]."""
        h = Conv(self.hidden, dtype=self.dtype)(nn.relu(x))
        return x + Conv(x.shape[-1], 1, dtype=self.dtype)(nn.relu(h))


class Encoder(nn.Module):
    """Maps examples to a grid of vectors: strided convolutions, then residual blocks.

    Attributes:
        features: width of the vectors.
        channels: channels of the layers.
        stages: strided convolutions, each of which divides the sizes of the grid by `strides`.
        residual_blocks: how many follow at the lowest resolution.
        residual_channels: channels inside them.
        strides: of each stage, one for all axes or one for each; kernels are twice as large (see
            `strided_sizes`).
        dtype: what the layers compute in.
    """

    features: int
    channels: int
    stages: int
    residual_blocks: int
    residual_channels: int
    strides: tuple[int, ...] = (2,)
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps examples [b *grid c] to vectors [b *grid/strides^stages features]."""
        for _ in range(self.stages):
            strided = Conv(self.channels, strided_sizes(self.strides), self.strides, dtype=self.dtype)
            x = nn.relu(strided(x))
        x = Conv(self.channels, dtype=self.dtype)(x)
        for _ in range(self.residual_blocks):
            x = ResidualBlock(self.residual_channels, self.dtype)(x)
        return Conv(self.features, 1, dtype=self.dtype)(nn.relu(x))


class Decoder(nn.Module):
    """The encoder's mirror image: residual blocks, then transposed convolutions.

    Attributes:
        features: channels of what comes out.
        channels: channels of the layers.
        stages: transposed convolutions, each of which multiplies the sizes of the grid by `strides`.
        residual_blocks: how many come first.
        residual_channels: channels inside them.
        strides: see `Encoder`.
        dtype: what the layers compute in.
    """

    features: int
    channels: int
    stages: int
    residual_blocks: int
    residual_channels: int
    strides: tuple[int, ...] = (2,)
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b *grid d] to [b *grid*strides^stages features], float32."""
        x = Conv(self.channels, dtype=self.dtype)(z)
        for _ in range(self.residual_blocks):
            x = ResidualBlock(self.residual_channels, self.dtype)(x)
        x = nn.relu(x)
        for stage in range(self.stages):
            last = stage == self.stages - 1
            width = self.features if last else self.channels
            x = ConvTranspose(width, strided_sizes(self.strides), self.strides, dtype=self.dtype)(x)
            x = x if last else nn.relu(x)
        return x.astype(jnp.float32)


class VQVAE(nn.Module):
    """The VQ-VAE of van den Oord et al. 2017 (arXiv:1711.00937).

    Attributes:
        quantizer: turns the encoder's vectors into codes.
        observation: the likelihood of examples, whose parameters the decoder's outputs are; None if they
            are the reconstructions.
        out_channels: of the reconstructions.
        channels: channels of encoder and decoder.
        stages: strided convolutions in each of them, at least one: 2 make 32x32 pixels 8x8 codes.
        residual_blocks: residual blocks in each of encoder and decoder.
        residual_channels: channels inside them.
        strides: by which each stage divides the sizes of the grid, one for all axes or one for each.
        dtype: what the layers compute in; parameters, codes and losses are float32.
    """

    quantizer: Quantizer
    observation: Observation | None = None
    out_channels: int = 3
    channels: int = 128
    stages: int = 2
    residual_blocks: int = 2
    residual_channels: int = 32
    strides: tuple[int, ...] = (2,)
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'stages', 'residual_channels')
        check_least(0, self, 'residual_blocks')
        check_strides(self.strides)
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        sizes = {
            'channels': self.channels,
            'stages': self.stages,
            'residual_blocks': self.residual_blocks,
            'residual_channels': self.residual_channels,
            'strides': self.strides,
            'dtype': self.dtype,
        }
        self.encoder = Encoder(features=self.quantizer.dim, **sizes)
        self.decoder = Decoder(features=self.out_channels, **sizes)

    @property
    def factors(self) -> tuple[int, ...]:
        """How much smaller the grid of codes is than that of examples, along all axes or each."""
        return tuple(stride**self.stages for stride in self.strides)

    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        part: Part | None = None,
        step: jax.Array | None = None,
    ) -> tuple[jax.Array | Distribution, Quantized]:
        """Reconstructs examples (see `outputs`); also returns what the quantizer did.

        Args:
            x: in [-1, 1] [b *grid c].
            train: see the quantizer.
            part: see `Quantizer`.
            step: see `Quantizer`.
        """
        quantized = self.quantizer(self.encoder(x), train=train, part=part, step=step)
        return self._outputs(quantized.values), quantized

    def after_update(self) -> dict[str, jax.Array]:
        """See `LearnsWithoutGradients`."""
        return after_update(self.quantizer)

    def encode(self, x: jax.Array) -> jax.Array:
        """Codes, int32 [b *grid'], of examples in [-1, 1] [b *grid c]."""
        return self.quantizer(self.encoder(x)).codes

    def outputs(self, codes: jax.Array) -> jax.Array | Distribution:
        """Examples [b *grid c], about in [-1, 1], or `p(x | z)`, of codes, int32 [b *grid']."""
        return self._outputs(self.quantizer.lookup(codes))

    def decode(self, codes: jax.Array) -> jax.Array:
        """Examples [b *grid c], about in [-1, 1], of codes, int32 [b *grid']."""
        return expected(self.outputs(codes))

    def lookup(self, codes: jax.Array) -> jax.Array:
        """The vectors [... dim] that stand for codes, int32 [...]."""
        return self.quantizer.lookup(codes)

    def vectors(self, x: jax.Array) -> jax.Array:
        """What the quantizer is given of examples: [b *grid' dim]."""
        return self.encoder(x)

    def project(self, x: jax.Array) -> jax.Array:
        """The vectors [b *grid' code_dim] that are compared with the codes."""
        return self.quantizer.project(self.encoder(x))

    def nearest(self, vectors: jax.Array) -> jax.Array:
        """The codes, int32 [...], nearest to vectors [... code_dim]."""
        return self.quantizer.nearest(vectors)

    def init_codes(self, key: jax.Array, vectors: jax.Array) -> None:
        """See `StartsFromData`."""
        self.quantizer.init_from_data(key, vectors)

    def _outputs(self, values: jax.Array) -> jax.Array | Distribution:
        outputs = self.decoder(values)
        return outputs if self.observation is None else self.observation(outputs)

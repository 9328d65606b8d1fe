"""The VQ-VAE with two scales of codes: the top ones say what is where, the bottom ones add the detail."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import check_least
from vq_jax.models.autoencoder import Decoder, Encoder
from vq_jax.models.convolution import Conv, ConvTranspose, check_strides, strided_sizes
from vq_jax.models.observation import Distribution, Observation, expected
from vq_jax.ops.parts import Part
from vq_jax.quantizers.quantizer import Quantized, Quantizer, after_update

Scales = tuple[jax.Array, jax.Array]


class VQVAE2(nn.Module):
    """The VQ-VAE with two scales of Razavi et al. 2019 (arXiv:1906.00446), section 3.1.

    Their algorithm 1: the bottom vectors are made of the example and of the decoded top codes; the decoder
    sees the codes of both scales.

    Attributes:
        quantizer: of the bottom scale.
        top_quantizer: of the top scale; vectors of both are equally wide.
        observation: the likelihood of examples, whose parameters the decoder's outputs are; None if they
            are the reconstructions.
        out_channels: of the reconstructions.
        channels: channels of encoders and decoders.
        stages: strided convolutions from examples to the bottom codes, at least one.
        top_stages: strided convolutions from there to the top codes, at least one.
        residual_blocks: residual blocks in each encoder and decoder.
        residual_channels: channels inside them.
        strides: by which each stage divides the sizes of the grid, one for all axes or one for each.
        dtype: what the layers compute in; parameters, codes and losses are float32.
    """

    quantizer: Quantizer
    top_quantizer: Quantizer
    observation: Observation | None = None
    out_channels: int = 3
    channels: int = 128
    stages: int = 2
    top_stages: int = 1
    residual_blocks: int = 2
    residual_channels: int = 32
    strides: tuple[int, ...] = (2,)
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'channels', 'stages', 'residual_channels')
        check_least(0, self, 'top_stages', 'residual_blocks')
        check_strides(self.strides)
        super().__post_init__()

    def setup(self) -> None:  # noqa: D102 (Flax's)
        sizes = {
            'channels': self.channels,
            'residual_blocks': self.residual_blocks,
            'residual_channels': self.residual_channels,
            'strides': self.strides,
            'dtype': self.dtype,
        }
        dim, enlarged = self.quantizer.dim, tuple(stride**self.top_stages for stride in self.strides)
        self.bottom_encoder = Encoder(features=self.channels, stages=self.stages, **sizes)
        self.top_encoder = Encoder(features=dim, stages=self.top_stages, **sizes)
        self.top_decoder = Decoder(features=dim, stages=self.top_stages, **sizes)
        self.join = Conv(dim, 1, dtype=self.dtype)
        self.enlarge = ConvTranspose(dim, strided_sizes(enlarged), enlarged, dtype=self.dtype)
        self.decoder = Decoder(features=self.out_channels, stages=self.stages, **sizes)

    @property
    def factors(self) -> tuple[int, ...]:
        """How much smaller the grid of top codes is than that of examples, along all axes or each."""
        return tuple(stride ** (self.stages + self.top_stages) for stride in self.strides)

    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        part: Part | None = None,
        step: jax.Array | None = None,
    ) -> tuple[jax.Array | Distribution, Quantized]:
        """Reconstructs examples (see `outputs`); also returns what the quantizers did.

        Args:
            x: in [-1, 1] [b *grid c].
            train: see the quantizers.
            part: see `Quantizer`.
            step: see `Quantizer`.

        Returns:
            Of the quantizers, values and codes are pairs, top and bottom; the loss is the sum of both, and
            the names of metrics end with '_scale_0' for the top and '_scale_1' for the bottom.
        """
        top, bottom = self._quantize(x, train=train, part=part, step=step)
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

    def encode(self, x: jax.Array) -> Scales:
        """Codes of examples in [-1, 1] [b *grid c].

        Returns:
            Those of the top, int32 [b *top], and of the bottom, int32 [b *bottom], with
            bottom = top * strides^top_stages.
        """
        top, bottom = self._quantize(x)
        return top.codes, bottom.codes

    def outputs(self, codes: Scales) -> jax.Array | Distribution:
        """Examples [b *grid c], about in [-1, 1], or `p(x | z)`, of top and bottom codes."""
        top, bottom = codes
        return self._outputs(self.top_quantizer.lookup(top), self.quantizer.lookup(bottom))

    def decode(self, codes: Scales) -> jax.Array:
        """Examples [b *grid c], about in [-1, 1], of top and bottom codes."""
        return expected(self.outputs(codes))

    def lookup(self, codes: Scales) -> Scales:
        """The vectors [... dim] that stand for top and bottom codes, int32 [...]."""
        top, bottom = codes
        return self.top_quantizer.lookup(top), self.quantizer.lookup(bottom)

    def vectors(self, x: jax.Array) -> jax.Array:
        """What the quantizer of the bottom is given of examples: [b *bottom dim]."""
        features = self._features(x)
        top = self.top_quantizer(self.top_encoder(features))
        return self._bottom(features, top.values)

    def top_vectors(self, x: jax.Array) -> jax.Array:
        """What the quantizer of the top is given of examples: [b *top dim]."""
        return self.top_encoder(self._features(x))

    def init_codes(self, key: jax.Array, vectors: jax.Array) -> None:
        """See `StartsFromData`; of the bottom."""
        self.quantizer.init_from_data(key, vectors)

    def init_top_codes(self, key: jax.Array, vectors: jax.Array) -> None:
        """See `StartsFromData`; of the top."""
        self.top_quantizer.init_from_data(key, vectors)

    def _quantize(self, x: jax.Array, **training: Any) -> tuple[Quantized, Quantized]:
        features = self._features(x)
        top = self.top_quantizer(self.top_encoder(features), **training)
        bottom = self.quantizer(self._bottom(features, top.values), **training)
        return top, bottom

    def _features(self, x: jax.Array) -> jax.Array:
        """What the codes of both scales are made of [b *bottom channels]."""
        return nn.relu(self.bottom_encoder(x))

    def _bottom(self, features: jax.Array, top_values: jax.Array) -> jax.Array:
        """The bottom's vectors [b *bottom dim], given the top's."""
        return self.join(jnp.concatenate([features, self.top_decoder(top_values)], axis=-1))

    def _outputs(self, top: jax.Array, bottom: jax.Array) -> jax.Array | Distribution:
        outputs = self.decoder(jnp.concatenate([self.enlarge(top), bottom], axis=-1))
        return outputs if self.observation is None else self.observation(outputs)


def _of_both(top: dict[str, jax.Array], bottom: dict[str, jax.Array]) -> dict[str, jax.Array]:
    scales = enumerate((top, bottom))
    return {f'{name}_scale_{i}': x for i, metrics in scales for name, x in metrics.items()}

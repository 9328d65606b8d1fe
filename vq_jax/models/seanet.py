"""Encoder and decoder of neural codecs of sound: strided convolutions over time and dilated residual units.

SEANet (Tagliasacchi et al. 2020, arXiv:2009.02095), as SoundStream (Zeghidour et al. 2021, arXiv:2107.03312),
EnCodec (Défossez et al. 2022, arXiv:2210.13438) and DAC (Kumar et al. 2023, arXiv:2306.06546) have it.

Causal networks can be applied to one chunk of a sound after the other (see `vq_jax.models.streams`).
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.models.convolution import Conv, ConvTranspose, layer_inputs
from vq_jax.models.decoder import Decoder
from vq_jax.models.streams import STREAM, after_past, is_streaming
from vq_jax.ops.activations import snake
from vq_jax.ops.conv import conv, conv_transpose
from vq_jax.ops.sharding import split_batch
from vq_jax.ops.sums import shift

_MOST_STRIDE = 32  # so that a slip of the finger makes no kernel that fills the memory
_INIT = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')  # PyTorch's, as in the published code


@dataclasses.dataclass(frozen=True)
class SEANetSizes:
    """Sizes of an encoder and its decoder; the defaults are those of EnCodec at 24 kHz, but for `padding`.

    DAC has `channels` 64, `decoder_channels` 96, `features` 1024, `latent_kernel` 3, `dilations` (1, 3, 9),
    `residual_kernel` 7, `compress` 1, no `shortcut`, the activation 'snake', no `lstm`, `tanh`, and is not
    causal.

    Attributes:
        channels: of the encoder at the rate of the sound; each stage doubles them.
        decoder_channels: the same of the decoder; None for as many.
        strides: by which the stages of the encoder divide the rate, one after the other; kernels are twice as
            large, and the decoder has them in reverse.
        features: width of the vectors between encoder and decoder; the encoder gives twice as many for a
            Gaussian.
        kernel: size of the first and last convolutions.
        latent_kernel: that of the encoder's last one.
        dilations: of the residual units of a stage, one for each.
        residual_kernel: size of the first convolution of a unit; that of the second is 1.
        compress: by how much a unit divides the channels between its convolutions.
        shortcut: a convolution of size 1 around each unit, instead of its input as it is.
        activation: 'elu', or 'snake' with a learned frequency for each channel.
        weight_norm: of all convolutions (see `vq_jax.models.convolution.Conv`).
        lstm: layers of an LSTM at the lowest rate of encoder and decoder each, around which their input is
            added; 0 for none.
        tanh: bound the decoder's outputs to [-1, 1].
        causal: let nothing depend on later samples, so that sound can be streamed.
        padding: what convolutions see beyond the ends: 'zeros', or the sound mirrored, 'reflect', as EnCodec
            does, with which the first samples depend on later ones.
        dtype: what the layers compute in; parameters are float32.
    """

    channels: int = 32
    decoder_channels: int | None = None
    strides: tuple[int, ...] = (2, 4, 5, 8)
    features: int = 128
    kernel: int = 7
    latent_kernel: int = 7
    dilations: tuple[int, ...] = (1,)
    residual_kernel: int = 3
    compress: int = 2
    shortcut: bool = True
    activation: Literal['elu', 'snake'] = 'elu'
    weight_norm: bool = True
    lstm: int = 2
    tanh: bool = False
    causal: bool = True
    padding: Literal['zeros', 'reflect'] = 'zeros'
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        sizes = ('channels', 'decoder_channels', 'features', 'kernel', 'latent_kernel', 'residual_kernel')
        check_least(1, self, *sizes, 'compress')
        check_least(0, self, 'lstm')
        if any(dilation < 1 for dilation in self.dilations):
            raise UserError(f'dilations is {self.dilations}; give 1 or more to each, or leave them out.')
        if not self.strides or not all(1 <= stride <= _MOST_STRIDE for stride in self.strides):
            raise UserError(
                f'strides is {self.strides}; give numbers from 1 to {_MOST_STRIDE}, one for each stage.'
            )
        if self.compress > min(self.channels, self.decoder_channels or self.channels):
            raise UserError(f'compress is {self.compress}, more than there are channels; give fewer.')

    @property
    def factors(self) -> tuple[int, ...]:
        """By how much all stages together divide the rate."""
        return (math.prod(self.strides),)

    @property
    def streams(self) -> bool:
        """Whether networks of these sizes can be applied to one chunk after the other."""
        return self.causal and self.padding == 'zeros'


class TimeConv(Conv):
    """A convolution over time that makes t positions t / stride.

    Its attributes are those of `Conv`, of which `padding` is not read, and:

    Attributes:
        causal: whether nothing depends on later positions, so that all of the padding is before the first.
        border: what the padding is (see `SEANetSizes`).
    """

    causal: bool = False
    border: Literal['zeros', 'reflect'] = 'zeros'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b t c] to [b t/stride features]."""
        reach = max(0, self.dilation * (self.kernel_size - 1) + 1 - self.strides)
        around = (reach, 0) if self.causal else (reach - reach // 2, reach // 2)
        if is_streaming(self):
            x, around = after_past(self, x, _silence(x, reach)), (0, 0)
        elif self.border == 'reflect' and reach:
            x, around = jnp.pad(x, ((0, 0), around, (0, 0)), mode='reflect'), (0, 0)
        x, kernel, bias = layer_inputs(self, x, normed=-1)
        x = conv(x, kernel, self.strides, (around,), self.dilation)
        return x if bias is None else shift(x, bias)


class TimeConvTranspose(ConvTranspose):
    """A transposed convolution over time that makes t positions t * stride.

    Its attributes are those of `ConvTranspose`, of which `padding` is not read, and `causal` as for
    `TimeConv`. The kernel is no smaller than the stride.
    """

    causal: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b t c] to [b t*stride features]."""
        length, reach = x.shape[1] * self.strides, self.kernel_size - self.strides
        start = 0 if self.causal else reach - reach // 2
        if is_streaming(self):
            past = -(-reach // self.strides)
            x, start = after_past(self, x, _silence(x, past)), past * self.strides
        x, kernel, bias = layer_inputs(self, x, normed=-2)
        x = conv_transpose(x, kernel, self.strides, 'VALID')[:, start : start + length]
        return x if bias is None else shift(x, bias)


class Snake(nn.Module):
    """The snake function with a frequency for each channel, `alpha`, that is 1 at first."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b t c] to [b t c]."""
        alpha = self.param('alpha', nn.initializers.ones_init(), x.shape[-1:])
        return snake(x, alpha.astype(x.dtype))


class ResidualLSTM(nn.Module):
    """Layers of an LSTM (Hochreiter and Schmidhuber 1997), around which their input is added.

    What PyTorch's adds in two biases is one here.

    Attributes:
        layers: how many.
        dtype: what matrix products compute in; the cells are float32.
    """

    layers: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b t c] to [b t c]."""
        h = x
        for _ in range(self.layers):
            h = LSTM(self.dtype)(h)
        return x + h


class LSTM(nn.Module):
    """One layer of an LSTM, with the gates in PyTorch's order: input, forget, cell, output.

    Attributes:
        dtype: see `ResidualLSTM`.
    """

    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b t c] to [b t c]."""
        b, _, c = x.shape
        kernel = self.param('kernel', _INIT, (c, 4 * c)).astype(self.dtype)
        recurrent = self.param('recurrent_kernel', _INIT, (c, 4 * c)).astype(self.dtype)
        bias = self.param('bias', nn.initializers.zeros_init(), (4 * c,))
        inputs = (x.astype(self.dtype) @ kernel).astype(jnp.float32) + bias
        start = jnp.zeros((b, c), jnp.float32), jnp.zeros((b, c), jnp.float32)
        if is_streaming(self):
            start = self.get_variable(STREAM, 'past', start)

        def step(state: tuple[jax.Array, jax.Array], gates: jax.Array) -> tuple[Any, jax.Array]:
            cell, hidden = state
            gates = gates + (hidden.astype(self.dtype) @ recurrent).astype(jnp.float32)
            i, f, g, o = jnp.split(gates, 4, -1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (cell, hidden), hidden

        end, hidden = jax.lax.scan(step, start, inputs.swapaxes(0, 1))
        if is_streaming(self):
            self.put_variable(STREAM, 'past', end)
        return hidden.swapaxes(0, 1).astype(self.dtype)


class SEANetUnit(nn.Module):
    """Activation, dilated convolution, activation, convolution of size 1; added to the input.

    Attributes:
        sizes: see `SEANetSizes`.
        dilation: of the first convolution.
    """

    sizes: SEANetSizes
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [b t c] to [b t c]."""
        s, c = self.sizes, x.shape[-1]
        h = _conv(s, c // s.compress, s.residual_kernel, dilation=self.dilation)(_activated(s, x))
        h = _conv(s, c, 1)(_activated(s, h))
        return (_conv(s, c, 1)(x) if s.shortcut else x) + h


class SEANetEncoder(nn.Module):
    """Maps sounds to vectors: in each stage residual units, then a strided convolution.

    Attributes:
        sizes: see `SEANetSizes`.
        features: width of the vectors.
    """

    sizes: SEANetSizes
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps sounds [b t c] to vectors [b t/factor features]."""
        if x.ndim != 3:
            raise UserError(f'SEANet takes sounds [b t c], and this has {x.ndim} axes; use another backbone.')
        s = self.sizes
        x = split_batch(_conv(s, s.channels, s.kernel)(x))
        for stride in s.strides:
            for dilation in s.dilations:
                x = SEANetUnit(s, dilation)(x)
            x = _conv(s, 2 * x.shape[-1], 2 * stride, strides=stride)(_activated(s, x))
        if s.lstm:
            x = ResidualLSTM(s.lstm, s.dtype)(x)
        return _conv(s, self.features, s.latent_kernel)(_activated(s, x))


class SEANetTrunk(nn.Module):
    """The decoder but for its last convolution: in each stage a transposed convolution, then residual units.

    Attributes:
        sizes: see `SEANetSizes`.
    """

    sizes: SEANetSizes

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Maps vectors [b t features] to what the last convolution is given [b t*factor c]."""
        s = self.sizes
        finest = s.decoder_channels or s.channels
        x = split_batch(_conv(s, finest * 2 ** len(s.strides), s.kernel)(z))
        if s.lstm:
            x = ResidualLSTM(s.lstm, s.dtype)(x)
        for stride in reversed(s.strides):
            layer = TimeConvTranspose(x.shape[-1] // 2, 2 * stride, stride, causal=s.causal, **_options(s))
            x = layer(_activated(s, x))
            for dilation in s.dilations:
                x = SEANetUnit(s, dilation)(x)
        return _activated(s, x)


def seanet_decoder(sizes: SEANetSizes, out_channels: int = 1) -> Decoder:
    """Maps vectors to sounds."""
    return Decoder(SEANetTrunk(sizes), _conv(sizes, out_channels, sizes.kernel), tanh=sizes.tanh)


def _conv(sizes: SEANetSizes, features: int, size: int, strides: int = 1, dilation: int = 1) -> TimeConv:
    border = {'causal': sizes.causal, 'border': sizes.padding}
    return TimeConv(features, size, strides, dilation=dilation, **border, **_options(sizes))


def _options(sizes: SEANetSizes) -> dict[str, Any]:
    """Attributes that all convolutions have in common."""
    return {'weight_norm': sizes.weight_norm, 'dtype': sizes.dtype, 'kernel_init': _INIT}


def _activated(sizes: SEANetSizes, x: jax.Array) -> jax.Array:
    """The activation function; called inside a module's compact method."""
    return Snake()(x) if sizes.activation == 'snake' else nn.elu(x)


def _silence(x: jax.Array, n: int) -> jax.Array:
    """So many positions of zeros, as those of sounds [b t c]: [b n c]."""
    return jnp.zeros((x.shape[0], n, x.shape[-1]), x.dtype)

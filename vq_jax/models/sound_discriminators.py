"""Discriminators of sound: of its periods, and of its spectrum whole or in bands, as codecs are trained with.

Each is several networks, every one of which gives a grid of logits and the features that feature matching
compares.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.errors import UserError, check_least
from vq_jax.models.convolution import Conv
from vq_jax.models.discriminators import DiscriminatorOutput
from vq_jax.ops.stft import Padding, mirrored, stft

_QUIETEST = 2.0**-15  # of the range [-1, 1]: a step of 16 bits
_LOUDEST = 0.8  # what peaks are brought to
# Of the frequencies up to half of the rate, as Kumar et al. 2023 split them.
_BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))

_INIT = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')  # PyTorch's, as in the published code

_Output = tuple[jax.Array, tuple[jax.Array, ...]]  # logits [b *grid], and features of layers [b *grid c]


class SoundDiscriminator(nn.Module):
    """Several discriminators of sound, each of which sees it in another way.

    With the defaults, that of descript-audio-codec (Kumar et al. 2023, arXiv:2306.06546, section 3.3).
    HiFi-GAN's multi-period discriminator (Kong et al. 2020, arXiv:2010.05646) has no `band_windows`;
    EnCodec's (Défossez et al. 2022, arXiv:2210.13438, section 3.4) has `stft_windows` of 1024, 2048, 512, 256
    and 128 alone, and does not `normalise`.

    Attributes:
        periods: samples, for each of which a `PeriodDiscriminator` sees the sound in rows of so many.
        period_channels: of its first convolution.
        band_windows: of short-time Fourier transforms, each in bands for a `SpectrumDiscriminator`.
        stft_windows: of others, each whole for another.
        spectrum_channels: of the convolutions of these.
        normalise: take the mean from each sound and bring its peak to 0.8 before all else.
        dtype: what convolutions compute in.
    """

    # No batch, and no bound on what comes out; other discriminators choose.
    norm: ClassVar[str] = 'none'
    spectral_norm: ClassVar[bool] = False

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: int = 32
    band_windows: tuple[int, ...] = (2048, 1024, 512)
    stft_windows: tuple[int, ...] = ()
    spectrum_channels: int = 32
    normalise: bool = True
    dtype: Literal['float32', 'bfloat16'] = 'float32'

    def __post_init__(self) -> None:
        check_least(1, self, 'period_channels', 'spectrum_channels')
        if not (*self.periods, *self.band_windows, *self.stft_windows):
            raise UserError('periods, band_windows and stft_windows are empty; give one of them numbers.')
        if any(period < 1 for period in self.periods):
            raise UserError(f'periods is {self.periods}; give 1 or more to each.')
        for name in ('band_windows', 'stft_windows'):
            windows = getattr(self, name)
            if any(window < 32 or window % 4 for window in windows):
                raise UserError(f'{name} is {windows}; give multiples of 4, of 32 or more.')
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: jax.Array, labels: jax.Array | None = None, train: bool = False, axis_name: str | None = None
    ) -> DiscriminatorOutput:
        """Scores sounds [b t c] in [-1, 1].

        Nothing else is read: it learns nothing but parameters, each sound by itself, and knows no classes.

        Returns:
            Logits and features of all discriminators, in tuples.
        """
        if x.ndim != 3:
            raise UserError(f'a discriminator of sound takes [b t c], and was given {x.ndim} axes.')
        x = x.astype(jnp.float32)
        if self.normalise:
            x = x - jnp.mean(x, 1, keepdims=True)
            # Silence stays what it is. Where there is anything to be heard, the published code does the same.
            x = _LOUDEST * x / jnp.maximum(jnp.max(jnp.abs(x), 1, keepdims=True), _QUIETEST)
        outputs = [
            PeriodDiscriminator(period, self.period_channels, dtype=self.dtype, name=f'period_{period}')(x)
            for period in self.periods
        ]
        for window in self.band_windows:
            of_bands = SpectrumDiscriminator(
                window, self.spectrum_channels, _BANDS, dtype=self.dtype, name=f'bands_{window}'
            )
            outputs.append(of_bands(x))
        for window in self.stft_windows:
            whole = SpectrumDiscriminator(
                window,
                self.spectrum_channels,
                dilations=(1, 2, 4),
                slope=0.2,
                padding='none',
                normalised=True,
                dtype=self.dtype,
                name=f'stft_{window}',
            )
            outputs.append(whole(x))
        logits, features = zip(*outputs, strict=True)
        return DiscriminatorOutput(
            logits=tuple(logits), classes=None, features=tuple(one for layers in features for one in layers)
        )


class PeriodDiscriminator(nn.Module):
    """Scores sound in rows of a period, along the columns: Kong et al. 2020 (arXiv:2010.05646), section 2.3.

    Attributes:
        period: samples of a row.
        channels: of the first convolution; the next have 4, 16, 32 and 32 times as many.
        slope: of the leaky ReLU.
        dtype: what convolutions compute in.
    """

    period: int
    channels: int = 32
    slope: float = 0.1
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> _Output:
        """Maps sounds [b t c] to logits [b rows period] and features."""
        b, t, c = x.shape
        # As descript-audio-codec has it: always a row or a part of one more, mirrored.
        x = mirrored(jnp.moveaxis(x, 1, -1), 0, self.period - t % self.period)
        x = jnp.moveaxis(x, 1, -1).reshape(b, -1, self.period, c)
        features = []
        for i, (factor, stride) in enumerate(((1, 3), (4, 3), (16, 3), (32, 3), (32, 1))):
            x = _conv(self.channels * factor, (5, 1), (stride, 1), dtype=self.dtype, name=f'conv_{i}')(x)
            x = nn.leaky_relu(x, self.slope)
            features.append(x)
        logits = _conv(1, (3, 1), dtype=self.dtype, name='last')(x)
        return logits[..., 0].astype(jnp.float32), tuple(features)


class SpectrumDiscriminator(nn.Module):
    """Scores the complex short-time Fourier transform of sound, whole or each band by itself.

    Of bands it is the one of Kumar et al. 2023 (arXiv:2306.06546), section 3.3; whole, with dilations 1, 2
    and 4 and without padding of the transform, which is normalised, that of Défossez et al. 2022
    (arXiv:2210.13438), section 3.4.

    Attributes:
        window: samples of the transform; the hop is a quarter.
        channels: of all convolutions.
        bands: shares of the bins, from and to; one for all.
        dilations: of the three strided convolutions along time.
        slope: of the leaky ReLU.
        padding: see `vq_jax.ops.stft.stft`, as for `normalised`.
        normalised: divide by the root of the sum of the squares of the window.
        dtype: what convolutions compute in.
    """

    window: int
    channels: int = 32
    bands: Sequence[tuple[float, float]] = ((0.0, 1.0),)
    dilations: tuple[int, ...] = (1, 1, 1)
    slope: float = 0.1
    padding: Padding = 'stride'
    normalised: bool = False
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> _Output:
        """Maps sounds [b t c] to logits [b frames bins'] and features, those of the first band first."""
        spectrum = stft(x, self.window, self.window // 4, self.padding, normalised=self.normalised)
        parts = jnp.concatenate([spectrum.real, spectrum.imag], -1)
        bins, features, ends = parts.shape[2], [], []
        for i, (low, high) in enumerate(self.bands):
            x = parts[:, :, int(low * bins) : int(high * bins)]
            layers = (((3, 9), 1, 1), *(((3, 9), 2, dilation) for dilation in self.dilations), ((3, 3), 1, 1))
            for j, (size, stride, dilation) in enumerate(layers):
                name = f'band_{i}_conv_{j}'
                conv = _conv(self.channels, size, (1, stride), (dilation, 1), dtype=self.dtype, name=name)
                x = nn.leaky_relu(conv(x), self.slope)
                features.append(x)
            ends.append(x)
        logits = _conv(1, (3, 3), dtype=self.dtype, name='last')(jnp.concatenate(ends, 2))
        return logits[..., 0].astype(jnp.float32), tuple(features)


def _conv(
    features: int,
    size: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    *,
    dtype: str,
    name: str,
) -> Conv:
    """A convolution with weight normalisation; with a stride of 1 it keeps the sizes of the grid."""
    return Conv(
        features,
        size,
        strides,
        tuple(((k - 1) * d // 2,) * 2 for k, d in zip(size, dilation, strict=True)),
        dilation,
        weight_norm=True,
        dtype=dtype,
        kernel_init=_INIT,
        name=name,
    )

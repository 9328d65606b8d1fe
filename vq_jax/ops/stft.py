"""The short-time Fourier transform and mel bands of sound, on the devices.

Conventions: a periodic Hann window that is as long as the transform; frames whose distance, the hop, divides
the window; a spectrum is a sum, which nothing divides unless it is told to. Sound is [b t c] of any range,
and what is computed is float32.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.ops.sharding import per_device

Padding = Literal['centre', 'stride', 'none']
MelScale = Literal['slaney', 'htk']


def stft(
    x: jax.Array, window: int, hop: int, padding: Padding = 'centre', *, normalised: bool = False
) -> jax.Array:
    """The short-time Fourier transform.

    Args:
        x: sound [b t c].
        window: samples of the window and of the transform.
        hop: samples from a frame to the next; it divides the window.
        padding: what is added at both ends, mirrored at the first and the last sample. 'centre': half a
            window, so that frame i is centred on sample i * hop, and there are `t // hop + 1` (`torch.stft`).
            'stride': half of what the window is longer than the hop, and what lacks to a multiple of the hop
            at the end, so that each hop has a frame around it, as a strided convolution has: `ceil(t / hop)`.
            'none': nothing, `(t - window) // hop + 1` frames, or none.
        normalised: divide by the root of the sum of the squares of the window.

    Returns:
        complex64 [b frames window // 2 + 1 c]; bin k is the frequency k / window of the rate.
    """
    if window % hop:
        raise ValueError(f'a hop of {hop} does not divide a window of {window}')
    x = jnp.moveaxis(x.astype(jnp.float32), -1, 1)  # [b c t]
    before, after = {
        'centre': (window // 2, window // 2),
        'stride': ((window - hop) // 2, (window - hop) // 2 + -x.shape[-1] % hop),
        'none': (0, 0),
    }[padding]
    x = mirrored(x, before, after)
    n = max(0, (x.shape[-1] - window) // hop + 1)
    # Slices of whole hops beside each other: frames that overlap without a gather, whose gradient scatters.
    hops = x[..., : (n - 1) * hop + window] if n else x[..., :0]
    hops = hops.reshape(*x.shape[:2], -1, hop)
    frames = jnp.concatenate([hops[:, :, i : i + n] for i in range(window // hop)], axis=-1)
    shape = np.hanning(window + 1)[:-1]
    scale = 1 / math.sqrt(np.sum(np.square(shape))) if normalised else 1.0
    spectrum = per_device(jnp.fft.rfft, frames.reshape(*x.shape[:2], n, window) * jnp.float32(shape * scale))
    return jnp.moveaxis(spectrum, 1, -1)


def mirrored(x: jax.Array, before: int, after: int) -> jax.Array:
    """Arrays [... t] continued at both ends as in mirrors at the first and the last value."""
    n = x.shape[-1]
    if max(before, after) < n:
        return jnp.pad(x, (*[(0, 0)] * (x.ndim - 1), (before, after)), mode='reflect')
    return x[..., np.pad(np.arange(n), (before, after), mode='reflect')]  # from mirror to mirror


def magnitude(spectrum: jax.Array) -> jax.Array:
    """The absolute value of complex numbers; its gradient where they are 0 is 0, not NaN."""
    square = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def in_mel_bands(
    size: jax.Array, rate: float, bands: int, low: float = 0.0, scale: MelScale = 'slaney'
) -> jax.Array:
    """Magnitudes of a spectrum, or powers of them [b frames bins c], summed in mel bands [b frames bands c].

    The other arguments are those of `mel_filters`.
    """
    filters = mel_filters(rate, 2 * (size.shape[2] - 1), bands, low, scale)
    return jnp.einsum('btfc,fm->btmc', size, filters, precision='highest')


def log_mel(x: jax.Array, rate: float, window: int, bands: int) -> jax.Array:
    """Mel bands of sound on a logarithmic scale, as networks that recognise it are given them.

    Args:
        x: sound in [-1, 1] [b t c].
        rate: samples in a second.
        window: samples, of which the hop is a quarter.
        bands: how many, of magnitudes (see `mel_filters`).

    Returns:
        float32 [b ceil(t / hop) bands c]: half of the logarithm to base 10, plus 1, from -1, which is silence
        (1e-4 and less), to about 1.
    """
    size = in_mel_bands(magnitude(stft(x, window, window // 4, 'stride')), rate, bands)
    return 1 + jnp.log10(jnp.maximum(size, 1e-4)) / 2


@functools.cache
def mel_filters(
    rate: float, window: int, bands: int, low: float = 0.0, scale: MelScale = 'slaney'
) -> np.ndarray:
    """Triangles over frequencies, evenly spaced as the ear hears them, from `low` to half of the rate.

    Args:
        rate: samples in a second.
        window: of the transform whose bins are weighed.
        bands: how many triangles. Narrow ones may have no bin in them, and then are 0.
        low: the frequency at which the first begins, in Hz.
        scale: 'slaney' is linear up to 1,000 Hz and logarithmic from there on, and each triangle has the area
            2 over Hz (Slaney's Auditory Toolbox, as librosa has it); 'htk' is `2595 log10(1 + f / 700)`, and
            each has the height 1 (torchaudio's default).

    Returns:
        float32 [window // 2 + 1 bands].
    """
    to_mel, to_hz = (_slaney_mel, _slaney_hz) if scale == 'slaney' else (_htk_mel, _htk_hz)
    edges = to_hz(np.linspace(to_mel(np.float64(low)), to_mel(np.float64(rate / 2)), bands + 2))
    bins = np.arange(window // 2 + 1)[:, None] * rate / window
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    if scale == 'slaney':
        triangles *= 2 / (edges[2:] - edges[:-2])
    return triangles.astype(np.float32)


_BREAK = 1000.0  # Hz, up to which Slaney's scale is linear
_LINEAR = 200.0 / 3  # Hz a mel
_LOGARITHMIC = math.log(6.4) / 27  # of the frequency, a mel


def _slaney_mel(hz: np.ndarray) -> np.ndarray:
    above = _BREAK / _LINEAR + np.log(np.maximum(hz, _BREAK) / _BREAK) / _LOGARITHMIC
    return np.where(hz < _BREAK, hz / _LINEAR, above)


def _slaney_hz(mel: np.ndarray) -> np.ndarray:
    start = _BREAK / _LINEAR
    above = _BREAK * np.exp(_LOGARITHMIC * np.maximum(mel - start, 0))
    return np.where(mel < start, mel * _LINEAR, above)


def _htk_mel(hz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hz / 700)


def _htk_hz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)

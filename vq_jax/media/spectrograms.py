"""Sound as images: waveforms and spectrograms. All are uint8 [h w 3]."""

import numpy as np

_BANDS = 128  # rows of a spectrogram
_SECONDS = 0.032  # about as long as a window of it is, in which a voice changes little
_FULL_SCALE = 2.0**15  # of int16
_QUIETEST = -80.0  # dB below a sine of full scale that differ from silence
_PAPER, _INK = 255, (31, 78, 121)
# From silence to full scale: black, purple, red, orange, pale yellow.
_COLOURS = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)])


def levels(samples: np.ndarray, rate: float, width: int) -> np.ndarray:
    """How loud each band of frequencies is at evenly spaced times.

    The short-time Fourier transform with a Hann window of about 32 ms, which is centred on each time; what
    lies before the beginning and after the end is silence.

    Args:
        samples: int16 [n c]; the mean over the channels is taken.
        rate: samples in a second.
        width: how many times; the first is half a step after the beginning.

    Returns:
        dB, where 0 is a sine of full scale in the middle of a band, float64 [128 width]. Bands are equally
        wide, from 0 to half of the rate; where several bins are a band, it has their loudest.
    """
    size = 2 * _BANDS
    while size * 1.5 < _SECONDS * rate:  # the nearest power of two
        size *= 2
    mono = samples.mean(axis=1)
    centres = ((np.arange(width) + 0.5) * len(mono) / width).astype(int)
    frames = np.pad(mono, size // 2)[centres[:, None] + np.arange(size)]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    spectrum = np.abs(np.fft.rfft(frames * window)) * 2 / (window.sum() * _FULL_SCALE)
    bands = spectrum[:, 1:].reshape(width, _BANDS, -1).max(axis=-1)  # without the constant part
    return 20 * np.log10(np.maximum(bands.T, 1e-10))


def spectrogram(samples: np.ndarray, rate: float, width: int = 192) -> np.ndarray:
    """Loudness in colours, low frequencies at the bottom, from left to right in time.

    Args:
        samples: int16 [n c].
        rate: samples in a second.
        width: of the image, in pixels.

    Returns:
        uint8 [128 width 3]; the top row is half of the rate. From 0 dB (pale) to -80 dB and less (black).
    """
    share = np.clip(1 - levels(samples, rate, width) / _QUIETEST, 0, 1)[::-1] * (len(_COLOURS) - 1)
    stops = np.arange(len(_COLOURS))
    channels = [np.interp(share, stops, _COLOURS[:, i]) for i in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def waveform(samples: np.ndarray, width: int = 192, height: int = 48) -> np.ndarray:
    """The range of the samples in each column, in ink on white; the middle of the height is 0.

    Args:
        samples: int16 [n c]; the mean over the channels is taken.
        width: of the image, in pixels.
        height: of the image, in pixels; full scale reaches from the top to the bottom.

    Returns:
        uint8 [height width 3].
    """
    mono = samples.mean(axis=1)
    first = np.arange(width) * len(mono) // width
    last = np.maximum(np.arange(1, width + 1) * len(mono) // width, first + 1)
    low, high = (
        np.array([extreme(mono[a:b]) for a, b in zip(first, last, strict=True)])
        for extreme in (np.min, np.max)
    )
    top, bottom = (np.round((1 - edge / _FULL_SCALE) / 2 * (height - 1)) for edge in (high, low))
    row = np.arange(height)[:, None]
    image = np.full((height, width, 3), _PAPER, np.uint8)
    image[(row >= top) & (row <= bottom)] = _INK
    return image

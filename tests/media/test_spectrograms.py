"""Spectrograms against SciPy's short-time Fourier transform, and waveforms against their definition."""

import numpy as np
import pytest
import scipy.signal

from vq_jax.media.spectrograms import levels, spectrogram, waveform


def sine(frequency, rate, n, amplitude=32_767):
    return np.rint(amplitude * np.sin(2 * np.pi * frequency * np.arange(n) / rate)).astype(np.int16)[:, None]


def test_levels_are_those_of_scipy():
    """The frames of SciPy are centred on multiples of the hop, ours half a hop later."""
    rng = np.random.default_rng(0)
    samples = rng.integers(-(2**15), 2**15, (32 * 60, 1), np.int16)
    ours = levels(samples, 8000, 60)
    _, _, theirs = scipy.signal.stft(samples[16:, 0] / 2**15, 8000, nperseg=256, noverlap=256 - 32)
    theirs = 20 * np.log10(2 * np.abs(theirs[1:, :60]))
    inside = slice(8, 50)  # SciPy pads what lies before the sixteenth sample, where ours has samples
    assert ours.shape == (128, 60)
    np.testing.assert_allclose(ours[:, inside], theirs[:, inside], atol=1e-3)


@pytest.mark.parametrize('rate', [8000, 16000, 44100])
@pytest.mark.parametrize('frequency', [500, 1000, 3000])
def test_the_ridge_of_a_sine_is_at_its_frequency(rate, frequency):
    samples = sine(frequency, rate, rate // 2)
    found = levels(samples, rate, 50)[:, 5:-5]
    band = rate / 2 / 128
    middles = (found.argmax(axis=0) + 1) * band
    assert np.abs(middles - frequency).max() <= band
    assert (np.abs(found.max(axis=0)) < 1.5).all()  # full scale, between two bands at the most
    image = spectrogram(samples, rate, 50)
    assert image.shape == (128, 50, 3) and image.dtype == np.uint8
    brightest = 127 - image.astype(int).sum(-1)[:, 5:-5].argmax(axis=0)
    np.testing.assert_allclose((brightest + 1) * band, frequency, atol=band)


def test_louder_is_brighter_and_silence_is_black():
    quiet, loud = (
        spectrogram(sine(1000, 8000, 4000, amplitude), 8000).astype(int) for amplitude in (30, 3000)
    )
    assert loud.sum() > quiet.sum() > 0
    silence = spectrogram(np.zeros((4000, 1), np.int16), 8000)
    assert (silence == [0, 0, 4]).all()


def test_short_recordings_have_an_image_too():
    one = np.full((1, 1), 2**14, np.int16)
    assert spectrogram(one, 8000).shape == (128, 192, 3) and waveform(one).shape == (48, 192, 3)


def test_a_waveform_has_ink_from_the_lowest_to_the_highest_sample():
    """Four samples a column; full scale is 2**15, and row 24 of 49 is zero."""
    samples = np.zeros((16, 1), np.int16)
    samples[4:8, 0] = 0, 2**14, -(2**13), 0
    image = waveform(samples, width=4, height=49)
    ink = (image == (31, 78, 121)).all(-1)
    assert np.flatnonzero(ink[:, 0]).tolist() == [24]
    assert np.flatnonzero(ink[:, 1]).tolist() == list(range(12, 31))

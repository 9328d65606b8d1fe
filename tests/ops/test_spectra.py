"""Spectra of sound and their distances, beside plain forms and the published code of codecs.

`tests/published_sound.json` has what that code gave in float64 (PyTorch 2.13.0, CPU) for the sounds of
`sounds`:

- stft, mel, dac_mel: `MultiScaleSTFTLoss` and `MelSpectrogramLoss` of descript-audio-codec 1.0.0, with their
  defaults and as its `conf/base.yml` sets the latter, over the methods of `AudioSignal` of
  descript-audiotools 0.7.2 and `filters.mel` of librosa (commit b7e7bf4), whose values are slaney_filters.
- encodec_mel: `MultiScaleMelSpectrogramLoss` of audiocraft (commit 896ec7c), as its
  `solver/compression/default.yaml` sets it. torchaudio's `MelSpectrogram`, with the values htk_filters, was
  written out around `torch.stft`.
- stride: real and imaginary parts of every eighth bin of `AudioSignal.stft(64, 16, 'hann', True)`.
- si_sdr: minus `SISDRLoss` of descript-audio-codec.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops import spectral_distances
from vq_jax.ops.metrics import si_sdr, sound_metrics
from vq_jax.ops.stft import log_mel, magnitude, mel_filters, stft

PUBLISHED = json.loads((Path(__file__).parent.parent / 'published_sound.json').read_text())
RATE = 8000


def normal(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape)


@functools.cache
def sounds():
    x, y = 0.1 * normal(7, 2, 4096, 1), 0.05 * normal(8, 2, 4096, 1)
    y[:, 1000:2000] = 0
    return jnp.float32(x), jnp.float32(y)


@pytest.mark.parametrize('padding, before, frames', [('none', 0, 9), ('centre', 32, 13), ('stride', 24, 13)])
def test_frames_are_transformed_one_by_one(padding, before, frames):
    """Of two channels, and a length that no hop divides."""
    x = normal(0, 1, 200, 2)
    padded = np.pad(x[0], ((before, before + 64), (0, 0)), mode='reflect')
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64)
    expected = [np.fft.rfft(padded[16 * i : 16 * i + 64] * window[:, None], axis=0) for i in range(frames)]
    found = stft(jnp.float32(x), 64, 16, padding)
    assert found.shape == (1, frames, 33, 2)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_frames_of_hops_are_those_of_the_published_code():
    x = sounds()[0][:1, :103]
    found = np.asarray(stft(x, 64, 16, 'stride'))[0, :, ::8, 0]
    published = np.array(PUBLISHED['spectral']['stride'])
    np.testing.assert_allclose(np.stack([found.real, found.imag], -1), published, atol=1e-5)


def test_short_sounds_have_spectra():
    assert stft(jnp.ones((1, 3, 1)), 64, 16).shape == (1, 1, 33, 1)
    assert stft(jnp.ones((1, 1, 1)), 64, 16, 'stride').shape == (1, 1, 33, 1)
    assert stft(jnp.ones((1, 3, 1)), 64, 16, 'none').shape == (1, 0, 33, 1)


def test_mel_bands():
    htk = np.array(PUBLISHED['spectral']['htk_filters'])
    np.testing.assert_allclose(mel_filters(RATE, 64, 6, 64.0, 'htk'), htk, atol=1e-6)
    slaney = np.array(PUBLISHED['spectral']['slaney_filters'])
    np.testing.assert_allclose(mel_filters(RATE, 64, 6), slaney, atol=1e-8)


@pytest.mark.parametrize(
    'name, published',
    [
        ('DAC_MEL', 'dac_mel'),
        ('ENCODEC_MEL', 'encodec_mel'),
        ('MEL_DISTANCE', 'mel'),
        ('STFT_DISTANCE', 'stft'),
    ],
)
def test_distances_are_those_of_the_published_code(name, published):
    distance = getattr(spectral_distances, name)
    found = jax.jit(lambda x, y: distance(x, y, RATE))(*sounds())
    np.testing.assert_allclose(found, PUBLISHED['spectral'][published], rtol=1e-5)


def test_gradients_on_silence_are_finite():
    """Of silence, and of what is compared with it, the gradients are bounded too where a magnitude is 0."""
    distance = spectral_distances.SpectralDistance((64, 32), linear_weight=1.0)
    silence, noise = jnp.zeros((1, 128, 1)), sounds()[0][:1, :128]
    gradient = jax.jit(jax.grad(lambda x, y: jnp.sum(distance(x, y, RATE))))
    for pair in ((silence, silence), (silence, noise), (noise, silence)):
        assert np.isfinite(gradient(*pair)).all()
    assert np.abs(gradient(noise, silence)).max() > 0
    assert float(jax.grad(lambda x: magnitude(x + 0j))(0.0)) == 0


def test_si_sdr():
    y = 0.1 * normal(8, 2, 800, 1)
    x = 0.5 * y + 0.03 * normal(7, 2, 800, 1) + 0.05
    x, y = (np.round(v * 2**15).astype(np.int16) for v in (x, y))
    np.testing.assert_allclose(si_sdr(x, y), PUBLISHED['si_sdr'], atol=1e-3)
    np.testing.assert_allclose(si_sdr(2 * (x // 4), y), si_sdr(x // 4, y), atol=1e-4)  # whatever the scale
    silence = np.zeros_like(y)
    np.testing.assert_allclose(si_sdr(silence, y), -80, atol=1e-4)
    assert np.isfinite(si_sdr(y, y)).all() and np.isfinite(si_sdr(y, silence)).all()


def test_sounds_without_a_rate_have_no_mel_bands():
    x = np.round(2**12 * normal(0, 1, 64, 1)).astype(np.int16)
    named = jax.eval_shape(functools.partial(sound_metrics, rate=None), x, x)
    assert set(named) == {'snr', 'si_sdr', 'stft_distance'}


def test_log_mel_is_that_of_numpy_and_of_silence_is_below():
    """Each frame by itself, in float64, of a sound between silences that are longer than a window."""
    x = np.zeros((1, 640, 1), np.float32)
    x[0, 256:384, 0] = normal(0, 128)
    seen = np.asarray(log_mel(x, 8000, 64, 10))
    assert seen.shape == (1, 40, 10, 1)
    window, padded = np.hanning(65)[:-1], np.pad(x[0, :, 0].astype(np.float64), 24)
    for i in (0, 17, 20):
        spectrum = np.abs(np.fft.rfft(padded[16 * i :][:64] * window))
        bands = np.maximum(spectrum @ np.float64(mel_filters(8000, 64, 10)), 1e-4)
        np.testing.assert_allclose(seen[0, i, :, 0], 1 + np.log10(bands) / 2, atol=1e-4)
    assert (seen[0, :10] == -1).all() and (seen[0, 18:22] > -1).all()

"""What is asked of the packages that stand for listeners, and sounds that they cannot score."""

import importlib.util
import sys
import types
import warnings

import numpy as np
import pytest

from vq_jax.evaluators.sound import listeners


def tone(seconds, rate, pitch=440):
    return np.round(8000 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate))


def test_without_the_packages_a_sentence_says_so(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, 'pesq', None)
    with caplog.at_level('WARNING'):
        assert listeners(8000) == {}
    assert (
        'PESQ and STOI are left out, as pesq is not installed: pip install "vq_jax[speech]".' in caplog.text
    )
    assert listeners(None) == {}


@pytest.mark.parametrize('rate, mode, at', [(8000, 'nb', 8000), (11025, 'nb', 8000), (44100, 'wb', 16000)])
def test_packages_are_given_what_they_take(rate, mode, at, monkeypatch):
    """PESQ knows two rates, and both are given sound from -1 to 1, the original first."""
    asked = {}

    def pesq(*arguments):
        asked['pesq'] = arguments
        return 2.5

    def stoi(x, y, rate, extended):
        asked['stoi'] = rate, extended
        if abs(y).max() < 0.1:
            warnings.warn('Not enough STFT frames to compute', RuntimeWarning, stacklevel=1)
        return 0.75

    class NoUtterancesError(Exception):
        pass

    errors = {'NoUtterancesError': NoUtterancesError, 'BufferTooShortError': NoUtterancesError}
    monkeypatch.setitem(sys.modules, 'pesq', types.SimpleNamespace(pesq=pesq, **errors))
    monkeypatch.setitem(sys.modules, 'pystoi', types.SimpleNamespace(stoi=stoi))
    heard = listeners(rate)
    assert set(heard) == {f'pesq_{mode}', 'stoi'}
    x, y = tone(0.5, rate), tone(0.5, rate) / 2
    assert heard[f'pesq_{mode}'](x, y) == 2.5 and heard['stoi'](x, y) == 0.75
    given_rate, original, rebuilt, given_mode = asked['pesq']
    assert (given_rate, given_mode, asked['stoi']) == (at, mode, (rate, False))
    middle = slice(at // 8, -at // 8)
    np.testing.assert_allclose(original[middle], tone(0.5, at)[middle] / 2**15, atol=1e-4)
    np.testing.assert_allclose(rebuilt, original / 2, atol=1e-7)
    assert heard['stoi'](x, y / 4) is None
    assert heard['stoi'](x[: int(0.3 * rate)], y[: int(0.3 * rate)]) is None
    assert heard[f'pesq_{mode}'](x, 0 * y) is None and heard[f'pesq_{mode}'](0 * x, y) is None

    def nothing_said(*_):
        raise NoUtterancesError

    sys.modules['pesq'].pesq = nothing_said
    assert heard[f'pesq_{mode}'](x, y) is None


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ('pesq', 'pystoi')),
    reason='pesq and pystoi are not installed (vq_jax[speech])',
)
def test_the_packages_themselves():
    heard, noise = listeners(16000), np.random.RandomState(0).standard_normal(16000)
    x = np.round(2000 * noise * (1 + np.sin(2 * np.pi * 3 * np.arange(16000) / 16000)))
    assert heard['pesq_wb'](x, x) > 4.5 and heard['stoi'](x, x) == pytest.approx(1)
    assert heard['pesq_wb'](x, np.roll(x, 8000)) < 2 and heard['stoi'](x, np.roll(x, 8000)) < 0.5
    assert heard['stoi'](0 * x, x) is None and heard['pesq_wb'](x[:2000], x[:2000]) is None

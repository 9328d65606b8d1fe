"""How loud a recording is, as broadcasting measures it.

Algorithms to measure audio programme loudness, ITU-R BS.1770-4 (2015); of two channels or one.
"""

import math

import numpy as np

from vq_jax.data.config import LEAST_LOUD

_HOP = 0.1  # seconds; a block of 0.4 seconds overlaps with the next one by three quarters
_HOPS_OF_A_BLOCK = 4
_BELOW_MEAN = -10.0  # LU; nor do blocks that are so far below the mean of the others
_OFFSET = -0.691  # dB, by which a sine of 997 Hz and full scale in one channel has -3.01 LUFS
LOWEST_RATE = 4000  # samples a second, for which the first filter is made


class Meter:
    """Measures a recording that comes in pieces, of which it keeps ten numbers a second.

    Attributes:
      peak: The largest absolute value so far.
    """

    def __init__(self, rate: float, channels: int) -> None:
        """Begins with a recording of a rate, in samples a second of at least `LOWEST_RATE`."""
        self.peak = 0.0
        self._filters = _filters(rate)
        self._states = [np.zeros((2, channels)) for _ in self._filters]
        self._hop = round(_HOP * rate)
        self._rest = np.zeros((0, channels))
        self._energies: list[np.ndarray] = []

    def add(self, samples: np.ndarray) -> None:
        """Takes the next samples, [n c] with full scale at 1."""
        from scipy.signal import lfilter  # takes a third of a second

        self.peak = max(self.peak, float(np.abs(samples).max(initial=0)))
        for i, (b, a) in enumerate(self._filters):
            samples, self._states[i] = lfilter(b, a, samples, axis=0, zi=self._states[i])
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // self._hop * self._hop
        hops = samples[:whole].reshape(-1, self._hop, samples.shape[1])
        self._energies.append(np.square(hops).mean(axis=1).sum(axis=1))
        self._rest = samples[whole:]

    def loudness(self) -> float:
        """Integrated loudness of all samples in LUFS; minus infinity where all is quieter than -70.

        What is quieter does not count. A recording that is shorter than a block is one block.
        """
        hops = np.concatenate([np.zeros(0), *self._energies])
        if len(hops) < _HOPS_OF_A_BLOCK:
            samples = len(hops) * self._hop + len(self._rest)
            energy = hops.sum() * self._hop + np.square(self._rest).sum()
            blocks = np.full(1, energy / max(samples, 1))
        else:
            blocks = np.convolve(hops, np.full(_HOPS_OF_A_BLOCK, 1 / _HOPS_OF_A_BLOCK), 'valid')
        for gate in (lambda _: LEAST_LOUD, lambda kept: _lufs(kept.mean()) + _BELOW_MEAN):
            blocks = blocks[_lufs(blocks) > gate(blocks)]
            if not len(blocks):
                return -math.inf
        return float(_lufs(blocks.mean()))


def _lufs(energy: np.ndarray) -> np.ndarray:
    """Mean squares, summed over the channels, in LUFS."""
    return _OFFSET + 10 * np.log10(np.maximum(energy, 1e-30))


def _filters(rate: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two filters of a rate, numerators and denominators: a shelf as of a head, and a high-pass.

    The standard gives their coefficients for 48,000 samples a second alone; these are the bilinear transforms
    of the analogue filters that give the same there.
    """
    gain, shelf, high_pass = 3.999843853973347, 1681.974450955533, 38.13547087602444  # dB, Hz, Hz
    k, q = math.tan(math.pi * shelf / rate), 0.7071752369554196
    high = 10 ** (gain / 20)
    middle = high**0.4996667741545416
    numerator = [high + middle * k / q + k * k, 2 * (k * k - high), high - middle * k / q + k * k]
    first = np.array(numerator), np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    k, q = math.tan(math.pi * high_pass / rate), 0.5003270373238773
    a = np.array([1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    return [first, (np.array([1.0, -2.0, 1.0]) * a[0], a)]

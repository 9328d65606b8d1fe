"""Sound at another rate, of a whole recording or of a stretch of it, which is the same to the last bit.

The filter against aliasing is a windowed sinc of 64 zero crossings on either side, applied by SciPy. It
leaves what is below 0.9 of the lower of the two bands as it is, and of what is above that band takes away 96
dB, the range of 16 bits.
"""

import dataclasses
import functools
import math

import numpy as np

from vq_jax.data.config import MOST_SAMPLES
from vq_jax.data.transforms.transform import Undecodable

_CROSSINGS, _CUTOFF, _KAISER_BETA = 64, 0.952, 9.6
_MOST_PHASES = 2**17  # of the filter, whose length is a multiple of it


@dataclasses.dataclass(frozen=True)
class Resampling:
    """From a rate to one that is `up / down` of it, in lowest terms."""

    up: int
    down: int

    @classmethod
    def of(cls, rate: float | None, wanted: float | None) -> 'Resampling':
        """From one rate to another, in samples a second; fractions of them do not count."""
        if rate == wanted:
            return cls(1, 1)
        common = math.gcd(int(wanted), int(rate))
        return cls(int(wanted) // common, int(rate) // common)

    def length(self, n: int) -> int:
        """How many samples n become."""
        return -(-n * self.up // self.down)

    def inputs(self, start: int, stop: int, n: int) -> tuple[int, int]:
        """Where to begin and to stop reading for a stretch.

        Args:
          start: Its first sample, at the new rate.
          stop: The one after its last.
          n: How many samples there are to read.
        """
        last = ((stop - 1) * self.down + self._reach) // self.up + 1
        return self._periods_before(start) * self.down, min(n, last)

    def __call__(self, samples: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Makes a stretch of what `inputs` says to read for it.

        Args:
          samples: int16 [n c].
          start: As for `inputs`.
          stop: As for `inputs`.

        Returns:
          float64 [stop-start c]; int16 where the rate stays as it is.

        Raises:
          Undecodable: If the filter would be too long.
        """
        if self.up == self.down:
            return samples
        if max(self.up, self.down) > _MOST_PHASES:
            raise Undecodable(
                f'its rate is {self.down:,} {self.up:,}ths of the one that is wanted, and rates must have '
                'more in common'
            )
        from scipy.signal import resample_poly  # takes a third of a second

        changed = resample_poly(samples.astype(np.float64), self.up, self.down, window=_low_pass(self))
        before = self._periods_before(start) * self.up
        return changed[start - before : stop - before]

    @property
    def _reach(self) -> int:
        """How far the filter reaches to either side, in samples of `up` times the first rate."""
        return 0 if self.up == self.down else _CROSSINGS * max(self.up, self.down)

    def _periods_before(self, start: int) -> int:
        """How many times `down` samples are not needed, after which the filter begins as it first did."""
        return max(0, (start * self.down - self._reach) // (self.up * self.down))


def resample(samples: np.ndarray, rate: float, wanted: int, gain: float = 1.0) -> np.ndarray:
    """Changes the rate of sound, a whole number.

    Args:
      samples: int16 [n c].
      rate: In samples a second.
      wanted: The same.
      gain: What the result is multiplied by.

    Returns:
      int16 [ceil(n wanted / rate) c].

    Raises:
      Undecodable: If the result would be too long, or the rates have too little in common.
    """
    resampling = Resampling.of(rate, wanted)
    length = resampling.length(len(samples))
    if length > MOST_SAMPLES:
        raise Undecodable(f'{len(samples):,} samples are too many to be resampled from {rate} to {wanted}')
    return as_int16(resampling(samples, 0, length), gain)


def as_int16(samples: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """Samples in steps of int16, times a factor, as int16; what is larger than it holds is clipped."""
    if samples.dtype == np.int16 and gain == 1:
        return samples
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(samples * gain), limits.min, limits.max).astype(np.int16)


@functools.lru_cache(maxsize=4)
def _low_pass(resampling: Resampling) -> np.ndarray:
    from scipy.signal import firwin

    cutoff = _CUTOFF / max(resampling.up, resampling.down)
    return firwin(2 * resampling._reach + 1, cutoff, window=('kaiser', _KAISER_BETA))

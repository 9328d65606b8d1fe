"""Recordings for people, one after the other."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np

from vq_jax.media import wav

_PAUSE = 0.25  # seconds between recordings


class SoundLog(Protocol):
    """A log that keeps sounds."""

    def sound(self, step: int, name: str, samples: np.ndarray, rate: float) -> None:
        """Keeps int16 [n c] of so many samples in a second."""


@dataclasses.dataclass(frozen=True)
class Sound:
    """Recordings to listen to.

    Attributes:
        folder: where their files lie in a run directory.
        recordings: int16 [b n c], in the order in which they are heard.
        rate: samples in a second.
        names: of the recordings, one for each; empty if nothing is said.
    """

    folder: ClassVar[str] = 'sounds'

    recordings: np.ndarray
    rate: float
    names: tuple[str, ...] = ()

    def joined(self) -> np.ndarray:
        """The recordings with a pause after each, or one alone without, int16 [m c]."""
        if len(self.recordings) == 1:
            return self.recordings[0]
        pause = round(_PAUSE * self.rate)
        padded = np.pad(self.recordings, ((0, 0), (0, pause), (0, 0)))
        return padded.reshape(-1, self.recordings.shape[-1])

    def encoded(self) -> bytes:
        """The content of a WAV file of all; a cue point says where each recording begins that has a name."""
        joined = self.joined()
        apart = len(joined) // len(self.recordings)
        cues = [wav.Cue(i * apart, name) for i, name in enumerate(self.names)]
        return wav.encode(joined, self.rate, cues)

    def of_columns(self, names: Sequence[str]) -> 'Sound':
        """The same: there is no room for words."""
        return self

    def files(self, name: str) -> dict[str, bytes]:
        """The content of a WAV file, by its name."""
        return {f'{name}.wav': self.encoded()}

    def log(self, log: SoundLog, step: int, name: str) -> None:
        """Has a log keep the sound of a step."""
        log.sound(step, name, self.joined(), self.rate)

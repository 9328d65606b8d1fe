"""Moving images for people: GIF, and MP4 where the package av is installed (the extra `video`)."""

import dataclasses
import functools
import io
from collections.abc import Sequence
from fractions import Fraction
from types import ModuleType
from typing import ClassVar, Protocol

import numpy as np
from PIL import Image

from vq_jax.errors import UserError
from vq_jax.media.sheets import Sheet

USUAL_RATE = 8.0  # frames in a second of what does not say its rate
_HIGHEST_GIF_RATE = 50  # browsers show faster ones at 10 frames in a second


class AnimationLog(Protocol):
    """A log that keeps moving images."""

    def animation(self, step: int, name: str, gif: bytes, size: tuple[int, int]) -> None:
        """Keeps the content of a GIF file of so many pixels, (height, width)."""


@dataclasses.dataclass(frozen=True)
class Animation:
    """Images that are shown one after the other, again and again.

    Attributes:
        folder: where its files lie in a run directory.
        sheets: of one size, one for each frame.
        rate: frames in a second; None is `USUAL_RATE`.
    """

    folder: ClassVar[str] = 'animations'

    sheets: tuple[Sheet, ...]
    rate: float | None = None

    def of_columns(self, names: Sequence[str]) -> 'Animation':
        """The animation with names over its columns (see `Sheet.of_columns`)."""
        return dataclasses.replace(self, sheets=tuple(sheet.of_columns(names) for sheet in self.sheets))

    def captioned(self) -> np.ndarray:
        """The frames with what is written on them, uint8 [t h w 3]."""
        return np.stack([sheet.captioned() for sheet in self.sheets])

    def files(self, name: str) -> dict[str, bytes]:
        """The content of a GIF file, by its name."""
        return {f'{name}.gif': self._encoded[0]}

    def log(self, log: AnimationLog, step: int, name: str) -> None:
        """Has a log keep the animation of a step."""
        log.animation(step, name, *self._encoded)

    @functools.cached_property
    def _encoded(self) -> tuple[bytes, tuple[int, int]]:
        """The content of a GIF file, which takes a while to make, and its height and width."""
        frames = self.captioned()
        return gif(frames, self.rate), frames.shape[1:3]


def gif(frames: np.ndarray, rate: float | None = None) -> bytes:
    """The content of a GIF file, which has up to 256 colours a frame: grey is exact, colours are near.

    Args:
        frames: uint8 [t h w c], with c 1 (grey) or 3.
        rate: frames in a second, of which 50 are written at most; None is `USUAL_RATE`.
    """
    grey = (frames == frames[..., :1]).all()
    images = [Image.fromarray(frame[..., 0] if grey else frame) for frame in frames]
    ends = np.round(np.arange(len(frames) + 1) * 100 / min(rate or USUAL_RATE, _HIGHEST_GIF_RATE))
    durations = [int(hundredths) * 10 for hundredths in np.diff(ends)]  # in milliseconds
    file = io.BytesIO()
    first, *rest = images
    first.save(file, 'gif', save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)
    return file.getvalue()


def writer() -> ModuleType:
    """The package av, which writes MP4; raises `UserError` if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UserError(
            "To write MP4, install the package av by pip install 'vq_jax[video]', or write a GIF."
        ) from error
    return av


def mp4(frames: np.ndarray, rate: float | None = None) -> bytes:
    """The content of an MP4 file (H.264, nearly without visible loss).

    Args:
        frames: uint8 [t h w c], with c 1 (grey) or 3; sides of an odd number of pixels get one more.
        rate: frames in a second; None is `USUAL_RATE`.

    Raises:
        UserError: if the package av is not installed.
    """
    av = writer()
    _, height, width, _ = frames.shape
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode='edge')
    even = np.ascontiguousarray(np.broadcast_to(even, (*even.shape[:3], 3)))
    file = io.BytesIO()
    with av.open(file, 'w', format='mp4') as container:
        stream = container.add_stream('libx264', Fraction(rate or USUAL_RATE).limit_denominator(1001))
        stream.height, stream.width = even.shape[1:3]
        stream.pix_fmt, stream.options = 'yuv420p', {'crf': '12'}
        stream.codec_context.thread_count = 1  # so that the same frames always give the same file
        for frame in even:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, 'rgb24')))
        container.mux(stream.encode())
    return file.getvalue()

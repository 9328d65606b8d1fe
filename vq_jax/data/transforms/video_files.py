"""Videos as they are stored, of which no more is decoded than the frames that are asked for.

GIF and APNG are read by Pillow, as frames in files of their own are, and MP4, QuickTime, Matroska, WebM and
AVI by the package av (the extra `video`).
"""

import bisect
import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import Image

from vq_jax.data.config import MOST_PIXELS
from vq_jax.data.transforms.transform import Undecodable
from vq_jax.errors import UserError
from vq_jax.files import open_regular, read_file

ANIMATED = ('.apng', '.gif')
CODED = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm')
# How files begin, and what FFmpeg calls their format. It is not left to find that out, since some of what it
# takes for video, such as playlists, has it open other files and addresses.
_FORMATS = {
    'avi': re.compile(rb'RIFF....AVI ', re.DOTALL),
    'matroska': re.compile(rb'\x1a\x45\xdf\xa3'),
    'mov': re.compile(rb'....(ftyp|moov|mdat|wide|free|skip)', re.DOTALL),
}
_IS_ANIMATED = re.compile(rb'GIF8|\x89PNG')
_BEGINNING = 12  # bytes of a file that tell what it is
_WITHOUT_TIMES = 'its frames do not say when they are shown; convert it to MP4 or WebM'
_UNTIMED = 100  # milliseconds for which browsers show a frame of a GIF that does not say how long
_MOST_FRAMES = 2**24  # of a video at another rate than its own
_TOLERANCE = 1e-3  # seconds; Matroska tells times in whole milliseconds

# A path, of a file or of a folder with an image for each frame; the content of a file; the contents of the
# images; or uint8 [t h w c].
Stored = Path | bytes | Sequence[bytes] | np.ndarray
Frame = Image.Image | bytes | np.ndarray  # as `vq_jax.data.transforms.image.decode` takes them


class VideoReader(Protocol):
    """The frames of a video, each decoded when it is asked for.

    Attributes:
      length: How many there are.
    """

    length: int

    def times(self) -> np.ndarray | None:
        """Returns when each frame begins and the last one ends, in seconds [length+1]; None if not known."""

    def read(self, numbers: Sequence[int]) -> Iterator[Frame]:
        """Yields the frames of these numbers, which never decrease."""


@contextlib.contextmanager
def open_video(stored: Stored, images: Sequence[str]) -> Iterator[VideoReader]:
    """Opens what is stored, for as long as the context lasts.

    Args:
      stored: See `Stored`.
      images: How the names of images end, which in a folder are frames.

    Raises:
      Undecodable: If it is no video that is read, or one of no frames.
      UserError: If the package that reads it is not installed.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(stored, Path | bytes):
            try:
                if isinstance(stored, Path) and stored.is_dir():
                    opened = frame_paths(stored, images)
                else:
                    opened = open_regular(stored) if isinstance(stored, Path) else io.BytesIO(stored)
            except (OSError, UserError) as error:
                raise Undecodable(getattr(error, 'strerror', None) or str(error)) from error
            reader = (
                _Stills(opened) if isinstance(opened, list) else _of_file(stack.enter_context(opened), stack)
            )
        else:
            reader = _Stills(stored)
        if reader.length < 1:
            raise Undecodable('it has no frames')
        yield reader


def holds_video(stored: Path | bytes) -> bool:
    """Whether a path, or the content of a file, is what `open_video` reads; so is an image in GIF or PNG.

    Raises:
      OSError: If the file cannot be read.
      UserError: If it is no regular file.
    """
    if isinstance(stored, Path):
        if stored.is_dir():
            return True
        with open_regular(stored) as file:
            stored = file.read(_BEGINNING)
    return any(pattern.match(stored) for pattern in (_IS_ANIMATED, *_FORMATS.values()))


def frame_paths(folder: Path, images: Sequence[str]) -> list[Path]:
    """Returns the images in a folder, not below it, in the order of the numbers in their names.

    Raises:
      OSError: If the folder cannot be read.
    """
    suffixes = {*images} - {*ANIMATED}
    names = [name for name in os.listdir(folder) if Path(name).suffix.lower() in suffixes]

    def by_numbers(name: str) -> list[tuple[int, str]]:
        return [(int(part), '') if part.isdecimal() else (0, part) for part in re.split(r'(\d+)', name)]

    return [folder / name for name in sorted(names, key=by_numbers) if not name.startswith('.')]


def shown_at(times: np.ndarray, rate: float) -> np.ndarray:
    """Returns the numbers of the frames that are seen at a rate, one or more.

    Args:
      times: As `VideoReader.times` returns them.
      rate: Frames in a second. Frames of the video are repeated or left out, none is made of several.

    Raises:
      Undecodable: If the video says that it lasts for days.
    """
    seconds = times[-1] - times[0]
    if seconds * rate > _MOST_FRAMES:
        raise Undecodable(f'it lasts {seconds:,.0f} seconds, which are too many')
    ticks = np.arange(max(1, round(seconds * rate))) / rate
    return np.searchsorted(times[:-1], times[0] + ticks + _TOLERANCE, side='right') - 1


class _Stills:
    """A `VideoReader` of one image for each frame."""

    def __init__(self, frames: Sequence[Path | bytes | np.ndarray]) -> None:
        self._frames, self.length = frames, len(frames)

    def times(self) -> None:
        """See `VideoReader`; nothing tells when they were taken."""

    def read(self, numbers: Sequence[int]) -> Iterator[bytes | np.ndarray]:
        """See `VideoReader`."""
        for number in numbers:
            frame = self._frames[number]
            try:
                yield read_file(frame) if isinstance(frame, Path) else frame
            except (OSError, UserError) as error:
                raise Undecodable(getattr(error, 'strerror', None) or str(error)) from error


class _Animated:
    """A `VideoReader` of what Pillow reads; a frame may need those before it, which are then decoded too."""

    def __init__(self, file: BinaryIO) -> None:
        with _damage(Exception):  # Pillow's readers raise nearly anything
            self._image = Image.open(file, formats=('GIF', 'PNG'))
            # An APNG may begin with an image for readers that do not animate.
            self._first = int(getattr(self._image, 'default_image', False))
            self.length = getattr(self._image, 'n_frames', 1) - self._first

    def times(self) -> np.ndarray:
        """See `VideoReader`."""
        durations = [self._frame(n).info.get('duration') or _UNTIMED for n in range(self.length)]
        return np.concatenate([[0], np.cumsum(durations)]) / 1000

    def read(self, numbers: Sequence[int]) -> Iterator[Image.Image]:
        """See `VideoReader`."""
        yield from map(self._frame, numbers)

    def _frame(self, number: int) -> Image.Image:
        with _damage(Exception):
            self._image.seek(self._first + int(number))
        return self._image


class _Coded:
    """A `VideoReader` of what FFmpeg decodes.

    All packets of a file are read, and none is decoded, to learn when each frame is shown and which of them
    are key frames. A frame is decoded with those that follow the last key frame before it.
    """

    def __init__(self, file: BinaryIO, form: str, av: Any, stack: contextlib.ExitStack) -> None:
        self._errors = av.error.FFmpegError
        with _damage(self._errors):
            opened = av.open(file, format=form, metadata_errors='replace')
            self._container = stack.enter_context(opened)
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not streams:
            raise Undecodable('it has no images, only sound')
        self._stream = streams[0]
        context = self._stream.codec_context
        if context is None:
            raise Undecodable('it is encoded in a way that this FFmpeg does not decode')
        if context.width * context.height > MOST_PIXELS:
            raise Undecodable(f'{context.width}x{context.height} pixels are too many')
        context.thread_count = 1  # the pipeline has threads and processes of its own
        with _damage(self._errors):
            packets = [
                (packet.pts, packet.duration or 0, packet.is_keyframe, packet.dts)
                for packet in self._container.demux(self._stream)
                if packet.size and not packet.is_discard
            ]
        if any(pts is None for pts, *_ in packets):
            raise Undecodable(_WITHOUT_TIMES)
        packets.sort(key=lambda packet: packet[0])
        self._pts = np.array([pts for pts, *_ in packets], np.int64)
        # Files find their places by when they are decoded, or else by when they are shown, which is later.
        places = {n: pts if dts is None else dts for n, (pts, _, is_key, dts) in enumerate(packets) if is_key}
        self._places, self._keys = places, list(places)
        self._last = packets[-1][1] if packets else 0
        self.length = len(packets)

    def times(self) -> np.ndarray:
        """See `VideoReader`; the last frame is shown as long as most are, where it does not say how long."""
        last = self._last or (np.median(np.diff(self._pts)) if self.length > 1 else 0)
        return np.append(self._pts, self._pts[-1] + last) * float(self._stream.time_base)

    def read(self, numbers: Sequence[int]) -> Iterator[Image.Image]:
        """See `VideoReader`; what has no image of its own, as some packets of VP8, is the image before."""
        frames, shown, following, at = iter(()), None, None, -2
        for number in map(int, numbers):
            if self._key_before(number) > at + 1:  # else it takes no longer to go on
                shown, frames = self._from(number)
                following = None
            while shown.pts < self._pts[number]:
                following = following or self._next(frames)
                if following is None or following.pts > self._pts[number]:
                    break
                shown, following = following, None
            at = number
            yield _turned(shown)

    def _key_before(self, number: int) -> int:
        """Returns the number of the last key frame up to a frame."""
        found = bisect.bisect_right(self._keys, number)
        if not found:
            raise Undecodable('it does not begin with a key frame')
        return self._keys[found - 1]

    def _from(self, number: int) -> tuple[Any, Iterator[Any]]:
        """Returns the last key frame up to a number, and an iterator over the frames that follow it."""
        frames = self._decoded(self._key_before(number))
        first = self._next(frames)
        if first is None or first.pts > self._pts[number]:
            raise Undecodable(f'its frame {number} cannot be found')
        return first, frames

    def _decoded(self, key: int) -> Iterator[Any]:
        """Yields the frames from a key frame on; some that are shown before it may be stored after it."""
        self._container.seek(self._places[key], stream=self._stream)
        for packet in self._container.demux(self._stream):
            if packet.pts is None or packet.pts >= self._pts[key]:  # the last one has no time, and no size
                yield from packet.decode()

    def _next(self, frames: Iterator[Any]) -> Any | None:
        with _damage(self._errors):
            frame = next(frames, None)
        if frame is not None and frame.is_corrupt:  # parts of it are made up
            raise Undecodable('it is damaged')
        if frame is not None and frame.pts is None:
            raise Undecodable(_WITHOUT_TIMES)
        return frame


@contextlib.contextmanager
def _damage(errors: type[Exception]) -> Iterator[None]:
    """Raises `Undecodable` for what a library raises on damaged files."""
    try:
        yield
    except Undecodable:
        raise
    except errors as error:
        if type(error) is MemoryError:  # FFmpeg's own is of sizes in a file that cannot be true
            raise
        raise Undecodable(f'{type(error).__name__}: {getattr(error, "strerror", None) or error}') from error


def _turned(frame: Any) -> Image.Image:
    """Returns the image of a frame the way its file says it is to be turned."""
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _of_file(file: BinaryIO, stack: contextlib.ExitStack) -> VideoReader:
    """Opens a file by what it begins with, whatever its name."""
    start = file.read(_BEGINNING)
    file.seek(0)
    if _IS_ANIMATED.match(start):
        return _Animated(file)
    form = next((form for form, begins in _FORMATS.items() if begins.match(start)), None)
    if form is None:
        raise Undecodable('it is none of MP4, QuickTime, Matroska, WebM, AVI, GIF and APNG')
    try:
        import av
    except ImportError as error:
        raise UserError(
            "To read MP4, WebM and other video, install the package av by pip install 'vq_jax[video]'."
        ) from error
    return _Coded(file, form, av, stack)

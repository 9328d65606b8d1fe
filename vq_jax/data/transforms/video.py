"""From a stored video to the array that the model is given: a clip of frames, of one size and rate."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from vq_jax.data.config import DataConfig
from vq_jax.data.source import Source
from vq_jax.data.transforms.image import ImageTransform, centred, decode, decode_file
from vq_jax.data.transforms.transform import Undecodable
from vq_jax.data.transforms.video_files import (
    CODED,
    Stored,
    VideoReader,
    holds_video,
    open_video,
    shown_at,
)
from vq_jax.errors import UserError, plural
from vq_jax.files import telling
from vq_jax.spec import Spec

# A video that a user gives: the path of a file or of a folder of frames, the content of a file, or an array
# of the model's rate, uint8 [t h w c].
VideoLike = bytes | str | Path | np.ndarray
# A mask of one: an image for all of its frames, or a video of as many; as arrays, bool or uint8 [h w] or
# [t h w].
MaskLike = bytes | str | Path | Image.Image | np.ndarray


class VideoTransform(ImageTransform):
    """Takes a clip out of a video, and does to each of its frames what `ImageTransform` does to an image.

    Of the video as it is seen at `frame_rate`, every `frame_stride`-th frame is taken, until there are
    `frames`. Evaluation sees the clip in the middle. With random crops, one of training begins at a random
    frame, and nothing but that clip is decoded.
    """

    noun = 'video'
    keys: ClassVar[tuple[str, ...]] = ('video_key', 'frames', 'frame_stride', 'frame_rate')
    keys += tuple(key for key in ImageTransform.keys if key != 'image_key')
    suffixes: ClassVar[tuple[str, ...]] = ('.apng', *CODED)  # GIF files may be images
    file_shape: ClassVar[tuple[int | None, ...]] = (None, None, None, 3)
    by_path: ClassVar[bool] = True

    def __init__(self, config: DataConfig, source: Source) -> None:
        super().__init__(config, source)
        self._rate = source.rate
        length, stride = source.shape[0], config.frame_stride
        declared = None if length is None or config.frame_rate else length
        n = config.frames or (declared and -(-declared // stride))
        self.spec = self._spec(n, self._declared) if n and self._declared else None
        self.seeks = config.random_crop and config.frames is not None and declared != _span(n, stride)
        self.uniforms = 4 if self.varied or self.seeks or config.flip else 0

    def measure(self, stored: Stored, name: str) -> Spec:
        """See `Transform`; where no number of frames is asked for, it is that of this video."""
        with open_video(stored, ImageTransform.suffixes) as reader:
            numbers = _clip(reader, self._config, self._config.frames, self._rate, name)
            first = self._opened(next(reader.read(numbers[:1])), name)
        return self._spec(len(numbers), self._shape_of(first))

    def decode(
        self, stored: Stored, name: str, told: list[str] | None = None, position: float | None = None
    ) -> np.ndarray:
        """See `Transform`; uint8 [t h w c]."""
        with open_video(stored, ImageTransform.suffixes) as reader:
            numbers = _clip(reader, self._config, self._config.frames, self._rate, name, position)
            if len(numbers) != self.spec.shape[0]:
                raise UserError(
                    f'{name} has {len(numbers):,} frames, not {self.spec.shape[0]:,} as the others: set '
                    'config.data.frames to bring all videos to one length.'
                )
            images = _of_one_size(self._opened(frame, name) for frame in reader.read(numbers))
            return np.stack([self._arranged(image, name) for image in images])

    @staticmethod
    def prepare(
        file: VideoLike, mask: MaskLike | None, spec: Spec, config: DataConfig, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Transform`; a whole video has all of its frames, at the model's rate and of its size.

        A mask has its size, and as many frames or one for all; it is brought to the model's size with it.
        """
        wrong = None if isinstance(file, VideoLike) else f'of type {type(file).__name__}'
        if isinstance(file, np.ndarray) and (file.dtype != np.uint8 or file.ndim != 4):
            wrong = f'{file.dtype} of shape {file.shape}'
        if wrong:
            raise UserError(
                f'the video is {wrong}; give a path, the content of a file, or an array, uint8 [t h w c].'
            )
        if isinstance(file, np.ndarray):
            config = dataclasses.replace(config, frame_rate=None, frame_stride=1)
        stored = Path(file) if isinstance(file, str) else file
        name = str(file) if isinstance(file, str | Path) else 'the video'
        try:
            with open_video(stored, ImageTransform.suffixes) as reader:
                if config.frame_rate and reader.times() is None:  # frames in files of their own, as arrays
                    config = dataclasses.replace(config, frame_rate=None, frame_stride=1)
                numbers = _clip(reader, config, None if whole else spec.shape[0], None, name)
                opened = _of_one_size(
                    decode(frame, spec.channels, True, name) for frame in reader.read(numbers)
                )
                first = next(opened)
                frames = np.stack([centred(image, config) for image in itertools.chain([first], opened)])
                white = (
                    None if mask is None else _white(mask, numbers, reader.length, first.size, name, config)
                )
        except Undecodable as error:
            raise UserError(f'{name} cannot be taken ({error}); give another video.') from error
        if frames.shape[1:] != spec.shape[1:]:
            raise UserError(
                f'{name} is {frames.shape[2]}x{frames.shape[1]} pixels and the model was trained on '
                f'{spec.shape[2]}x{spec.shape[1]}; resize it.'
            )
        if white is None:
            return frames, None
        if not white.any():
            raise UserError(
                'nothing of the mask is white where the model sees it; make white what is to be generated.'
            )
        return frames, np.broadcast_to(white, frames.shape[:-1])

    def _spec(self, n: int, frame: tuple[int, ...]) -> Spec:
        rate = self._config.frame_rate or self._rate
        return Spec('video', (n, *frame), rate and rate / self._config.frame_stride)


def _white(
    mask: MaskLike, numbers: np.ndarray, length: int, size: tuple[int, int], name: str, config: DataConfig
) -> np.ndarray:
    """Returns what is white in the mask of a clip, bool [t h w]; where it is one image, [1 h w].

    Args:
      mask: Of the whole video.
      numbers: Of the frames of the clip.
      length: How many frames the video has.
      size: Width and height of its frames, as they are stored.
      name: What to call the video in messages.
      config: Says how frames are brought to the size of the model.

    Raises:
      UserError: If it cannot be read, or is of another size or number of frames.
      Undecodable: If it cannot be resized.
    """
    stored = Path(mask) if isinstance(mask, str) else mask
    told = str(stored) if isinstance(stored, Path) else 'the mask'

    def white(image: Image.Image) -> np.ndarray:
        if image.size != size:
            sizes = f'{size[0]}x{size[1]} pixels and its mask {image.width}x{image.height}'
            raise UserError(f'{name} is {sizes}; make them alike.')
        return centred(image, config)[..., 0] > 127

    moving = isinstance(stored, np.ndarray) and stored.ndim == 3
    if isinstance(stored, bytes | Path):
        with telling(f'{told} cannot be read', 'give an image or a video'):
            moving = holds_video(stored)
    if not moving:
        return white(decode_file(stored, 1, told))[None]
    try:
        with open_video(stored, ImageTransform.suffixes) as reader:
            if reader.length not in (1, length):
                raise UserError(
                    f'{name} has {plural(length, "frame")} and its mask {reader.length:,}; give a mask of as '
                    'many, or an image for all.'
                )
            shown = numbers if reader.length == length else [0]
            return np.stack([white(decode(frame, 1, True, told)) for frame in reader.read(shown)])
    except Undecodable as error:
        raise UserError(f'{told} cannot be taken ({error}); give another mask.') from error


def check_video(path: str | Path) -> None:
    """Raises `UserError` if a file, or a folder of frames, cannot be opened as a video."""
    try:
        with open_video(Path(path), ImageTransform.suffixes):
            pass
    except Undecodable as error:
        raise UserError(f'{path} cannot be taken ({error}); give another video.') from error


def _clip(
    reader: VideoReader,
    config: DataConfig,
    n: int | None,
    rate: float | None,
    name: str,
    position: float | None = None,
) -> np.ndarray:
    """Returns the numbers of the frames of a clip.

    Args:
      reader: The video.
      config: Says at which rate and stride it is seen.
      n: How many frames; None is all.
      rate: Of a video that does not say when its frames are shown, if it is known.
      name: What to call the video in messages.
      position: See `Transform.decode`.
    """
    seen, stride = np.arange(reader.length), config.frame_stride
    if config.frame_rate is not None:
        times = reader.times()
        if times is None and rate is not None:
            times = np.arange(reader.length + 1) / rate
        if times is None:
            raise UserError(f'{name} does not say its rate: leave config.data.frame_rate out.')
        seen = shown_at(times, config.frame_rate)
    if n is None:
        return seen[::stride]
    free = len(seen) - _span(n, stride)
    if free < 0:
        has = plural(len(seen), 'frame')
        raise Undecodable(f'it has {has}, and a clip of {n:,} takes {_span(n, stride):,}')
    start = free // 2 if position is None else int(position * (free + 1))
    return seen[start : start + _span(n, stride) : stride]


def _span(n: int, stride: int) -> int:
    """How many frames there are from the first to the last of a clip."""
    return (n - 1) * stride + 1


def _of_one_size(images: Iterator[Image.Image]) -> Iterator[Image.Image]:
    """Yields the frames of a clip; raises `Undecodable` where their size changes."""
    size = None
    for image in images:
        size = size or image.size
        if image.size != size:
            changed = f'from {size[0]}x{size[1]} to {image.width}x{image.height}'
            raise Undecodable(f'the size of its frames changes {changed}')
        yield image

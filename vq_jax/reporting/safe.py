"""What of a stranger's run may be put into a page: text that is no HTML, media that are such."""

import base64
import dataclasses
import html
import io
import os
import warnings
from pathlib import Path
from typing import Any

from vq_jax.errors import UserError
from vq_jax.json_files import read_file
from vq_jax.media import wav

_MOST_BYTES = 2**25  # of an image or a sound
_MOST_FRAMES, _MOST_PIXELS = 10_000, 2**28  # of an animation, the latter in all of its frames
_MOST_TEXT = 2**20  # bytes
_MOST_CUES, _LONGEST_NAME = 1000, 100


def escape(value: Any) -> str:
    """HTML that shows what `str` makes of a value; bytes of file names that are no text become escapes."""
    return html.escape(str(value).encode('utf-8', 'backslashreplace').decode())


def read_png(path: Path, workdir: Path) -> str:
    """An image of a run, to be put into a page.

    Args:
        path: the file.
        workdir: the run directory, an absolute path without links.

    Returns:
        The content in base64.

    Raises:
        UserError: it is not a PNG, or larger than 32 MiB, is no regular file, lies outside of the run,
            where a link may lead, or cannot be read.
    """
    from PIL import Image

    data = _read(path, workdir)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            Image.open(io.BytesIO(data), formats=['PNG']).verify()
    except Exception as error:  # of which Pillow has many kinds
        raise UserError(f'{path} is not a PNG, or a damaged one.') from error
    return base64.b64encode(data).decode()


def read_gif(path: Path, workdir: Path) -> str:
    """An animation of a run, to be put into a page; as `read_png`, of a GIF file."""
    from PIL import Image

    data = _read(path, workdir)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=['GIF'])
            frames = image.n_frames
            if frames <= _MOST_FRAMES and frames * image.width * image.height <= _MOST_PIXELS:
                for frame in range(frames):
                    image.seek(frame)
                    image.load()
    except Exception as error:  # of which Pillow has many kinds
        raise UserError(f'{path} is not a GIF, or a damaged one.') from error
    if frames > _MOST_FRAMES or frames * image.width * image.height > _MOST_PIXELS:
        raise UserError(f'{path} has {frames:,} frames of {image.width}x{image.height} pixels, too many.')
    return base64.b64encode(data).decode()


@dataclasses.dataclass(frozen=True)
class SafeSound:
    """A sound that may be put into a page.

    Attributes:
        content: of a WAV file of 16 bits, in base64.
        cues: seconds at which recordings in it begin, and their names, which are to be escaped.
    """

    content: str
    cues: tuple[tuple[float, str], ...]


def read_wav(path: Path, workdir: Path) -> SafeSound:
    """A sound of a run; of its file nothing is kept but the samples and the names of its cue points.

    Arguments and errors are those of `read_png`, for WAV files with PCM samples.
    """
    data = _read(path, workdir)
    try:
        samples, rate = wav.read(data)
        cues = tuple((cue.position / rate, cue.name[:_LONGEST_NAME]) for cue in wav.read_cues(data))
        return SafeSound(base64.b64encode(wav.encode(samples, rate)).decode(), cues[:_MOST_CUES])
    except ValueError as error:
        raise UserError(f'{path} is not a WAV file ({error}).') from error


def read_text(path: Path, workdir: Path) -> str:
    """A text of a run, which is to be escaped; as `read_png`, of a file of at most 1 MiB."""
    data = _read(path, workdir)
    if len(data) > _MOST_TEXT:
        raise UserError(f'{path} has {len(data):,} bytes of text, too many.')
    return data.decode('utf-8', 'replace')


def _read(path: Path, workdir: Path) -> bytes:
    if not Path(os.path.realpath(path)).is_relative_to(workdir):
        raise UserError(f'{path} is a link out of the run.')
    try:
        return read_file(path, _MOST_BYTES)
    except OSError as error:
        raise UserError(f'Cannot read {path} ({error.strerror or error}).') from error

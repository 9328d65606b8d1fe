"""Lines of text over and under images, made on the host."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIZE = 11  # of the font, in pixels
HEIGHT = 15  # of a line, in pixels
_MOST_LINES = 3  # under an image
_LEAST = 64  # width in which most captions can be read


def captioned(images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Images with a text under each, in as few lines as the longest needs.

    Args:
        images: uint8 [n h w c], with c 1 (grey) or 3.
        texts: one for each; what does not fit in three lines as wide as an image is cut off, and characters
            that cannot be printed become '?'.

    Returns:
        uint8 [n H W 3]; the images are enlarged by a whole factor where they are too narrow to be read under.
    """
    scale = max(1, _LEAST // images.shape[2])
    large = np.broadcast_to(images, (*images.shape[:3], 3)).repeat(scale, 1).repeat(scale, 2)
    broken = [_lines(text, large.shape[2]) for text in texts]
    most = max(map(len, broken))
    padded = ([*lines, *[''] * (most - len(lines))] for lines in broken)
    below = [np.concatenate([line(text, large.shape[2]) for text in lines]) for lines in padded]
    return np.concatenate([large, np.stack(below)], axis=1)


def _lines(text: str, width: int) -> list[str]:
    """A text in lines of so many pixels, broken at spaces; all that is left is in the last."""
    first, *words = _printable(text[: _MOST_LINES * width]).split(' ')  # no letter is narrower than a pixel
    lines = [first]
    for word in words:
        longer = f'{lines[-1]} {word}'
        if len(lines) == _MOST_LINES or width_of(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def width_of(text: str) -> int:
    """Pixels of a line that has room for a text."""
    return math.ceil(ImageFont.load_default(_SIZE).getlength(_spaced(text))) + 2


def line(text: str, width: int) -> np.ndarray:
    """A line of text in black on white, uint8 [HEIGHT width 3]; what does not fit is cut off."""
    font = ImageFont.load_default(_SIZE)
    text = _spaced(_printable(text))
    if font.getlength(text[:width]) > width - 2:  # no letter is narrower than a pixel
        kept = next(
            (n for n in range(min(len(text), width), 0, -1) if font.getlength(text[:n] + '…') <= width - 2), 0
        )
        text = text[:kept] + '…'
    image = Image.new('RGB', (width, HEIGHT), 'white')
    ImageDraw.Draw(image).text((1, 1), text, fill='black', font=font)
    return np.asarray(image)


def _printable(text: str) -> str:
    """With '?' for characters that cannot be printed."""
    return ''.join(letter if letter.isprintable() else '?' for letter in text)


def _spaced(text: str) -> str:
    """With two spaces for one: those of the font are as narrow as gaps between its letters may be."""
    return text.replace(' ', '  ')

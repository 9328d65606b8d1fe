"""Images for people, made on the host: grids, code maps, histograms. All are uint8 [h w 3]."""

import colorsys
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
from PIL import Image

from vq_jax.media import captions

_GAP = 2  # pixels between images
_PAPER, _INK = 255, (31, 78, 121)


class ImageLog(Protocol):
    """A log that keeps images."""

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Keeps uint8 [h w 3]."""


@dataclasses.dataclass(frozen=True)
class Sheet:
    """An image for people, and the words that belong to it.

    Attributes:
        folder: where its files lie in a run directory.
        image: uint8 [h w 3], without the words; below a gap its rows, all equally tall.
        rows: what each of them shows, from the top; empty for an image without rows and words.
        across: how many images stand side by side in a row, all equally wide; 0 for a plot.
        columns: what each of these columns is of, from the left; empty if nothing is said.
    """

    folder: ClassVar[str] = 'images'

    image: np.ndarray
    rows: tuple[str, ...] = ()
    across: int = 0
    columns: tuple[str, ...] = ()

    def of_columns(self, names: Sequence[str]) -> 'Sheet':
        """The sheet with names over its columns, if it has as many and nothing is said of them yet."""
        fit = self.across == len(names) and not self.columns
        return dataclasses.replace(self, columns=tuple(names)) if fit else self

    def captioned(self) -> np.ndarray:
        """The image with a line of text over each row and over the columns, uint8 [H W 3]."""
        if not self.rows:
            return self.image
        width = max(self.image.shape[1], *map(captions.width_of, self.rows))
        lines = [np.full((_GAP, width, 3), _PAPER, np.uint8)]
        if self.columns:
            each = (self.image.shape[1] - _GAP) // self.across
            heads = [captions.line(text, each) for text in self.columns]
            lines.append(_widened(np.concatenate(heads, axis=1), width, left=_GAP))
        for text, row in zip(self.rows, np.split(self.image[_GAP:], len(self.rows)), strict=True):
            lines += [captions.line(text, width), _widened(row, width)]
        return np.concatenate(lines)

    def files(self, name: str) -> dict[str, bytes]:
        """The content of a PNG file of the captioned image, by its name."""
        return {f'{name}.png': png(self.captioned())}

    def log(self, log: ImageLog, step: int, name: str) -> None:
        """Has a log keep the captioned image of a step."""
        log.image(step, name, self.captioned())


def png(image: np.ndarray) -> bytes:
    """The content of a PNG file of an image, uint8 [h w c] with c 1 (grey) or 3."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, 'png')
    return file.getvalue()


def _widened(image: np.ndarray, width: int, left: int = 0) -> np.ndarray:
    right = width - left - image.shape[1]
    return np.pad(image, ((0, 0), (left, right), (0, 0)), constant_values=_PAPER)


def rows(batches: Mapping[str, np.ndarray], columns: Sequence[str] = ()) -> Sheet:
    """Each batch of images as a row, the rows above each other.

    Args:
        batches: by what they show, uint8 [b h w c] each, with c 1 (grey) or 3, equal in size.
        columns: what each of the b columns is of, if anything is said.

    Returns:
        The sheet, enlarged by a whole factor if its images are small.
    """
    shown = list(batches.values())
    return Sheet(_table(shown), tuple(batches), len(shown[0]), tuple(columns))


def _table(batches: Sequence[np.ndarray]) -> np.ndarray:
    table = np.stack([np.broadcast_to(x, (*x.shape[:3], 3)) for x in batches])
    h, w = table.shape[2:4]
    scale = max(1, 64 // max(h, w))
    table = table.repeat(scale, 2).repeat(scale, 3)
    table = np.pad(table, ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=_PAPER)
    r, b, h, w, _ = table.shape
    sheet = table.transpose(0, 2, 1, 3, 4).reshape(r * h, b * w, 3)
    return np.pad(sheet, ((_GAP, 0), (_GAP, 0), (0, 0)), constant_values=_PAPER)


def grid(images: np.ndarray) -> np.ndarray:
    """Images as a sheet that is about square, row by row; positions left over are white.

    There are as many columns as rows, or fewer of wide images such as the frames of a video side by side.

    Args:
        images: uint8 [n h w c], with c 1 (grey) or 3.
    """
    n, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(n / max(1, round(width / height))))
    blank = np.full((-n % columns, *images.shape[1:]), _PAPER, np.uint8)
    filled = np.concatenate([images, blank])
    return _table([filled[i : i + columns] for i in range(0, len(filled), columns)])


def code_maps(codes: np.ndarray, k: int, size: tuple[int, int]) -> np.ndarray:
    """Codes in colours, neighbouring numbers in far colours.

    Args:
        codes: int [b h w].
        k: number of codes.
        size: height and width of the images to return, multiples of h and w.

    Returns:
        uint8 [b H W 3].
    """
    golden = 0.6180339887498949  # its multiples spread evenly over the circle of hues
    occurring, where = np.unique(codes, return_inverse=True)
    palette = [
        colorsys.hsv_to_rgb(i * golden % 1, 0.45 + 0.5 * (i % 3) / 2, 0.95 - 0.2 * (i % 5) / 4)
        for i in occurring.tolist()
    ]
    colours = np.round(np.array(palette) * 255).astype(np.uint8)[where.reshape(codes.shape)]
    up = (size[0] // codes.shape[1], size[1] // codes.shape[2])
    return colours.repeat(up[0], 1).repeat(up[1], 2)


def histogram(shares: np.ndarray, k: int) -> Sheet:
    """The share of each code as bars, the most used first; the line is an even share.

    Each of more codes than there are columns gets less than a pixel.

    Args:
        shares: of the codes that occur [n].
        k: how many codes there are.
    """
    height, width = 128, 512
    shares = np.sort(np.asarray(shares, np.float64))[::-1]
    code = np.arange(width) * k // width
    bars = np.where(code < len(shares), shares[np.minimum(code, len(shares) - 1)], 0)
    top = max(bars.max(), 1.0 / k) * 1.05
    tall = np.round(bars / top * height).astype(int)
    filled = np.arange(height)[::-1, None] < tall[None]
    image = np.full((height, width, 3), _PAPER, np.uint8)
    image[filled] = _INK
    image[height - 1 - int(1.0 / k / top * (height - 1))] = (200, 60, 40)
    caption = f'use of {k} codes, the most used first, from 0 to {top:.2%}; red: an even share, {1 / k:.2%}'
    return Sheet(np.pad(image, ((_GAP, 0), (0, 0), (0, 0)), constant_values=_PAPER), (caption,))


def bars(shares: np.ndarray, marked: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A bar for each share of a whole, from the bottom of an image; grey, and one of them blue.

    Args:
        shares: from 0 to 1 [b k].
        marked: which of the k is blue, int [b].
        size: height and width of the images to return; bars share the width.

    Returns:
        uint8 [b h w 3].
    """
    height, width = size
    k = shares.shape[1]
    column = np.arange(width) * k // width
    tall = np.round(np.asarray(shares, np.float64)[:, column] * height)
    filled = np.arange(height)[::-1, None] < tall[:, None]
    colours = np.where((column == marked[:, None])[:, None, :, None], _INK, 150)
    return np.where(filled[..., None], colours, _PAPER).astype(np.uint8)

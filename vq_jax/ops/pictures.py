"""Pictures for people, drawn on the host: grids, code maps, histograms. All are uint8 [h w 3]."""

import colorsys
import math
from collections.abc import Sequence

import numpy as np

_GAP = 2  # pixels between pictures
_PAPER, _INK = 255, (31, 78, 121)


def rows(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Each batch of pictures as a row, the rows above each other.

    Args:
        batches: uint8 [b h w c] each, with c 1 (grey) or 3, equal in size.

    Returns:
        The sheet, enlarged by a whole factor if its pictures are small.
    """
    table = np.stack([np.broadcast_to(x, (*x.shape[:3], 3)) for x in batches])
    h, w = table.shape[2:4]
    scale = max(1, 64 // max(h, w))
    table = table.repeat(scale, 2).repeat(scale, 3)
    table = np.pad(table, ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=_PAPER)
    r, b, h, w, _ = table.shape
    sheet = table.transpose(0, 2, 1, 3, 4).reshape(r * h, b * w, 3)
    return np.pad(sheet, ((_GAP, 0), (_GAP, 0), (0, 0)), constant_values=_PAPER)


def grid(images: np.ndarray) -> np.ndarray:
    """Pictures as a sheet that is about square, row by row; places left over are white.

    Args:
        images: uint8 [n h w c], with c 1 (grey) or 3.
    """
    n = len(images)
    columns = math.ceil(math.sqrt(n))
    blank = np.full((-n % columns, *images.shape[1:]), _PAPER, np.uint8)
    filled = np.concatenate([images, blank])
    return rows([filled[i : i + columns] for i in range(0, len(filled), columns)])


def code_maps(codes: np.ndarray, k: int, size: tuple[int, int]) -> np.ndarray:
    """Codes in colours, neighbouring numbers in far colours.

    Args:
        codes: int [b h w].
        k: number of codes.
        size: height and width of the pictures to return, multiples of h and w.

    Returns:
        uint8 [b H W 3].
    """
    golden = 0.6180339887498949  # its multiples spread evenly over the circle of hues
    palette = np.array(
        [
            colorsys.hsv_to_rgb(i * golden % 1, 0.45 + 0.5 * (i % 3) / 2, 0.95 - 0.2 * (i % 5) / 4)
            for i in range(k)
        ]
    )
    colours = np.round(palette * 255).astype(np.uint8)[codes]
    up = (size[0] // codes.shape[1], size[1] // codes.shape[2])
    return colours.repeat(up[0], 1).repeat(up[1], 2)


def histogram(shares: np.ndarray, height: int = 128, width: int = 512) -> np.ndarray:
    """The share of each code as bars, the most used first; the line is an even share.

    Args:
        shares: shares [k].
        height: of the picture, in pixels.
        width: of the picture at the most; each of many codes gets less than a pixel.
    """
    shares = np.sort(np.asarray(shares, np.float64))[::-1]
    k = len(shares)
    bars = shares[np.arange(width) * k // width]
    top = max(bars.max(), 1.0 / k) * 1.05
    tall = np.round(bars / top * height).astype(int)
    filled = np.arange(height)[::-1, None] < tall[None]
    picture = np.full((height, width, 3), _PAPER, np.uint8)
    picture[filled] = _INK
    picture[height - 1 - int(1.0 / k / top * (height - 1))] = (200, 60, 40)
    return picture


def bars(shares: np.ndarray, marked: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A bar for each share of a whole, from the bottom of a picture; grey, and one of them blue.

    Args:
        shares: from 0 to 1 [b k].
        marked: which of the k is blue, int [b].
        size: height and width of the pictures to return; bars share the width.

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

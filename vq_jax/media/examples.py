"""Examples of any kind as what people look at and listen to."""

from collections.abc import Mapping, Sequence

import numpy as np

from vq_jax.media import sheets
from vq_jax.media.sounds import Sound
from vq_jax.media.spectrograms import spectrogram, waveform
from vq_jax.spec import Spec

Media = sheets.Sheet | Sound
SHOWN = ('image', 'video', 'audio')  # the kinds of which there are images
_WIDTH, _HEIGHTS = 192, (48, 128)  # of the image of a sound: of its waveform, and of its spectrogram
_FRAMES = 8  # of a video, that stand side by side in its image


def show(
    name: str, batches: Mapping[str, np.ndarray], spec: Spec, columns: Sequence[str] = ()
) -> dict[str, Media]:
    """Batches of examples, such as originals and reconstructions, for people.

    Args:
        name: what the media are called.
        batches: by what they show, [b ...] each, as the spec says; also images, such as code maps, of the
            size that `image_size` gives, uint8 [b h w c].
        spec: of the examples.
        columns: what each of the b columns is of, if anything is said.

    Returns:
        A sheet, `name`, with a row for each batch. Of sound, if its rate is known, also a `Sound`,
        `name_sound`, in which the first examples of all batches are followed by the second ones, and so on.
    """
    examples = {caption: x for caption, x in batches.items() if x.shape[1:] == spec.shape}
    rows = {caption: as_images(x, spec) if caption in examples else x for caption, x in batches.items()}
    shown: dict[str, Media] = {name: sheets.rows(rows, columns)}
    if spec.kind == 'audio' and spec.rate is not None and examples:
        in_turn = np.stack(list(examples.values()), axis=1)
        names = tuple(f'{caption} {i + 1}' for i in range(len(in_turn)) for caption in examples)
        shown[f'{name}_sound'] = Sound(in_turn.reshape(-1, *spec.shape), spec.rate, names)
    return shown


def image_size(spec: Spec) -> tuple[int, int]:
    """Height and width of the images that `as_images` makes, such as code maps beside them need."""
    if spec.kind == 'audio':
        return sum(_HEIGHTS), _WIDTH
    height, width = spec.grid[-2:]
    return height, width * (min(spec.shape[0], _FRAMES) if spec.kind == 'video' else 1)


def as_images(examples: np.ndarray, spec: Spec) -> np.ndarray:
    """An image of each example.

    Args:
        examples: [b ...] as the spec says.
        spec: of the examples.

    Returns:
        uint8 [b h w c]: images as they are; of video, frames side by side; of sound, its waveform over its
        spectrogram.
    """
    if spec.kind == 'image':
        return examples
    if spec.kind == 'video':
        return _side_by_side(examples, min(spec.shape[0], _FRAMES))
    if spec.kind == 'audio':
        rate = spec.rate or spec.shape[0]
        pairs = ((waveform(x, _WIDTH, _HEIGHTS[0]), spectrogram(x, rate, _WIDTH)) for x in examples)
        return np.stack([np.concatenate(pair) for pair in pairs])
    raise ValueError(f'nothing shows the kind {spec.kind}')


def code_images(codes: np.ndarray, k: int, size: tuple[int, int]) -> np.ndarray:
    """Codes in colours (see `sheets.code_maps`), those of sound as stripes, those of video as frames.

    Args:
        codes: int [b *grid].
        k: number of codes.
        size: height and width of the images to return, such as `image_size` gives.

    Returns:
        uint8 [b height width 3].
    """
    if codes.ndim == 2:
        codes = codes[:, None]
    if codes.ndim == 4:
        _, _, h, w = codes.shape
        codes = _side_by_side(codes[..., None], max(1, size[1] * h // (size[0] * w)))[..., 0]
    small = sheets.code_maps(codes, k, codes.shape[1:])
    down, across = (np.arange(n) * m // n for n, m in zip(size, codes.shape[1:], strict=True))
    return small[:, down][:, :, across]


def _side_by_side(videos: np.ndarray, n: int) -> np.ndarray:
    """Evenly spread frames [b h n*w c] of videos [b t h w c]."""
    frames = np.linspace(0, videos.shape[1] - 1, n).round().astype(int)
    return np.concatenate([videos[:, i] for i in frames], axis=2)

"""Examples of any kind as what people look at and listen to."""

from collections.abc import Mapping, Sequence

import numpy as np

from vq_jax.media import sheets
from vq_jax.media.sounds import Sound
from vq_jax.media.spectrograms import spectrogram, waveform
from vq_jax.spec import Spec

Media = sheets.Sheet | Sound
_WIDTH, _HEIGHTS = 192, (48, 128)  # of the image of a sound: of its waveform, and of its spectrogram


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
        shown[f'{name}_sound'] = Sound(in_turn.reshape(-1, *spec.shape), spec.rate)
    return shown


def image_size(spec: Spec) -> tuple[int, int]:
    """Height and width of the images that `as_images` makes, such as code maps beside them need."""
    return spec.grid if spec.kind == 'image' else (sum(_HEIGHTS), _WIDTH)


def as_images(examples: np.ndarray, spec: Spec) -> np.ndarray:
    """An image of each example.

    Args:
        examples: [b ...] as the spec says.
        spec: of the examples.

    Returns:
        uint8 [b h w c]: images as they are; of sound, its waveform over its spectrogram.
    """
    if spec.kind == 'image':
        return examples
    if spec.kind == 'audio':
        rate = spec.rate or spec.shape[0]
        return np.stack(
            [
                np.concatenate([waveform(x, _WIDTH, _HEIGHTS[0]), spectrogram(x, rate, _WIDTH)])
                for x in examples
            ]
        )
    raise ValueError(f'nothing shows the kind {spec.kind}')


def code_images(codes: np.ndarray, k: int, size: tuple[int, int]) -> np.ndarray:
    """Codes in colours (see `sheets.code_maps`), a grid of one axis as stripes.

    Args:
        codes: int [b *grid], with a grid of one or two axes.
        k: number of codes.
        size: height and width of the images to return, such as `image_size` gives; of two axes, multiples
            of their sizes.

    Returns:
        uint8 [b height width 3].
    """
    if codes.ndim == 3:
        return sheets.code_maps(codes, k, size)
    stripes = sheets.code_maps(codes[:, None], k, (1, codes.shape[1]))
    across = np.arange(size[1]) * codes.shape[1] // size[1]
    return stripes[:, :, across].repeat(size[0], axis=1)

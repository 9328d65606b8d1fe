"""Examples of any kind as what people look at and listen to."""

from collections.abc import Mapping, Sequence

import numpy as np

from vq_jax.media import sheets
from vq_jax.media.animations import Animation
from vq_jax.media.sounds import Sound
from vq_jax.media.spectrograms import spectrogram, waveform
from vq_jax.media.texts import Texts
from vq_jax.spec import Spec
from vq_jax.text_tokenizers import texts_of

Media = sheets.Sheet | Animation | Sound | Texts
_WIDTH, _HEIGHTS = 192, (48, 128)  # of the image of a sound: of its waveform, and of its spectrogram
_FRAMES = 8  # of a video, that stand side by side in its image
_STRIPS = 4  # videos of each batch, evenly spread, whose frames stand on a sheet


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
        A sheet, `name`, with a row for each batch. Of video, it has rows of frames, of an example of each
        batch and then of others, and an `Animation`, `name_video`, has a row for each batch.
        Of sound, if its rate is known, also a `Sound`, `name_sound`, in which the examples of batches follow
        each other in the same way. Of text, if what its tokens stand for is known, it is `Texts` alone.
    """
    if spec.kind == 'text':
        tokens, texts = spec.tokens, {}
        if tokens is not None:
            texts = {caption: tuple(texts_of(x, tokens)) for caption, x in batches.items()}
        return {name: Texts(tuple(texts.items()), tuple(columns))} if texts else {}
    examples = {caption: x for caption, x in batches.items() if x.shape[1:] == spec.shape}
    rows = {caption: as_images(x, spec) if caption in examples else x for caption, x in batches.items()}
    if spec.kind == 'video':
        shown: dict[str, Media] = {name: _filmstrips(rows, spec, columns)}
        if examples:
            frames = ({caption: x[:, t] for caption, x in examples.items()} for t in range(spec.shape[0]))
            moving = tuple(sheets.rows(frame, columns) for frame in frames)
            shown[f'{name}_video'] = Animation(moving, spec.rate)
        return shown
    shown = {name: sheets.rows(rows, columns)}
    if spec.kind == 'audio' and spec.rate is not None and examples:
        in_turn = np.stack(list(examples.values()), axis=1)
        names = tuple(f'{caption} {i + 1}' for i in range(len(in_turn)) for caption in examples)
        shown[f'{name}_sound'] = Sound(in_turn.reshape(-1, *spec.shape), spec.rate, names)
    return shown


def _filmstrips(images: Mapping[str, np.ndarray], spec: Spec, columns: Sequence[str]) -> sheets.Sheet:
    """The sheet of a few videos: for each a row of each batch, with its frames as columns.

    Args:
        images: batches as `as_images` makes them [b h w c].
        spec: of the videos.
        columns: what each of the b videos is of, if anything is said.
    """
    numbers = _frames_shown(spec.shape[0])
    b = len(next(iter(images.values())))
    names = [f' ({columns[i]})' if columns else '' for i in range(b)]
    strips = {
        f'{caption}, video {i + 1}{names[i]}': np.stack(np.split(x[i], len(numbers), axis=1))
        for i in _evenly(b, min(b, _STRIPS))
        for caption, x in images.items()
    }
    return sheets.rows(strips, [f'frame {t + 1}' for t in numbers])


def _frames_shown(length: int) -> np.ndarray:
    """The numbers of the frames of a video that stand side by side."""
    return _evenly(length, min(length, _FRAMES))


def _evenly(length: int, n: int) -> np.ndarray:
    """N numbers from 0 to `length - 1`, both included."""
    return np.linspace(0, length - 1, n).round().astype(int)


def _positions_of(frames: np.ndarray, length: int, positions: int) -> np.ndarray:
    """In which of so many positions of codes the frames lie, of a video of so many frames.

    Where positions do not divide the frames, the first is of the first frame alone (see `models.causal`).
    """
    if length % positions:
        return -(-frames * (positions - 1) // (length - 1))
    return frames * positions // length


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
        return _side_by_side(examples, _frames_shown(spec.shape[0]))
    if spec.kind == 'audio':
        rate = spec.rate or spec.shape[0]
        pairs = ((waveform(x, _WIDTH, _HEIGHTS[0]), spectrogram(x, rate, _WIDTH)) for x in examples)
        return np.stack([np.concatenate(pair) for pair in pairs])
    raise ValueError(f'nothing shows the kind {spec.kind}')


def code_images(codes: np.ndarray, k: int, spec: Spec) -> np.ndarray:
    """Codes in colours (see `sheets.code_maps`), those of sound as stripes, those of video below its frames.

    Args:
        codes: int [b *grid].
        k: number of codes.
        spec: of the examples that they are of.

    Returns:
        uint8 [b height width 3], of the size that `image_size` gives.
    """
    size = image_size(spec)
    if codes.ndim == 2:
        codes = codes[:, None]
    if codes.ndim == 4:
        length = spec.shape[0]
        shown = _positions_of(_frames_shown(length), length, codes.shape[1])
        codes = _side_by_side(codes[..., None], shown)[..., 0]
    small = sheets.code_maps(codes, k, codes.shape[1:])
    down, across = (np.arange(n) * m // n for n, m in zip(size, codes.shape[1:], strict=True))
    return small[:, down][:, :, across]


def _side_by_side(videos: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The frames of these numbers [b h n*w c] of videos [b t h w c]."""
    return np.concatenate([videos[:, i] for i in numbers], axis=2)

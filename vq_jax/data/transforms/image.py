"""From the bytes of an image file to the array that the model is given."""

import io
from pathlib import Path
from typing import ClassVar

import numpy as np
from absl import logging
from PIL import Image, ImageOps, UnidentifiedImageError

from vq_jax.data.config import MOST_PIXELS, DataConfig
from vq_jax.data.source import Source
from vq_jax.data.transforms.transform import Transform, Undecodable, window
from vq_jax.errors import UserError
from vq_jax.files import read_file, telling
from vq_jax.spec import Spec

# Pillow chooses by a file's content, whatever its name, and hands PostScript to another program. TGA, which
# nothing in a file tells for certain, is tried last.
FORMATS = ('AVIF', 'BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP', 'TGA')
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _UNSIGNED = 0, (1, 4)  # their values; 4 is 'undefined', which is written for unsigned too


class ImageTransform(Transform):
    """Decodes, converts to `channels`, pads, fits to `image_size`; in training, crops and flips at random."""

    noun = 'image'
    keys: ClassVar[tuple[str, ...]] = ('image_key', 'channels', 'pad', 'image_size', 'fit', 'resize')
    keys += ('random_crop', 'flip')
    suffixes: ClassVar[tuple[str, ...]] = ('.avif', '.bmp', '.gif', '.jfif', '.jpeg', '.jpg', '.pbm', '.pgm')
    suffixes += ('.png', '.ppm', '.tga', '.tif', '.tiff', '.webp')
    file_shape: ClassVar[tuple[int | None, ...]] = (None, None, 3)

    def __init__(self, config: DataConfig, source: Source) -> None:
        self._config = config
        self._use_orientation = source.use_orientation
        *sizes, channels = source.shape[-3:]
        if config.channels == 2:
            raise UserError('config.data.channels is 2, which is for sound: use 1 (grey), 3 (RGB) or None.')
        self._channels = config.channels or channels
        self.varied = config.random_crop and config.image_size is not None and config.fit == 'crop'
        self.uniforms = 3 if self.varied or config.flip else 0
        size, border = config.image_size, 2 * config.pad
        self._declared: tuple[int, ...] | None = None  # the shape, if it is known before an image is read
        if size is not None:
            self._declared = (size, size, self._channels)
        elif None not in sizes:
            self._declared = (*(length + border for length in sizes), self._channels)
        self.spec = Spec('image', self._declared) if self._declared else None

    def measure(self, stored: bytes | np.ndarray, name: str) -> Spec:
        """See `Transform`."""
        return Spec('image', self._shape_of(self._opened(stored, name)))

    def decode(
        self,
        stored: bytes | np.ndarray,
        name: str,
        told: list[str] | None = None,
        position: float | None = None,
    ) -> np.ndarray:
        """See `Transform`; uint8 [h w c]."""
        return self._arranged(self._opened(stored, name), name)

    def _opened(self, stored: bytes | Image.Image | np.ndarray, name: str) -> Image.Image:
        return decode(stored, self._channels, self._use_orientation, name)

    def _shape_of(self, image: Image.Image) -> tuple[int, int, int]:
        """Returns the shape of an array of an image, where images are left as large as they are."""
        border = 2 * self._config.pad
        return image.height + border, image.width + border, self._channels

    def _arranged(self, image: Image.Image, name: str) -> np.ndarray:
        """Returns an image as the config says, or larger where a random crop is still to be cut out."""
        array = arrange(image, self._config)
        if self._config.image_size is not None:
            return array if self.varied else window(array, self.spec.grid[-2:])
        if array.shape != self.spec.shape[-3:]:
            found, others = _size(array.shape), _size(self.spec.shape[-3:])
            raise UserError(
                f'{name} is {found} pixels, not {others} as the others: set config.data.image_size to bring '
                f'all {self.noun}s to one size.'
            )
        return array

    def augment(self, values: np.ndarray | list[np.ndarray], uniforms: np.ndarray) -> np.ndarray:
        """Crops at the position that the first numbers give, one for each axis, and flips by the last."""
        if self.varied:
            sizes, pairs = self.spec.grid, zip(values, uniforms, strict=True)
            values = np.stack([window(value, sizes, share[: self.spec.rank]) for value, share in pairs])
        if self._config.flip:
            mirrored = uniforms[:, -1] < 0.5
            values[mirrored] = np.flip(values[mirrored], axis=-2)
        return values

    @staticmethod
    def prepare(
        file: 'ImageLike', mask: 'ImageLike | None', spec: Spec, config: DataConfig, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Transform`; a mask is an image of the same size, white where it is to be True.

        An image of another size than the model's is brought to it as `centred` does, and its mask with it.

        Raises:
          UserError: If one cannot be read or decoded, their sizes differ, they cannot be brought to that of
            the model, or nothing of the mask is white then.
        """
        h, w, c = spec.shape
        decoded = [decode_file(file, c)]
        if mask is not None:
            decoded.append(decode_file(mask, 1, 'the mask'))
        name = file if isinstance(file, str | Path) else 'the image'
        sizes = [f'{part.width}x{part.height}' for part in decoded]
        if len(set(sizes)) > 1:
            raise UserError(f'{name} is {sizes[0]} pixels and the mask {sizes[1]}; make them alike.')
        try:
            kept = whole or decoded[0].size == (w, h)
            arrays = [pixels(part) if kept else centred(part, config) for part in decoded]
        except Undecodable as error:
            raise UserError(f'{name} cannot be resized ({error}); give one of other proportions.') from error
        if not whole and arrays[0].shape != spec.shape:
            what = 'it' if mask is None else 'it and the mask'
            raise UserError(
                f'{name} has {sizes[0]} pixels and the model was trained on {w}x{h}; resize {what}.'
            )
        if mask is None:
            return arrays[0], None
        white = arrays[1][..., 0] > 127
        if not white.any():
            raise UserError(
                'nothing of the mask is white where the model sees it; make white what is to be generated.'
            )
        return arrays[0], white


def decode(
    data: bytes | Image.Image | np.ndarray,
    channels: int,
    use_orientation: bool = False,
    name: str = 'an image',
) -> Image.Image:
    """Decodes the first frame of an image file.

    Transparent pixels are laid over white. Grey of 16 bits is reduced to 8; of 32 bits or floating point,
    whose range no format fixes, it is undecodable.

    Args:
      data: Content of the file, in one of `FORMATS`, an image that Pillow has opened, or an array (see
        `ImageLike`).
      channels: 1 for a grey result, 3 for RGB.
      use_orientation: Turn the image the way its EXIF orientation says. An image whose EXIF is broken is
        left as it is, with a warning for the first one.
      name: What to call the image in that warning.

    Returns:
      The image in Pillow's mode `L` or `RGB`.

    Raises:
      Undecodable: If Pillow cannot read it.
      UserError: If it is an array of something else.
    """
    if isinstance(data, np.ndarray):
        data = _as_image(data, name)
    try:
        if isinstance(data, Image.Image):
            image = data.copy()  # because it is turned in place
        else:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        image.load()
        if use_orientation:
            _turn(image, name)
        return _to_channels(image, channels)
    except UnidentifiedImageError as error:
        raise Undecodable(f'not an image in one of the formats {", ".join(FORMATS)}') from error
    except (MemoryError, Undecodable):
        raise
    except Exception as error:  # Pillow's many readers raise nearly anything on damaged files.
        raise Undecodable(f'{type(error).__name__}: {error}') from error


def _turn(image: Image.Image, name: str) -> None:
    """Turns an image as its EXIF orientation says."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception as error:  # of as many kinds; the pixels have been read and are sound
        told = '%s has broken EXIF data (%s: %s), and so may others; such images are not turned'
        logging.log_first_n(logging.WARNING, told, 1, name, type(error).__name__, error)


def _to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Converts any of Pillow's modes to 8-bit grey or RGB."""
    tags = getattr(image, 'tag_v2', {})  # of TIFF
    transparent = image.info.get('transparency')
    if image.mode == 'F' or not set(tags.get(_SAMPLE_FORMAT, _UNSIGNED)) <= set(_UNSIGNED):
        raise Undecodable(
            'signed or floating-point pixels have no fixed range; convert the file to unsigned 8 or 16 bits'
        )
    if image.mode == 'I' and image.format != 'PPM':  # of which Pillow makes 16 bits of any range
        raise Undecodable('32-bit pixels have no fixed range; convert the file to 8 or 16 bits')
    if image.mode.startswith('I'):
        most = 2 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
        wide = np.minimum(np.asarray(image).astype(np.uint32), most)
        grey = ((wide * 255 + most // 2) // most).astype(np.uint8)
        if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts that only where it has 8 bits
            grey = 255 - grey
        if isinstance(transparent, int):
            grey[wide == transparent] = 255
        image = Image.fromarray(grey)
    elif isinstance(transparent, tuple) and max(transparent) > 255:  # of 16-bit RGB, which Pillow has reduced
        image.info['transparency'] = tuple(value >> 8 for value in transparent)
    if image.has_transparency_data:
        image = image.convert('RGBA')
        background = Image.new('RGBA', image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(background, image)
    mode = 'L' if channels == 1 else 'RGB'
    return image if image.mode == mode else image.convert(mode)


def arrange(image: Image.Image, config: DataConfig) -> np.ndarray:
    """Pads and resizes an image as the config says; all but the crop.

    Resampling is Pillow's Lanczos filter, widened by the scale when reducing (antialiased), and is
    left out when the size is right already. Images are in mode `L` or `RGB`.

    Returns:
      uint8 [h w c]; both sides equal `image_size` unless `fit` is `crop`, which leaves them at
      least that large for `window` to cut.

    Raises:
      Undecodable: If the image is so large, or so long and thin, that it would take too much memory.
    """
    if config.pad:
        if (image.width + 2 * config.pad) * (image.height + 2 * config.pad) > MOST_PIXELS:
            raise Undecodable(
                f'{image.width}x{image.height} pixels are too many to be padded by {config.pad} on every side'
            )
        image = ImageOps.expand(image, config.pad, fill=0)
    size = config.image_size
    if size is not None:
        width, height = image.size
        if config.fit == 'stretch':
            image = _resized(image, size, size)
        elif config.fit == 'pad':
            image = _resized(image, *(max(1, round(n * size / max(width, height))) for n in (width, height)))
            canvas = Image.new(image.mode, (size, size), 0)
            canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
            image = canvas
        else:
            side = config.resize or size
            image = _resized(image, *(round(n * side / min(width, height)) for n in (width, height)))
    return pixels(image)


def pixels(image: Image.Image) -> np.ndarray:
    """The pixels, uint8 [h w c], of an image in mode `L` or `RGB`."""
    array = np.asarray(image)
    return array if array.ndim == 3 else array[:, :, None]


def centred(image: Image.Image, config: DataConfig) -> np.ndarray:
    """Does to an image what evaluation does, uint8 [h w c]; arguments and errors are those of `arrange`."""
    array = arrange(image, config)
    return array if config.image_size is None else window(array, (config.image_size, config.image_size))


# An image that a user gives: the path or the content of a file, an image of Pillow, or an array, uint8 [h w],
# [h w 1], [h w 3] or [h w 4] with alpha, or bool [h w].
ImageLike = bytes | str | Path | Image.Image | np.ndarray


def decode_file(file: ImageLike, channels: int, what: str = 'the image') -> Image.Image:
    """Decodes an image that a user gives as `decode` does, and turns it as its EXIF orientation says.

    It is called `what` where there is no path.

    Raises:
      UserError: If it cannot be read or decoded.
    """
    if not isinstance(file, ImageLike):
        raise UserError(
            f'{what} is of type {type(file).__name__}; give a path, the content of a file, an image of '
            'Pillow, or an array.'
        )
    name = file if isinstance(file, str | Path) else what
    if isinstance(file, np.ndarray):
        file = _as_image(file, what)
    with telling(f'{name} cannot be read', 'give an image file'):
        content = file if isinstance(file, bytes | Image.Image) else read_file(Path(file))
    try:
        return decode(content, channels, use_orientation=True, name=str(name))
    except Undecodable as error:
        raise UserError(f'{name} cannot be decoded ({error}); give an image file.') from error


def _as_image(array: np.ndarray, what: str) -> Image.Image:
    """An image of an array (see `ImageLike`)."""
    plain = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    colours = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] in (3, 4)
    if not array.size or not (colours or (plain.ndim == 2 and array.dtype in (np.uint8, bool))):
        raise UserError(
            f'{what} is {array.dtype} of shape {array.shape}; give uint8 [h w], [h w 1], [h w 3] or [h w 4], '
            "or bool [h w]. Of numbers from 0 to 1, give (255 * image).round().astype('uint8')."
        )
    return Image.fromarray(np.ascontiguousarray(plain))


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    """Resamples to the given size unless it has it already."""
    if image.size == (width, height):
        return image
    # Pillow changes the width first, and holds what comes between.
    if width * max(height, image.height) > MOST_PIXELS:
        raise Undecodable(
            f'{image.width}x{image.height} pixels are too long and thin to be resized to {width}x{height}'
        )
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _size(shape: tuple[int, ...]) -> str:
    """Writes width and height the way people do."""
    return f'{shape[1]}x{shape[0]}'

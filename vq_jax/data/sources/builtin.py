"""Data sets that need no download: their images come inside other packages, or are drawn with their fonts.

Each is an ordinary tensorflow-datasets builder, prepared when it is first trained on.
"""

import contextlib
import io
import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFont, ImageOps

from vq_jax.buckets import is_address
from vq_jax.data.sources.tfds import quiet
from vq_jax.errors import UserError
from vq_jax.files import cache_folder, telling

# Photographs in the scikit-image wheel. Left out: its drawings and text, and motorcycle_right,
# which shows the scene of motorcycle_left again and would put training pixels into the test set.
PHOTOGRAPHS = (
    'astronaut.png',
    'brick.png',
    'camera.png',
    'chelsea.png',
    'coffee.png',
    'coins.png',
    'grass.png',
    'gravel.png',
    'hubble_deep_field.jpg',
    'ihc.png',
    'moon.png',
    'motorcycle_left.png',
    'retina.jpg',
    'rocket.jpg',
)
CROP = 64
_LARGEST = 512  # Longer photographs are reduced to this, so that none outnumbers the others.
_STEP = {'train': 24, 'test': 32}

CHARACTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'
FONTS = (  # nine of those in the matplotlib wheel, whose strokes are wide enough for so few pixels
    'DejaVuSans',
    'DejaVuSans-Bold',
    'DejaVuSans-Oblique',
    'DejaVuSans-BoldOblique',
    'DejaVuSansMono',
    'DejaVuSansMono-Bold',
    'DejaVuSerif-Bold',
    'STIXGeneralBol',
    'cmss10',
)
_NAVY, _RED, _AMBER, _TEAL = '#16324f', '#d62839', '#ffb627', '#138a72'
_SKY, _CREAM, _VIOLET, _PINK = '#7cc6fe', '#fff3d6', '#6a4c93', '#ff8fa3'
COLOURS = (  # of paper and ink
    (_NAVY, _PINK),
    (_RED, _CREAM),
    (_TEAL, _CREAM),
    (_AMBER, _NAVY),
    (_SKY, _NAVY),
    (_CREAM, _VIOLET),
)
_INSTALL = 'install the version in constraints.txt'  # where a package lacks a file
_GLYPH = 24  # pixels of a side; characters are made to fit into
_INKED = (22, 18)


class _BuiltIn(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Two splits, and nothing to download.

    A subclass says what it is in `description`, and has in `contents` its features.
    """

    VERSION = tfds.core.Version('1.0.0')
    url_infos: ClassVar = {}  # tfds would look for a list beside this file
    description: ClassVar[str]
    contents: ClassVar[dict[str, Any]]

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self.contents)
        return tfds.core.DatasetInfo(builder=self, description=self.description, features=features)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in ('train', 'test')}


class Digits(_BuiltIn):
    """Handwritten digits of 8x8 pixels from scikit-learn: 1,438 to train on, 359 to test."""

    description = 'The UCI handwritten digits in scikit-learn; every fifth is for testing.'
    contents: ClassVar[dict[str, Any]] = {
        'image': tfds.features.Image(shape=(8, 8, 1), encoding_format='png'),
        'label': tfds.features.ClassLabel(num_classes=10),
    }

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 17 levels, 0 to 16
        for index, label in enumerate(digits.target):
            if (index % 5 == 4) == (split == 'test'):
                yield index, {'image': Image.fromarray(pixels[index]), 'label': int(label)}


class Photos(_BuiltIn):
    """Crops of 64x64 pixels, RGB, from the photographs in scikit-image; the label says which one.

    Test crops come from a strip on the right of each photograph that no training crop touches.
    """

    description = 'Crops from the photographs in scikit-image.'
    contents: ClassVar[dict[str, Any]] = {
        'image': tfds.features.Image(shape=(CROP, CROP, 3), encoding_format='png'),
        'label': tfds.features.ClassLabel(names=[name.split('.')[0] for name in PHOTOGRAPHS]),
        'top': np.int64,
        'left': np.int64,
    }

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for label, photo in enumerate(_photographs()):
            for top, left in crops(photo.width, photo.height, split):
                crop = photo.crop((left, top, left + CROP, top + CROP))
                file = io.BytesIO()
                crop.save(file, 'PNG', compress_level=1)
                file.seek(0)
                example = {'image': file, 'label': label, 'top': top, 'left': left}
                yield f'{label}_{top}_{left}', example


def _photographs() -> Iterator[Image.Image]:
    """Yields the photographs in RGB, reduced where they are larger than the rest."""
    import skimage

    folder = Path(skimage.__file__).parent / 'data'
    for name in PHOTOGRAPHS:
        with telling(f"'photos' needs {name!r}, which this scikit-image lacks", _INSTALL):
            photo = Image.open(folder / name, formats=('JPEG', 'PNG')).convert('RGB')
        photo.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
        yield photo


def crops(width: int, height: int, split: str) -> list[tuple[int, int]]:
    """Positions the crops of one photograph.

    Args:
      width: Width of the photograph in pixels, at least two crops.
      height: Its height, at least one crop.
      split: `train` for the left part, `test` for a strip of a fifth of the width, but at least one
        crop, on the right.

    Returns:
      Top and left edge of each crop.
    """
    border = width - max(CROP, width // 5)
    first, end = (0, border) if split == 'train' else (border, width)
    step = _STEP[split]
    return [
        (top, left)
        for top in range(0, height - CROP + 1, step)
        for left in range(first, end - CROP + 1, step)
    ]


class Glyphs(_BuiltIn):
    """Letters and digits of 24x24 pixels, RGB, in the fonts that come with matplotlib.

    Each character is there in each font and each pair of colours. In one font, which is another one for the
    next character, it is for testing: a test image shows a shape that no training image has.
    """

    description = 'Letters and digits in the fonts of matplotlib; the label says which character.'
    contents: ClassVar[dict[str, Any]] = {
        'image': tfds.features.Image(shape=(_GLYPH, _GLYPH, 3), encoding_format='png'),
        'label': tfds.features.ClassLabel(names=list(CHARACTERS)),
        'font': tfds.features.ClassLabel(names=list(FONTS)),
        'colours': np.int64,
    }

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, font in enumerate(_fonts()):
            for label, character in enumerate(CHARACTERS):
                if (label % len(FONTS) == number) != (split == 'test'):
                    continue
                shape = _shape(font, character)
                for colours, (paper, ink) in enumerate(COLOURS):
                    image = Image.new('RGB', shape.size, paper)
                    image.paste(ink, mask=shape)
                    example = {'image': image, 'label': label, 'font': number, 'colours': colours}
                    yield f'{number}_{label}_{colours}', example


def _fonts() -> Iterator[ImageFont.FreeTypeFont]:
    """Yields the fonts, larger than they are needed."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf'
    for name in FONTS:
        with telling(f"'glyphs' needs '{name}.ttf', which this matplotlib lacks", _INSTALL):
            # This layout needs no library of the system, and so draws the same everywhere.
            font = ImageFont.truetype(folder / f'{name}.ttf', 128, layout_engine=ImageFont.Layout.BASIC)
        yield font


def _shape(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """Draws a character as large as fits, in the middle: how much of each pixel it covers, 0 to 255."""
    large = Image.new('L', (256, 256))
    ImageDraw.Draw(large).text((128, 128), character, font=font, fill=255, anchor='mm')
    fitted = ImageOps.contain(large.crop(large.getbbox()), _INKED, Image.Resampling.LANCZOS)
    shape = Image.new('L', (_GLYPH, _GLYPH))
    shape.paste(fitted, ((_GLYPH - fitted.width) // 2, (_GLYPH - fitted.height) // 2))
    return shape


BUILDERS = {'digits': Digits, 'glyphs': Glyphs, 'photos': Photos}


def home(data_dir: str | None) -> Path:
    """Returns the folder of the built-in sets: `DataConfig.data_dir`, or else in the user's cache folder.

    Raises:
      UserError: If it is the address of a bucket.
    """
    if is_address(data_dir or ''):
        raise UserError(
            f'config.data.data_dir is {data_dir}, and built-in data sets are made on this machine; leave it '
            'out, or give a folder.'
        )
    return Path(data_dir).expanduser() if data_dir else cache_folder('datasets')


def find(name: str, folder: Path) -> Path:
    """Returns the folder of this version of a set, a key of `BUILDERS`, below a folder; writes nothing.

    Raises:
      UserError: If it is not prepared there.
    """
    found = folder / name / str(BUILDERS[name].VERSION)
    if os.path.isfile(found / 'dataset_info.json'):
        return found
    raise UserError(
        f'The built-in data set {name!r} is not in {str(folder)!r}, and a run that is opened prepares none: '
        f'run `python -m vq_jax.prepare {name} --data_dir {shlex.quote(str(folder))}`, or set '
        'config.data.data_dir to the folder that has it.'
    )


def prepare(name: str, folder: Path) -> Path:
    """Prepares a set below a folder unless it is there already; arguments and result are those of `find`.

    The set appears under its name only when it is complete, and several processes may do this at
    once.

    Raises:
      UserError: If the folder cannot be written.
    """
    builder = BUILDERS[name]
    final = folder / name / str(builder.VERSION)
    if (final / 'dataset_info.json').is_file():
        return final
    tfds.disable_progress_bar()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=f'.{name}-', dir=folder) as workshop,
            quiet(),
            contextlib.redirect_stdout(io.StringIO()),  # in which tensorflow-datasets makes announcements
        ):
            builder(data_dir=workshop, file_format='array_record').download_and_prepare()
            Path(workshop, name, final.name).rename(final)
    except (OSError, RuntimeError) as error:  # the latter is what the writer of records makes of the former
        if not (final / 'dataset_info.json').is_file():  # else another process was first
            reason = getattr(error, 'strerror', None) or str(error).partition(';')[0]
            raise UserError(
                f'The built-in data set {name!r} cannot be prepared in {str(folder)!r} ({reason}): make '
                'room, or set config.data.data_dir to a folder that can be written.'
            ) from error
    finally:
        tfds.enable_progress_bar()
    return final

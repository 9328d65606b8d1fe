import io
import struct
import subprocess
import zlib

import numpy as np
import pytest
from absl import logging
from PIL import Image, PngImagePlugin

from vq_jax.data import DataConfig
from vq_jax.data.transforms.image import ImageTransform, arrange, decode
from vq_jax.data.transforms.transform import Undecodable, window
from vq_jax.errors import UserError
from vq_jax.spec import Spec


def encoded(image, kind='PNG', **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF', 'WEBP', 'PPM', 'TGA'])
def test_lossless_formats(noise, kind):
    options = {'lossless': True} if kind == 'WEBP' else {}
    image = decode(encoded(Image.fromarray(noise), kind, **options), 3)
    np.testing.assert_array_equal(np.asarray(image), noise)


def test_grey_from_colour_is_luma(noise):
    grey = np.asarray(decode(encoded(Image.fromarray(noise)), 1)).astype(float)
    # ITU-R BT.601, the definition of luma
    luma = noise @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey - luma).max() <= 1


def test_colour_from_grey_repeats(noise):
    image = decode(encoded(Image.fromarray(noise[..., 0])), 3)
    np.testing.assert_array_equal(np.asarray(image), np.repeat(noise[..., :1], 3, axis=-1))


def test_alpha_lies_over_white():
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 50, 0, 51]]], np.uint8)
    image = np.asarray(decode(encoded(Image.fromarray(pixels)), 3))
    # 51 / 255 = 0.2
    expected = [[10, 20, 30], [255, 255, 255], [224, 214, 204]]
    np.testing.assert_allclose(image[0], expected, atol=1)


def test_grey_alpha_lies_over_white():
    pixels = np.array([[[10, 255], [10, 0], [100, 51]]], np.uint8)
    image = np.asarray(decode(encoded(Image.fromarray(pixels)), 1))
    np.testing.assert_allclose(image[0], [10, 255, 224], atol=1)


def test_palette_with_transparency():
    image = Image.new('P', (3, 1))
    image.putpalette([1, 2, 3, 40, 50, 60, 200, 100, 0])
    image.putdata([0, 1, 2])
    np.testing.assert_array_equal(
        np.asarray(decode(encoded(image), 3))[0], [[1, 2, 3], [40, 50, 60], [200, 100, 0]]
    )
    np.testing.assert_array_equal(
        np.asarray(decode(encoded(image, transparency=1), 3))[0],
        [[1, 2, 3], [255, 255, 255], [200, 100, 0]],
    )


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'PPM'])
def test_sixteen_bits_become_eight(kind):
    levels = np.arange(256, dtype=np.uint16)[None] * 257  # 65535 / 255 = 257
    image = Image.frombytes('I;16', (256, 1), levels.tobytes())
    for channels in 1, 3:
        got = np.asarray(decode(encoded(image, kind), channels))
        np.testing.assert_array_equal(got.reshape(256, channels)[:, 0], np.arange(256))


def test_one_bit_and_cmyk():
    bits = Image.fromarray(np.array([[True, False]]))
    np.testing.assert_array_equal(np.asarray(decode(encoded(bits), 1)), [[255, 0]])
    ink = Image.new('CMYK', (8, 8), (0, 255, 255, 0))
    red = np.asarray(decode(encoded(ink, 'TIFF'), 3))
    assert (red == [255, 0, 0]).all()


def test_first_frame_of_an_animation():
    frames = [Image.new('RGB', (4, 4), colour) for colour in ('#ff0000', '#00ff00')]
    data = encoded(frames[0], 'GIF', save_all=True, append_images=frames[1:])
    assert (np.asarray(decode(data, 3)) == [255, 0, 0]).all()


# EXIF 2.32, tag 0x0112: how rows and columns of the file are to be shown
ORIENTATIONS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize('orientation', ORIENTATIONS)
def test_orientation(noise, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(noise), exif=exif)
    shown = np.asarray(decode(data, 3, use_orientation=True))
    np.testing.assert_array_equal(shown, ORIENTATIONS[orientation](noise))
    np.testing.assert_array_equal(np.asarray(decode(data, 3)), noise)
    # An image to be edited is one to look at, wherever the model's data come from.
    image, _ = ImageTransform.prepare(data, None, Spec('image', shown.shape), DataConfig())
    np.testing.assert_array_equal(image, shown)


def test_files_that_a_user_gives(noise, tmp_path):
    image, black, text = encoded(Image.fromarray(noise)), tmp_path / 'black.png', tmp_path / 'text.png'
    Image.fromarray(np.zeros(noise.shape[:2], np.uint8)).save(black)
    text.write_text('no image')
    for mask, words in (
        (black, 'nothing of the mask is white'),
        (text, f'^{text} cannot be decoded .*; give an image file'),
        (b'nothing', '^the mask cannot be decoded'),
        (tmp_path / 'none', f'^{tmp_path}/none cannot be read'),
    ):
        with pytest.raises(UserError, match=words):
            ImageTransform.prepare(image, mask, Spec('image', noise.shape), DataConfig())


def test_undecodable(noise):
    whole = encoded(Image.fromarray(noise), 'JPEG')
    png = encoded(Image.fromarray(noise))
    damaged = png[:60] + bytes(20) + png[80:]
    for data in b'', b'hello', whole[: len(whole) // 2], png[: len(png) // 2], damaged:
        with pytest.raises(Undecodable):
            decode(data, 3)


def png(width, height, depth, colour, rows, *chunks):
    """A PNG file written from its specification: `rows` are filter bytes and pixels, `chunks` come before."""

    def chunk(kind, content):
        check = struct.pack('>I', zlib.crc32(kind + content))
        return struct.pack('>I', len(content)) + kind + content + check

    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    parts = [(b'IHDR', header), *chunks, (b'IDAT', zlib.compress(rows)), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)


def tiff(values, bits, white_is_zero=False, sample_format=1):
    """A TIFF 6.0 file of one row of uncompressed grey pixels; `values` is an array or bytes."""
    data = bytes(values)
    width = len(data) * 8 // bits
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8 + 2 + 12 * 10 + 4}
    tags |= {277: 1, 278: 1, 279: len(data), 339: sample_format}
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags.items())
    return b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries + bytes(4) + data


GREY = {
    '16 bits': (tiff(np.array([0, 32768, 65535], '<u2'), 16), [0, 128, 255]),
    'white is zero': (tiff(np.array([0, 32768, 65535], '<u2'), 16, white_is_zero=True), [255, 127, 0]),
    'white is zero in 8 bits': (tiff(np.array([0, 128, 255], 'u1'), 8, white_is_zero=True), [255, 127, 0]),
    '12 bits': (tiff(bytes([0xFF, 0xF8, 0x00]), 12), [255, 128]),  # 4095 and 2048
    'up to 1023': (b'P5 3 1 1023\n' + np.array([0, 512, 1023], '>u2').tobytes(), [0, 128, 255]),
    'one value is transparent': (
        png(2, 1, 16, 0, b'\0' + struct.pack('>2H', 1000, 30000), (b'tRNS', b'\x03\xe8')),
        [255, 117],
    ),
    'alpha': (png(2, 1, 16, 4, b'\0' + struct.pack('>4H', 51400, 65535, 51400, 0)), [200, 255]),
}


@pytest.mark.parametrize(('data', 'grey'), GREY.values(), ids=GREY)
def test_ranges_of_grey(data, grey):
    """Worked out from the formats: black and white are the ends of the range, which has `bits` bits."""
    np.testing.assert_array_equal(np.asarray(decode(data, 1))[0], grey)


def test_the_transparent_colour_of_sixteen_bits():
    pixels = b'\0' + struct.pack('>6H', 200 * 256, 100 * 256, 50 * 256, 3 * 256, 100 * 256, 50 * 256)
    # The low bytes are 3, 100 and 50: the first pixel is transparent, the second is not.
    transparent = struct.pack('>3H', 200 * 256 + 3, 100 * 256 + 100, 50 * 256 + 50)
    image = np.asarray(decode(png(2, 1, 16, 2, pixels, (b'tRNS', transparent)), 3))
    np.testing.assert_array_equal(image[0], [[255, 255, 255], [3, 100, 50]])


WITHOUT_RANGE = {
    '32 bits up to 1': encoded(Image.fromarray(np.full((4, 4), 1, np.int32)), 'TIFF'),
    '32 bits up to 255': encoded(Image.fromarray(np.full((4, 4), 255, np.int32)), 'TIFF'),
    '32 bits up to 65535': encoded(Image.fromarray(np.full((4, 4), 65535, np.int32)), 'TIFF'),
    'unsigned 32 bits': tiff(np.array([0, 100, 255], '<u4'), 32),
    'signed 16 bits': tiff(np.array([0, -5, 100], '<i2'), 16, sample_format=2),
    'signed 8 bits': tiff(np.array([0, -5, 100], 'i1'), 8, sample_format=2),
    'float up to 1': encoded(Image.fromarray(np.full((4, 4), 1, np.float32)), 'TIFF'),
    'float up to 255': encoded(Image.fromarray(np.full((4, 4), 255, np.float32)), 'TIFF'),
    'float map': b'Pf\n3 1\n-1.0\n' + np.array([0, 0.5, 1], '<f4').tobytes(),
}


@pytest.mark.parametrize('data', WITHOUT_RANGE.values(), ids=WITHOUT_RANGE)
def test_pixels_without_a_range_are_refused(data):
    with pytest.raises(Undecodable, match='no fixed range; convert the file to'):
        decode(data, 3)


def broken_exif(noise):
    image = Image.fromarray(noise)
    yield encoded(image, 'PNG', exif=b'junk' * 3)
    yield encoded(image, 'WEBP', exif=b'junk' * 3, lossless=True)
    for text in (
        '\nexif\n 8\n457869660000494\n',
        '\nexif\n 8\n4578696600006161616161616161\n',
        'exif\n 8\nzzzz not hex\n',
    ):
        info = PngImagePlugin.PngInfo()
        info.add_text('Raw profile type exif', text)
        yield encoded(image, 'PNG', pnginfo=info)


def test_broken_exif_costs_no_pixels(noise, monkeypatch):
    told = []
    monkeypatch.setattr(
        logging, 'log_first_n', lambda level, text, n, *values: told.append((n, text % values))
    )
    for number, data in enumerate(broken_exif(noise)):
        image = decode(data, 3, use_orientation=True, name=f'{number}.png')
        np.testing.assert_array_equal(np.asarray(image), noise)
    assert [(n, text.split()[0]) for n, text in told] == [(1, f'{i}.png') for i in range(4)]


def test_postscript_is_not_run(monkeypatch):
    """Whatever a file is called, Pillow goes by its content, and gives PostScript to Ghostscript."""

    def refuse(*_, **__):
        raise AssertionError('another program was started')

    monkeypatch.setattr(subprocess, 'Popen', refuse)
    postscript = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n'
    with pytest.raises(Undecodable, match='not an image in one of the formats AVIF, BMP'):
        decode(postscript, 3)


@pytest.mark.parametrize(
    'chunk',
    [(b'zTXt', b'key\0\0'), (b'iTXt', b'key\0\1\0\0\0'), (b'iCCP', b'key\0\0')],
    ids=lambda chunk: chunk[0].decode(),
)
def test_what_swells_is_undecodable(chunk):
    kind, start = chunk
    swelling = (kind, start + zlib.compress(bytes(2**26)))
    with pytest.raises(Undecodable, match='too large'):
        decode(png(1, 1, 8, 0, b'\0\5', swelling), 1)


def test_the_area_is_bounded(noise):
    with pytest.raises(Undecodable, match='400000000 pixels'):
        decode(png(20_000, 20_000, 8, 0, bytes(20_001)), 1)
    thin = decode(png(200_000, 1, 8, 0, bytes(200_001)), 1)
    for image in thin, thin.transpose(Image.Transpose.ROTATE_90):
        size = f'{image.width}x{image.height}'
        with pytest.raises(Undecodable, match=f'{size} pixels are too long and thin to be resized to'):
            arrange(image, DataConfig(image_size=64))
    # Pillow would hold 64 x 2,000,000 pixels on the way.
    with pytest.raises(Undecodable, match='too long and thin'):
        arrange(Image.new('L', (1, 2_000_000)), DataConfig(image_size=64, fit='stretch'))
    with pytest.raises(Undecodable, match='1x2000000 pixels are too many to be padded by 100'):
        arrange(Image.new('L', (1, 2_000_000)), DataConfig(image_size=64, fit='stretch', pad=100))
    with pytest.raises(UserError, match=r'the image cannot be resized .*too long and thin'):
        ImageTransform.prepare(encoded(thin), None, Spec('image', (64, 64, 1)), DataConfig(image_size=64))


def test_a_file_of_another_size_is_named(noise, tmp_path):
    (tmp_path / 'a.png').write_bytes(encoded(Image.new('L', (8, 4))))
    with pytest.raises(
        UserError, match=r'/a\.png has 8x4 pixels and the model was trained on 4x4; resize it\.'
    ):
        ImageTransform.prepare(tmp_path / 'a.png', None, Spec('image', (4, 4, 1)), DataConfig())


def test_nothing_to_do_leaves_pixels(noise):
    square = Image.fromarray(noise[:, :20])
    for config in DataConfig(), DataConfig(image_size=20), DataConfig(image_size=20, fit='pad'):
        np.testing.assert_array_equal(arrange(square, config), noise[:, :20])


def test_pad_surrounds_with_black(noise):
    grey = noise[:20, :20, 0]
    padded = arrange(Image.fromarray(grey), DataConfig(pad=2, image_size=24))
    np.testing.assert_array_equal(padded[..., 0], np.pad(grey, 2))


@pytest.mark.parametrize(
    ('options', 'size'),
    [
        ({'image_size': 10}, (15, 10)),
        ({'image_size': 10, 'resize': 13}, (20, 13)),  # 30 * 13 / 20 = 19.5
        ({'image_size': 40}, (60, 40)),
        ({'image_size': 10, 'fit': 'stretch'}, (10, 10)),
    ],
)
def test_resize_against_pillow(noise, options, size):
    image = Image.fromarray(noise)
    expected = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(arrange(image, DataConfig(**options)), expected)


def test_reducing_averages():
    """Without antialiasing, a fine chequerboard would come out black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = arrange(Image.fromarray(board), DataConfig(image_size=16))
    assert np.abs(small.astype(int) - 127).max() <= 20


def test_fit_pad_keeps_the_whole_image():
    white = Image.new('L', (40, 20), 255)
    image = arrange(white, DataConfig(image_size=10, fit='pad'))[..., 0]
    expected = np.zeros((10, 10))
    expected[2:7] = 255  # 5 rows in the middle, the smaller border above
    np.testing.assert_array_equal(image, expected)
    tall = arrange(white.transpose(Image.Transpose.ROTATE_90), DataConfig(image_size=10, fit='pad'))
    np.testing.assert_array_equal(tall[..., 0], expected.T)


def test_very_thin_image_keeps_a_pixel():
    image = arrange(Image.new('L', (1000, 1), 255), DataConfig(image_size=10, fit='pad'))
    assert (image[..., 0].sum(axis=0) == 255).all()


def test_window(noise):
    np.testing.assert_array_equal(window(noise, (10, 10)), noise[5:15, 10:20])
    np.testing.assert_array_equal(window(noise, (10, 10), (0.0, 0.0)), noise[:10, :10])
    last = np.nextafter(1.0, 0.0)
    np.testing.assert_array_equal(window(noise, (10, 10), (last, last)), noise[10:, 20:])
    np.testing.assert_array_equal(window(noise, (20, 20), (last, 0.5)), noise[:, 5:25])

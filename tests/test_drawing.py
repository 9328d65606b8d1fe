"""The files that commands write of the images they make."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vq_jax import drawing
from vq_jax.errors import UserError
from vq_jax.ops.captions import HEIGHT, width_of
from vq_jax.ops.pictures import grid


@pytest.mark.parametrize('captions', [None, ['a', 'b', 'c', 'd']])
def test_a_sheet_has_a_title(tmp_path, captions):
    images = np.full((4, 8, 8, 1), 200, np.uint8)
    title = 'four samples of a run with a long name, step 1,000'
    drawing.write(tmp_path / 'x.png', images, title, captions)
    sheet = np.asarray(Image.open(tmp_path / 'x.png'))
    height, width, _ = grid(images).shape
    assert sheet.shape == (2 + HEIGHT + height - 2 + 2 * HEIGHT * bool(captions), width_of(title), 3)
    assert (sheet[2 : 2 + HEIGHT, width:] < 128).any()  # to its end
    np.testing.assert_array_equal(sheet[2 + HEIGHT : 64 + HEIGHT, 2:66], 200)


def test_a_sheet_of_too_many_images_is_refused_before_they_are_made():
    sheet, arrays = Path('x.png'), Path('x.npz')
    drawing.check_sheet(sheet, 4096, (256, 256, 3))
    drawing.check_sheet(arrays, 10**7, (256, 256, 3))
    for n, shape, most in ((4097, (256, 256, 3), '4,096'), (10**6, (8, 8, 1), '65,536')):
        with pytest.raises(
            UserError, match=f'^{n} images do not fit on a sheet; ask for {most} or fewer, or'
        ):
            drawing.check_sheet(sheet, n, shape)

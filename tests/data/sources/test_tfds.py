import io
import json
import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vq_jax.data import DataConfig, eval_batches, open_dataset, train_batches
from vq_jax.data.sources.tfds import find
from vq_jax.errors import UserError


class OddImages(tfds.core.GeneratorBasedBuilder):
    """Ten images whose fifth is damaged, with two image and two label features."""

    VERSION = tfds.core.Version('1.2.0')
    url_infos = {}  # noqa: RUF012

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    'photo': tfds.features.Image(shape=(None, None, 3), encoding_format='png'),
                    'mask': tfds.features.Image(shape=(4, 4, 1), encoding_format='png'),
                    'kind': tfds.features.ClassLabel(names=['a', 'b']),
                    'caption': tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        for i in range(10):
            photo = io.BytesIO()
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(photo, 'PNG')
            content = photo.getvalue()[: 40 if i == 5 else None]
            yield (
                i,
                {
                    'photo': io.BytesIO(content),
                    'mask': Image.fromarray(np.full((4, 4), 100 + i, np.uint8)),
                    'kind': i % 2,
                    'caption': 'some words',
                },
            )


@pytest.fixture(scope='module')
def odd_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('odd'))
    OddImages(data_dir=folder, file_format='array_record').download_and_prepare()
    return folder


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('the network was used')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)


def odd(folder, split='train', **options):
    config = DataConfig(
        name='odd_images',
        data_dir=folder,
        **{'image_key': 'photo', 'label_key': 'kind', **options},
    )
    return open_dataset(config, split)


@pytest.mark.parametrize('options', [{}, {'cache_gib': 0}, {'cache_gib': 0, 'workers': 1}])
def test_own_keys_and_a_damaged_record(odd_dir, options):
    data = odd(odd_dir, **options)
    assert data.class_names == ('a', 'b')
    assert data.spec.shape == (4, 4, 3)
    (batch,) = eval_batches(data, batch_size=10)
    assert batch['mask'].sum() == 9
    values = batch['x'][:, 0, 0, 0][batch['mask']]
    assert sorted(values) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    np.testing.assert_array_equal(batch['label'][batch['mask']], values % 2)


def test_other_keys(odd_dir):
    grey = odd(odd_dir, image_key='mask', label_key='label')
    assert grey.num_classes == 0
    assert grey.spec.shape == (4, 4, 1)
    (batch,) = eval_batches(grey, batch_size=10)
    assert sorted(batch['x'][:, 0, 0, 0]) == list(range(100, 110))
    assert not batch['label'].any()
    with pytest.raises(UserError, match=r"'image'.*set config.data.image_key to one of 'mask', 'photo'"):
        odd(odd_dir, image_key='image')
    with pytest.raises(UserError, match=r"'caption'.*image_key"):
        odd(odd_dir, image_key='caption')
    with pytest.raises(UserError, match=r"'labl'.*set config.data.label_key to one of 'kind'"):
        odd(odd_dir, label_key='labl')


def test_splits(odd_dir):
    assert len(odd(odd_dir, 'train[:70%]')) == 7
    for split in 'test', 'train[', 'train[5:20]', 'all[:8]':
        with pytest.raises(UserError, match=r'it has train \(10 examples\); set the split to one of them'):
            odd(odd_dir, split, train_split='train', eval_split='train')
    with pytest.raises(UserError, match=r'set config.data.eval_split to one of them'):
        odd(odd_dir, 'test')
    assert len(odd(odd_dir, 'training[:3]')) == 3
    with pytest.raises(UserError, match='has no examples'):
        odd(odd_dir, 'train[3:3]')


def test_names_versions_and_configs(odd_dir, tmp_path):
    source = Path(odd_dir, 'odd_images', '1.2.0')
    for place in 'odd/1.2.0', 'odd/1.10.0', 'more/small/2.0.0', 'more/large/2.0.0':
        shutil.copytree(source, tmp_path / place)
    (tmp_path / 'odd' / '9.0.0').mkdir()  # unfinished
    assert find('odd', tmp_path) == tmp_path / 'odd/1.10.0'
    assert find('odd:1.2.0', tmp_path) == tmp_path / 'odd/1.2.0'
    assert find('more/large', tmp_path) == tmp_path / 'more/large/2.0.0'
    assert find('more/large:2.0.0', tmp_path) == tmp_path / 'more/large/2.0.0'
    assert find('more', tmp_path) is None
    assert find('odd/3.0.0', tmp_path) is None
    with pytest.raises(UserError, match="Did you mean 'more/large' or 'more/small'"):
        open_dataset(DataConfig(name='more', data_dir=str(tmp_path)), 'train')
    (tmp_path / 'more' / '.config').mkdir()
    (tmp_path / 'more/.config/metadata.json').write_text('{"default_config_name": "small"}')
    assert find('more', tmp_path) == tmp_path / 'more/small/2.0.0'


@pytest.mark.parametrize('name', ['mnist', 'no_such_set', 'imagenette/no_such_config', 'mnist:9.9.9'])
def test_missing_set_fails_at_once(tmp_path, no_network, monkeypatch, name):
    monkeypatch.setattr(time, 'sleep', lambda seconds: pytest.fail('it waits to try again'))
    with pytest.raises(UserError) as caught:
        open_dataset(DataConfig(name=name, data_dir=str(tmp_path)), 'train')
    message = str(caught.value)
    assert str(tmp_path / name.replace(':', '/')) in message
    assert f'`python -m vq_jax.prepare {name} --data_dir {tmp_path}`' in message
    assert 'TFDS_DATA_DIR' in message
    assert not list(tmp_path.iterdir())


def test_data_dir_from_the_environment(odd_dir, monkeypatch, tmp_path):
    monkeypatch.setenv('TFDS_DATA_DIR', odd_dir)
    assert len(odd(None)) == 10
    with pytest.raises(UserError):
        odd(str(tmp_path))
    monkeypatch.setenv('TFDS_DATA_DIR', '')
    monkeypatch.setenv('HOME', str(tmp_path))
    with pytest.raises(UserError, match=f'{tmp_path}/tensorflow_datasets'):
        odd(None)


@pytest.mark.parametrize('name', ['digit', 'DIGITS'])
def test_misspelled_name(tmp_path, name):
    with pytest.raises(UserError, match="Did you mean 'digits'"):
        open_dataset(DataConfig(name=name, data_dir=str(tmp_path)), 'train')


@pytest.mark.parametrize('name', ['{}', '{}/', './photographs', '~/photographs'])
def test_a_path_without_the_word_folder(tmp_path, monkeypatch, name):
    (tmp_path / 'photographs').mkdir()
    (tmp_path / 'a.zip').touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path))
    name = name.format(tmp_path / 'photographs')
    with pytest.raises(UserError) as caught:
        open_dataset(DataConfig(name=name), 'train')
    assert f"set config.data.name to 'folder:{name}' to take the images, videos or recordings there." in str(
        caught.value
    )
    assert 'prepare' not in str(caught.value)
    for wrong, words in (
        (f'{name}x', r'^There is no .*: set config.data.name to folder:PATH'),
        ('./a.zip', 'is a path'),
    ):
        with pytest.raises(UserError, match=words):
            open_dataset(DataConfig(name=wrong), 'train')
    with pytest.raises(UserError, match="Did you mean 'folder:photographs'"):
        open_dataset(DataConfig(name='photographs'), 'train')


@pytest.mark.parametrize('name', ['x' * 300, '/' + 'x' * 300, 'a\0b', 'folder:a\0b', 'folder:' + 'x' * 300])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(UserError):
        open_dataset(DataConfig(name=name, data_dir=str(tmp_path)), 'train')


def test_wrong_format_and_damage(odd_dir, tmp_path):
    place = tmp_path / 'odd_images' / '1.2.0'
    shutil.copytree(Path(odd_dir, 'odd_images', '1.2.0'), place)
    info = json.loads((place / 'dataset_info.json').read_text())
    (place / 'dataset_info.json').write_text(json.dumps(info | {'fileFormat': 'tfrecord'}))
    with pytest.raises(UserError, match=r'was prepared as tfrecord.*--data_dir'):
        odd(str(tmp_path))
    (place / 'dataset_info.json').write_text('{')
    with pytest.raises(UserError, match=r'dataset_info\.json is not valid JSON'):
        odd(str(tmp_path))
    (place / 'dataset_info.json').write_text(json.dumps(info))
    shard = next(place.glob('*.array_record*'))
    content = shard.read_bytes()
    for damaged in b'', content[:1000], content[:-1000], content + content[:65536]:
        shard.write_bytes(damaged)
        with pytest.raises(UserError, match=rf'cannot be opened \({shard} .*: prepare the data set again'):
            odd(str(tmp_path))
    shard.unlink()
    with pytest.raises(UserError, match='cannot be opened'):
        odd(str(tmp_path))
    os.mkfifo(shard)
    with pytest.raises(UserError, match='is not a regular file'):
        odd(str(tmp_path))


def test_one_damaged_byte(odd_dir, tmp_path):
    place = tmp_path / 'odd_images' / '1.2.0'
    shutil.copytree(Path(odd_dir, 'odd_images', '1.2.0'), place)
    shard = next(place.glob('*.array_record*'))
    content = bytearray(shard.read_bytes())
    content[content.index(b'IHDR') + 6] ^= 1  # in the first record
    shard.write_bytes(content)
    for options in {}, {'cache_gib': 0, 'workers': 1}:
        data = odd(str(tmp_path), image_size=4, max_undecodable=0.2, **options)
        (batch,) = eval_batches(data, batch_size=10)
        assert batch['mask'].sum() == 8  # and the one whose image was written damaged
    data = odd(str(tmp_path), image_size=4, max_undecodable=0.1)
    with pytest.raises(UserError, match=r'2 images of 10 .* cannot be decoded, for example odd_images'):
        list(eval_batches(data, batch_size=10))


def test_records_of_something_else(odd_dir, monkeypatch):
    """Records whose bytes are whole, but not what the features say."""
    data = odd(odd_dir, image_size=4, max_undecodable=0.5)
    good = next(eval_batches(data, batch_size=10, pad=True))['mask']
    data = odd(odd_dir, image_size=4, max_undecodable=0.5)
    records = data._source._records

    class Changed:
        def __len__(self):
            return len(records)

        def __getitems__(self, numbers):
            return [(b'', b'\xff' * 20, b'\n\x03abc')[n] if n < 3 else records[n] for n in numbers]

    monkeypatch.setattr(data._source, '_records', Changed())
    mask = next(eval_batches(data, batch_size=10, pad=True))['mask']
    assert mask.tolist() == [False] * 3 + good[3:].tolist()


EVIL = 'stranger.Feature'
NESTED = {
    'at the top': lambda own: {**own, 'pythonClassName': EVIL},
    'inside': lambda own: {
        **own,
        'featuresDict': {'features': {'x': {'pythonClassName': EVIL, 'text': {}}}},
    },
    'in the other spelling': lambda own: {'python_class_name': EVIL, 'features_dict': {'features': {}}},
    'as old versions wrote it': lambda own: {'type': EVIL, 'content': {}},
    'as JSON in JSON': lambda own: {
        'pythonClassName': own['pythonClassName'],
        'jsonFeature': {'json': json.dumps({'x': {'type': EVIL, 'content': {}}})},
    },
}


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module that must not be imported, where it could be."""
    (tmp_path / 'modules').mkdir()
    (tmp_path / 'modules' / 'stranger.py').write_text('raise SystemExit("code of a stranger was run")')
    monkeypatch.syspath_prepend(tmp_path / 'modules')


@pytest.mark.parametrize('file', ['features.json', 'dataset_info.json'])
@pytest.mark.parametrize('change', NESTED.values(), ids=NESTED)
def test_features_of_strangers_are_not_imported(odd_dir, tmp_path, stranger, file, change):
    place = tmp_path / 'odd_images' / '1.2.0'
    shutil.copytree(Path(odd_dir, 'odd_images', '1.2.0'), place)
    features = change(json.loads((place / 'features.json').read_text()))
    info = json.loads((place / 'dataset_info.json').read_text())
    content = features if file == 'features.json' else info | {'features': features}
    (place / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"'{EVIL}', which is not of tensorflow-datasets itself"):
        odd(str(tmp_path))


def test_the_module_of_a_builder_is_not_imported(odd_dir, tmp_path, stranger):
    place = tmp_path / 'odd_images' / '1.2.0'
    shutil.copytree(Path(odd_dir, 'odd_images', '1.2.0'), place)
    info = json.loads((place / 'dataset_info.json').read_text())
    (place / 'dataset_info.json').write_text(json.dumps(info | {'moduleName': 'stranger'}))
    assert len(odd(str(tmp_path))) == 10
    (place / 'features.json').write_text('[' * 100_000)
    with pytest.raises(UserError, match=r'features\.json is not valid JSON'):
        odd(str(tmp_path))


def test_mnist(real_dir, no_network):
    config = DataConfig(name='mnist', data_dir=real_dir)
    train, test = open_dataset(config, 'train'), open_dataset(config, 'test')
    assert (len(train), len(test), train.num_classes) == (60_000, 10_000, 10)
    assert train.spec.shape == (28, 28, 1)
    total = counted = 0
    for batch in eval_batches(train, batch_size=5000):
        total += batch['x'].sum(dtype=np.int64)
        counted += batch['mask'].sum()
    assert counted == 60_000
    # The data set's well-known mean, 0.1307 of 255
    assert round(total / (60_000 * 28 * 28), 3) == 33.318
    # The first test digits of the original file come in tfds's shuffled order; the numbers of
    # each are known: http://yann.lecun.com/exdb/mnist
    counts = np.zeros(10, int)
    for batch in eval_batches(test, batch_size=1000):
        counts += np.bincount(batch['label'][batch['mask']], minlength=10)
    assert counts.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_mnist_in_thirty_two_pixels(real_dir):
    plain = open_dataset(DataConfig(name='mnist', data_dir=real_dir), 'test[:10]')
    padded = open_dataset(DataConfig(name='mnist', data_dir=real_dir, pad=2, image_size=32), 'test[:10]')
    (one,), (other,) = eval_batches(plain, batch_size=10), eval_batches(padded, batch_size=10)
    np.testing.assert_array_equal(other['x'], np.pad(one['x'], ((0, 0), (2, 2), (2, 2), (0, 0))))


def test_imagenette(real_dir, no_network):
    if not Path(real_dir, 'imagenette', '160px-v2').is_dir():
        pytest.skip('TFDS_DATA_DIR has no prepared imagenette/160px-v2')
    config = DataConfig(name='imagenette/160px-v2', data_dir=real_dir, image_size=64)
    validation = open_dataset(config, 'validation[:100]')
    source = tfds.data_source(
        'imagenette/160px-v2', split='validation[:100]', data_dir=real_dir, download=False
    )
    (batch,) = eval_batches(validation, batch_size=100)
    for row in range(100):
        expected = Image.fromarray(source[row]['image']).resize((64, 64), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(batch['x'][row], np.asarray(expected))
        assert batch['label'][row] == source[row]['label']
    batch = next(train_batches(open_dataset(config, 'train'), batch_size=8, seed=0))
    assert batch['x'].shape == (8, 64, 64, 3)

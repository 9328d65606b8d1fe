"""Data sets of sound: folders of WAV files, and tensorflow-datasets' own format."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from PIL import Image

from vq_jax.data import DataConfig, eval_batches, open_dataset, train_batches
from vq_jax.errors import UserError
from vq_jax.media import wav


@pytest.fixture
def folder(tmp_path):
    """Twelve recordings in two classes; all samples of one are its number, and it has 20 and as many."""
    for i in range(12):
        samples = np.full((20 + i, 1 + i % 2), i + 1, np.int16)
        wav.write(tmp_path / 'set' / 'train' / 'ab'[i % 2] / f'{i:02}.wav', samples, 8000)
    return tmp_path / 'set'


def opened(folder, split='train', **options):
    return open_dataset(DataConfig(name=f'folder:{folder}', **{'num_samples': 24, **options}), split)


def test_a_folder_of_recordings(folder):
    data = opened(folder)
    assert str(data.spec) == 'audio of 24x1' and data.spec.rate == 8000 and data.class_names == ('a', 'b')
    (batch,) = eval_batches(data, batch_size=12)
    assert batch['x'].shape == (12, 24, 1) and batch['x'].dtype == np.int16 and batch['mask'].all()
    numbers = batch['x'][:, 0, 0]
    assert sorted(numbers) == list(range(1, 13))
    np.testing.assert_array_equal(batch['label'], (numbers - 1) % 2)
    # 19 samples and the number, the rest is silence.
    np.testing.assert_array_equal((batch['x'][..., 0] != 0).sum(1), np.minimum(19 + numbers, 24))


@pytest.mark.parametrize('options', [{}, {'random_crop': True}])
def test_memory_workers_and_resuming_change_nothing(folder, options):
    def taken(start=0, **reading):
        batches = train_batches(opened(folder, **options, **reading), batch_size=5, seed=3, start=start)
        found = [next(batches) for _ in range(4 - start)]
        batches.close()
        return [(batch['x'].tolist(), batch['label'].tolist()) for batch in found]

    whole = taken()
    assert taken(cache_gib=0) == whole and taken(start=2) == whole[2:]
    if options:
        assert taken(cache_gib=0, workers=1) == whole


def test_recordings_that_cannot_be_decoded_are_named(folder, monkeypatch):
    told = []
    monkeypatch.setattr(logging, 'warning', lambda text, *values: told.append(text % values))
    train = folder / 'train' / 'a'
    good = (train / '00.wav').read_bytes()
    (train / 'cut.wav').write_bytes(good[:-3])
    (train / 'text.wav').write_text('no sound')
    (train / 'float.WAV').write_bytes(good[:20] + b'\3\0' + good[22:])
    os.mkfifo(train / 'pipe.wav')
    data = opened(folder, max_undecodable=0.5)
    assert len(data) == 16
    assert sum(batch['mask'].sum() for batch in eval_batches(data, batch_size=4)) == 12
    assert len(told) == 4 and all('skipping an undecodable recording (' in line for line in told)
    for name, reason in (
        ('cut.wav', 'cut short'),
        ('text.wav', 'not a WAV file'),
        ('float.WAV', 'floating-point'),
        ('pipe.wav', 'not a regular file'),
    ):
        assert any(str(train / name) in line and reason in line for line in told)
    with pytest.raises(UserError, match=r'4 recordings of 16 in .* cannot be decoded'):
        list(eval_batches(opened(folder, max_undecodable=0.07), batch_size=16))


def test_the_kind_of_a_folder_is_that_of_most_files(folder, monkeypatch):
    told = []
    monkeypatch.setattr(logging, 'warning', lambda text, *values: told.append(text % values))
    Image.new('RGB', (4, 4)).save(folder / 'train' / 'a' / 'cover.png')
    assert opened(folder).spec.kind == 'audio' and len(opened(folder)) == 12
    assert "'image': 1" in told[0] and 'only the 12 of audio are used' in told[0]


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (
            {'image_size': 8},
            'config.data.image_size is 8, which is for image, and .* holds audio; leave it out, or set it to '
            'None',
        ),
        ({'flip': True}, 'config.data.flip is True, which is for image'),
        ({'image_key': 'photo'}, 'config.data.image_key'),
        ({'num_samples': None}, 'samples, not .* as the others: set config.data.num_samples'),
    ],
)
def test_keys_of_images_are_refused(folder, options, words):
    with pytest.raises(UserError, match=words):
        list(eval_batches(opened(folder, **options), batch_size=4))


@pytest.mark.parametrize(
    ('key', 'value'), [('num_samples', 8), ('sample_rate', 8000), ('audio_key', 'speech')]
)
def test_keys_of_sound_are_refused_for_images(digits, key, value):
    config = DataConfig(name='digits', data_dir=digits.config.data_dir, **{key: value})
    with pytest.raises(UserError, match=f'config.data.{key} is {value!r}, which is for audio, and digits'):
        open_dataset(config, 'train')


@pytest.fixture
def spoken_dir():
    folder = os.environ.get('TFDS_DATA_DIR')
    if not folder or not Path(folder, 'spoken_digit').is_dir():
        pytest.skip('TFDS_DATA_DIR does not point to a folder with a prepared spoken_digit')
    return folder


def spoken(folder, split, **options):
    return open_dataset(DataConfig(name='spoken_digit', data_dir=folder, **options), split)


def test_spoken_digit(spoken_dir):
    """Against records read as raw integers, not through a feature of sound."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    (path,) = Path(spoken_dir, 'spoken_digit').glob('*/*.array_record*')
    features = {'audio': tfds.features.Tensor(shape=(None,), dtype=np.int64)}
    features = tfds.features.FeaturesDict(features | {'label': tfds.features.ClassLabel(num_classes=10)})
    source = ArrayRecordDataSource([str(path)])
    data = spoken(spoken_dir, 'train[:20]', num_samples=4000)
    assert (data.spec.kind, data.spec.shape, data.spec.rate) == ('audio', (4000, 1), 8000)
    assert data.num_classes == 10 and len(spoken(spoken_dir, 'train', num_samples=1)) == 2500
    (batch,) = eval_batches(data, batch_size=20)
    for row in range(20):
        record = features.deserialize_example_np(source[row])
        sound = record['audio']
        start = max(0, len(sound) - 4000) // 2
        cut = sound[start : start + 4000]
        np.testing.assert_array_equal(batch['x'][row, : len(cut), 0], cut)
        assert not batch['x'][row, len(cut) :].any() and batch['label'][row] == record['label']
    twice = spoken(spoken_dir, 'train[:2]', num_samples=8000, sample_rate=16000)
    assert twice.spec.rate == 16000 and next(eval_batches(twice, batch_size=2))['x'].shape == (2, 8000, 1)


def test_features_of_sound_by_other_names(spoken_dir, tmp_path):
    with pytest.raises(UserError, match=r"no sound under the name 'speech': .*audio_key to one of 'audio'"):
        spoken(spoken_dir, 'train', audio_key='speech')
    (path,) = Path(spoken_dir, 'spoken_digit').glob('*')
    copy = tmp_path / 'spoken_digit' / path.name
    shutil.copytree(path, copy)
    features = copy / 'features.json'
    features.chmod(0o644)
    features.write_text(features.read_text().replace('"8000"', '"fast"'))
    with pytest.raises(UserError, match=r'spoken_digit in .* cannot be opened'):
        spoken(str(tmp_path), 'train')

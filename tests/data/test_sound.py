"""Data sets of sound: folders of WAV files, and tensorflow-datasets' own format."""

import io
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from PIL import Image

from tests.prepared import prepared
from vq_jax.config_files import get_config
from vq_jax.data import DataConfig, eval_batches, open_dataset, train_batches
from vq_jax.errors import UserError
from vq_jax.media import wav
from vq_jax.training.config import build


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
            'config.data.image_size is 8, which is for image and video, and .* holds audio; leave it out, or '
            'set it to None',
        ),
        ({'flip': True}, 'config.data.flip is True, which is for image and video'),
        ({'frames': 4}, 'config.data.frames is 4, which is for video'),
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


def test_whole_recordings_are_evaluated(tmp_path, monkeypatch):
    """Each sample once and in order; and no more is read at a time than a stretch and what is around it."""
    lengths, read = [250, 64, 65, 1], []
    for i, length in enumerate(lengths):
        wav.write(tmp_path / f'{i}.wav', np.arange(1, length + 1, dtype=np.int16)[:, None], 8000)
    stretch = wav.Reader.read
    monkeypatch.setattr(wav.Reader, 'read', lambda *args: read.append(args[2]) or stretch(*args))
    options = {'num_samples': 64, 'whole_recordings': True}
    for more in {}, {'random_crop': True}, {'cache_gib': 0}:
        data = opened(tmp_path, 'all', **options, **more)
        assert len(data) == 4 + 1 + 2 + 1
        (batch,) = eval_batches(data, batch_size=8)
        heard = batch['x'][batch['x'] != 0].tolist()
        order = [data._source._source.describe(i) for i in range(4)]
        expected = [range(1, lengths[int(Path(path).stem)] + 1) for path in order]
        assert heard == [n for numbers in expected for n in numbers]
    assert max(read) == 128
    assert data._source.describe(data._source._place(7)[0]).startswith(str(tmp_path))
    at_half = opened(tmp_path, 'all', **options, sample_rate=4000)
    assert len(at_half) == 2 + 1 + 1 + 1 and at_half.spec.rate == 4000


def test_random_crops_of_whole_recordings(tmp_path):
    """They stay within the recording, reach all of it, and are the same whoever makes them."""
    wav.write(tmp_path / 'a.wav', np.arange(1, 1001, dtype=np.int16)[:, None], 8000)
    wav.write(tmp_path / 'b.wav', np.arange(1001, 1011, dtype=np.int16)[:, None], 8000)

    def firsts(**reading):
        options = {'num_samples': 64, 'whole_recordings': True, 'random_crop': True, **reading}
        batches = train_batches(opened(tmp_path, 'all', **options), batch_size=17, seed=1)
        found = np.concatenate([next(batches)['x'][..., 0] for _ in range(20)])
        batches.close()
        return found

    crops = firsts()
    long = crops[crops[:, 0] <= 1000]
    assert (np.diff(long, axis=1) == 1).all() and long[:, 0].min() < 40 and 900 < long[:, 0].max() <= 937
    assert 300 < len(long) < 340 and (crops[crops[:, 0] > 1000][:, :10] == np.arange(1001, 1011)).all()
    np.testing.assert_array_equal(firsts(cache_gib=0), crops)


def test_what_names_tell(tmp_path):
    for name in '0_ann_1', '1_ann_0', '0_bob_7', '1_bob_1', '2_eve_0':
        wav.write(tmp_path / 'deep' / f'{name}.wav', np.ones((24, 1), np.int16), 8000)

    def told(split, pattern):
        data = opened(tmp_path, split, name_pattern=pattern)
        (batch,) = eval_batches(data, batch_size=5)
        names = [Path(data._source.describe(i)).stem for i in range(len(data))]
        return data, batch, names

    data, batch, names = told('all', r'(?P<label>\d)_(?P<speaker>[a-z]+)_')
    assert data.class_names == ('0', '1', '2') and list(data.conditions) == ['speaker']
    assert batch['label'].tolist() == [int(name[0]) for name in names]
    assert batch['speaker'].tolist() == [['ann', 'bob', 'eve'].index(name[2:5]) for name in names]
    held_out, train = (set(told(split, r'_(?P<split>bob|eve)_')[2]) for split in ('bob+eve', 'train'))
    assert held_out == {'0_bob_7', '1_bob_1', '2_eve_0'} and train == {'0_ann_1', '1_ann_0'}
    assert told('train', '(?P<split>bob)')[0].class_names == ('deep',)  # as without a pattern
    assert told('all', '(?P<label>ann|eve|$)')[0].class_names == ('ann', 'eve', 'none')
    with pytest.raises(UserError, match=r"'\(\?P<label>x\)', finds nothing for its groups in 'deep/"):
        told('all', '(?P<label>x)')
    with pytest.raises(UserError, match=r"Split 'test' .* it has eve \(1 recording\), train \(4 record"):
        told('test', '(?P<split>eve)')


def test_odd_recordings_are_counted(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(logging, 'warning', lambda text, *values: told.append(text % values))
    for i in range(12):
        wav.write(tmp_path / f'{i}.wav', np.zeros((24, 1), np.int16), 8000)
    wav.write(tmp_path / 'loud.wav', np.full((24, 1), 32767, np.int16), 8000)
    data = opened(tmp_path, 'all')
    for _ in range(2):
        list(eval_batches(data, batch_size=4))
    assert (
        len(told) == 3 and sum('1 clipped recording of 13' in line and 'loud' in line for line in told) == 1
    )
    assert [line.partition(' of')[0] for line in told if 'silent' in line] == [
        '1 silent recording',
        '10 silent recordings',
    ]


def coded(samples, rate=8000, **options):
    """What soundfile writes."""
    soundfile = pytest.importorskip('soundfile', reason="pip install 'vq_jax[audio]'")
    file = io.BytesIO()
    soundfile.write(file, samples / 2**15, rate, **options)
    return file.getvalue()


def voice(seconds=1.0, rate=8000):
    time = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * 300 * time) * (1 + np.sin(2 * np.pi * 3 * time)) / 4
    return np.rint(2**15 * np.stack([tone, tone / 2], axis=1)).astype(np.int16)


@pytest.mark.parametrize(
    ('name', 'options', 'error'),
    [
        ('a.flac', {'format': 'FLAC', 'subtype': 'PCM_16'}, 0),
        ('a.flac', {'format': 'FLAC', 'subtype': 'PCM_24'}, 0),
        ('a.wav', {'format': 'WAV', 'subtype': 'FLOAT'}, 0),
        ('a.wav', {'format': 'WAV', 'subtype': 'ULAW'}, 700),
        ('a.ogg', {'format': 'OGG', 'subtype': 'VORBIS'}, 2000),
        ('a.mp3', {'format': 'MP3'}, 2000),
        ('a.mp3', {'format': 'MP3', 'bitrate_mode': 'CONSTANT'}, 2000),
    ],
)
def test_formats(tmp_path, name, options, error):
    """Of a stereo file, whole and in stretches, and by its content, whatever its name."""
    samples = voice()
    (tmp_path / name).write_bytes(coded(samples, **options))
    (whole,) = eval_batches(opened(tmp_path, 'all', num_samples=8000, channels=2), batch_size=1)
    assert whole['x'].shape == (1, 8000, 2) and whole['mask'].all()
    assert np.abs(whole['x'][0].astype(int) - samples).max() <= error
    data = opened(tmp_path, 'all', num_samples=3000, whole_recordings=True, channels=2)
    (parts,) = eval_batches(data, batch_size=3)
    np.testing.assert_array_equal(parts['x'].reshape(-1, 2)[:8000], whole['x'][0])
    (tmp_path / name).rename(tmp_path / 'b.wav')
    (again,) = eval_batches(opened(tmp_path, 'all', num_samples=8000, channels=2), batch_size=1)
    np.testing.assert_array_equal(again['x'], whole['x'])


def test_files_that_are_no_recordings(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(logging, 'warning', lambda text, *values: told.append(text % values))
    good, tone = wav.encode(np.ones((64, 1), np.int16), 8000), voice()
    not_finite = np.where(tone == 0, np.nan, tone)
    mp3, flac = coded(tone, format='MP3'), coded(tone, format='FLAC')
    files = {
        'empty.flac': (b'', 'not a WAV file, nor FLAC, Ogg or MP3'),
        'empty.wav': (wav.encode(tone[:0], 8000), 'no samples'),
        'nan.wav': (coded(not_finite, format='WAV', subtype='FLOAT'), 'samples that are not finite'),
        'six.wav': (wav.encode(np.ones((64, 6), np.int16), 8000), 'it has 6 channels, not 1 or 2'),
        'half.mp3': (mp3[: len(mp3) // 2], 'it is cut short: '),
        'half.flac': (flac[: len(flac) // 2], 'libsndfile: '),
        'half.wav': (coded(tone, format='WAV', subtype='FLOAT')[:999], 'cut short'),
        'text.wav': (b'no sound', 'not a WAV file'),
        'huge.wav': (good[:40] + b'\xff' * 4 + good[44:], 'cut short: 128 of 4,294,967,295 bytes'),
        'rate.wav': (good[:24] + bytes(4) + good[28:], 'its rate is 0'),
        'fast.wav': (good[:24] + b'\xff' * 4 + good[28:], 'its rate is 4294967295'),
        'odd.wav': (good[:24] + b'\xff\xdb\5\0' + good[28:], 'rates must have more in common'),
        'ogg.ogg': (b'OggS' + bytes(99), 'libsndfile: '),
        'mp3.mp3': (b'\xff\xfb' + bytes(99), 'libsndfile: '),
    }
    for name, (content, _) in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'one.wav').write_bytes(wav.encode(np.full((1, 1), 7, np.int16), 16_000))
    options = {'channels': 2, 'max_undecodable': 1.0, 'sample_rate': 16_000}
    data = opened(tmp_path, 'all', **options, num_samples=24_000)
    (batch,) = eval_batches(data, batch_size=len(data))
    assert batch['x'][batch['mask']][:, 0].tolist() == [[7, 7]]
    for name, (_, reason) in files.items():
        assert any(f'/{name}' in line and reason in line for line in told), (name, told)
    assert len(told) == len(files)
    excerpts = opened(tmp_path, 'all', **options, num_samples=2000, whole_recordings=True)
    assert sum(len(batch['x']) for batch in eval_batches(excerpts, batch_size=4)) < len(excerpts)


def test_without_soundfile(tmp_path, monkeypatch):
    flac = coded(voice(), format='FLAC')
    monkeypatch.setitem(sys.modules, 'soundfile', None)
    wav.write(tmp_path / 'a' / 'a.wav', voice(), 8000)
    assert len(list(eval_batches(opened(tmp_path / 'a', 'all'), batch_size=1))) == 1
    (tmp_path / 'b.flac').write_bytes(flac)
    with pytest.raises(UserError, match=r"install the package soundfile by pip install 'vq_jax\[audio\]'"):
        list(eval_batches(opened(tmp_path, 'all', max_undecodable=0.5), batch_size=1))


def test_the_config_for_own_recordings(folder):
    """Its data are opened as they are; the folder has no `test`, but a part for validation."""
    (folder / 'train' / 'a').rename(folder / 'val')
    config = get_config(f'configs/audio/recordings.py:{folder}')
    assert config.data.eval_split == 'validation'
    data = build(DataConfig, config.data, 'data')
    (batch,) = eval_batches(open_dataset(data, data.eval_split), batch_size=6)
    assert batch['x'].shape == (6, 16_000, 1) and batch['mask'].all()


@pytest.fixture
def spoken_dir():
    return prepared('spoken_digit')


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


def test_a_speaker_of_spoken_digit_is_held_out(spoken_dir):
    data = spoken(spoken_dir, 'train', num_samples=64, name_pattern='(?P<split>jackson)')
    assert (len(data), data.num_classes) == (2000, 10)
    speakers = spoken(spoken_dir, 'train[:50]', num_samples=64, name_pattern='_(?P<label>[a-z]+)_')
    assert speakers.class_names == ('george', 'jackson', 'nicolas', 'theo', 'yweweler')
    with pytest.raises(
        UserError, match=r"no text under the name 'id' .* config.data.name_key to one of 'aud"
    ):
        spoken(spoken_dir, 'train', name_pattern='(?P<label>a)', name_key='id')

"""Data sets of video: tensorflow-datasets' own format, folders of files and of frames, moving MNIST."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vq_jax.data import DataConfig, eval_batches, open_dataset, train_batches
from vq_jax.errors import UserError


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()


class OddVideos(tfds.core.GeneratorBasedBuilder):
    """Ten videos of five frames, each full of ten times its number and that of the frame; one is damaged."""

    VERSION = tfds.core.Version('1.0.0')
    url_infos = {}  # noqa: RUF012

    def _info(self):
        frame = tfds.features.Image(shape=(6, 8, 3), encoding_format='png')
        features = {'clip': tfds.features.Sequence(frame, length=5), 'words': tfds.features.Text()}
        features |= {'label': tfds.features.ClassLabel(names=['a', 'b'])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        for i in range(10):
            frames = [encoded(np.full((6, 8, 3), 10 * i + t, np.uint8)) for t in range(5)]
            if i == 5:
                frames[2] = frames[2][:30]
            yield i, {'clip': [io.BytesIO(frame) for frame in frames], 'words': 'a clip', 'label': i % 2}


@pytest.fixture(scope='module', params=['Sequence', 'Video'])
def odd_dir(request, tmp_path_factory):
    """Written as a sequence of images, and as a feature of video, whose records are the same."""
    folder = tmp_path_factory.mktemp(request.param)
    OddVideos(data_dir=str(folder), file_format='array_record').download_and_prepare()
    if request.param == 'Video':
        path = folder / 'odd_videos' / '1.0.0' / 'features.json'
        content = json.loads(path.read_text())
        content['featuresDict']['features']['clip'] = {
            'pythonClassName': 'tensorflow_datasets.core.features.video_feature.Video',
            'video': {
                'shape': {'dimensions': ['5', '6', '8', '3']},
                'dtype': 'uint8',
                'encodingFormat': 'png',
            },
        }
        path.write_text(json.dumps(content))
    return str(folder)


def odd(folder, split='train', **options):
    options = {'video_key': 'clip', **options}
    return open_dataset(DataConfig(name='odd_videos', data_dir=folder, **options), split)


def test_video_of_tensorflow_datasets(odd_dir):
    data = odd(odd_dir, max_undecodable=0.1)
    assert str(data.spec) == 'video of 5x6x8x3' and data.spec.rate is None and data.class_names == ('a', 'b')
    (batch,) = eval_batches(data, batch_size=10)
    assert batch['x'].shape == (9, 5, 6, 8, 3)
    numbers = batch['x'][:, 0, 0, 0, 0] // 10
    assert sorted(numbers) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    np.testing.assert_array_equal(batch['label'], numbers % 2)
    np.testing.assert_array_equal(batch['x'][:, :, 1, 2, 1], 10 * numbers[:, None] + np.arange(5))
    with pytest.raises(UserError, match=r'1 video of 10 in odd_videos \(train\) cannot be decoded'):
        list(eval_batches(odd(odd_dir, max_undecodable=0.0), batch_size=10))
    with pytest.raises(
        UserError, match=r"no video under the name 'video': set config\.data\.video_key to one of 'clip'"
    ):
        odd(odd_dir, video_key='video')


def taken(folder, start=0, **reading):
    """Clips of training from a batch on, as their values."""
    data = odd(folder, 'train[:5]', frames=2, frame_stride=2, random_crop=True, **reading)
    batches = train_batches(data, batch_size=4, seed=0, start=start)
    found = [next(batches)['x'][..., 0, 0, 0].tolist() for _ in range(start, 12)]
    batches.close()
    return found


@pytest.mark.slow
def test_worker_processes_make_the_same_clips(odd_dir):
    """They open no feature of video, which would need TensorFlow."""
    assert taken(odd_dir, workers=1) == taken(odd_dir)


def test_clips_are_stretches_of_videos(odd_dir):
    """Evaluation sees the middle; training begins anywhere, in a way that only seed and number decide."""
    middle = odd(odd_dir, 'train[:5]', frames=2, frame_stride=2, random_crop=True)
    (batch,) = eval_batches(middle, batch_size=5)
    values = batch['x'][..., 0, 0, 0]
    np.testing.assert_array_equal(values, values[:, :1] // 10 * 10 + [1, 3])
    whole = taken(odd_dir)
    firsts, lasts = np.array(whole).reshape(-1, 2).T % 10
    assert set(firsts) == {0, 1, 2} and (lasts == firsts + 2).all()
    assert taken(odd_dir, start=7, cache_gib=0) == whole[7:]
    all_frames = odd(odd_dir, 'train[:5]', frames=5, random_crop=True)
    assert not all_frames.transform.seeks  # of which there is but one, that can be kept
    assert odd(odd_dir, 'train[:5]', frame_stride=2).spec.shape[0] == 3
    with pytest.raises(UserError, match=r'\d videos? of 5 in .* cannot be decoded'):
        next(train_batches(odd(odd_dir, 'train[:5]', frames=4, frame_stride=2), batch_size=1, seed=0))


def test_frames_of_a_clip_are_cropped_and_flipped_alike(tmp_path):
    """Against the same crop of the whole video, whose pixels say where they are."""
    pixels = np.arange(8 * 12, dtype=np.uint8).reshape(8, 12)
    for i in range(3):
        folder = tmp_path / f'{i}'
        folder.mkdir()
        for t in range(4):
            Image.fromarray(pixels + 100 * (t % 2)).save(folder / f'{t}.png')
    config = DataConfig(
        name=f'folder:{tmp_path}', frames=4, channels=1, image_size=8, random_crop=True, flip=True
    )
    seen = set()
    batches = train_batches(open_dataset(config, 'all'), batch_size=8, seed=1)
    for x in np.concatenate([next(batches)['x'] for _ in range(15)])[..., 0]:
        at, mirrored = divmod(int(x[0].min()), 12)[1], x[0, 0, 0] > x[0, 0, 1]
        expected = pixels[:, at : at + 8][:, :: -1 if mirrored else 1]
        np.testing.assert_array_equal(x, expected + 100 * (np.arange(4) % 2)[:, None, None])
        seen.add((at, bool(mirrored)))
    assert len(seen) == 5 * 2


@pytest.fixture
def sprites_dir():
    folder = os.environ.get('TFDS_DATA_DIR')
    if not folder or not Path(folder, 'sprites').is_dir():
        pytest.skip('TFDS_DATA_DIR does not point to a folder with a prepared sprites')
    return folder


def test_sprites(sprites_dir):
    """Against tensorflow-datasets' own decoding; the class is whatever label the config names."""
    ours = open_dataset(DataConfig(name='sprites', data_dir=sprites_dir), 'test[:6]')
    assert str(ours.spec) == 'video of 8x64x64x3' and ours.class_names == ('spellcast', 'walk', 'slash')
    (batch,) = eval_batches(ours, batch_size=6)
    folder = next(Path(sprites_dir, 'sprites').iterdir())
    theirs = tfds.builder_from_directory(str(folder)).as_data_source('test')
    for row in range(6):
        example = theirs[row]
        np.testing.assert_array_equal(batch['x'][row], np.stack(example['video']))
        assert batch['label'][row] == example['label']
    turned = open_dataset(DataConfig(name='sprites', data_dir=sprites_dir, label_key='direction'), 'test[:6]')
    assert turned.class_names == ('back', 'left', 'front', 'right')
    np.testing.assert_array_equal(
        next(eval_batches(turned, batch_size=6))['label'], [theirs[row]['direction'] for row in range(6)]
    )

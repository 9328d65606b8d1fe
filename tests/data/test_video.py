"""Data sets of video: tensorflow-datasets' own format, folders of files and of frames, moving MNIST."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.clips import animated, coded, decoded
from tests.clips import frames as frames_of
from tests.prepared import prepared
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
def folder(tmp_path):
    """Six videos of two classes, all grey: the frames of one are its number and up, in steps of 20."""
    root = tmp_path / 'set'
    for i in range(6):
        values = (i + 20 * np.arange(5 + i)).astype(np.uint8)
        images = np.broadcast_to(values[:, None, None], (5 + i, 8, 8))
        (root / 'ab'[i % 2]).mkdir(parents=True, exist_ok=True)
        if i < 4:
            form = ('gif', 'apng')[i // 2]
            content = animated(images, 'png' if form == 'apng' else form, 40 if i < 2 else 100)
            (root / 'ab'[i % 2] / f'{i}.{form}').write_bytes(content)
        else:
            (root / 'ab'[i % 2] / f'clip {i}').mkdir()
            for t, image in enumerate(images):
                Image.fromarray(image).save(root / 'ab'[i % 2] / f'clip {i}' / f'frame{t}.png')
    return root


def opened(folder, split='all', **options):
    return open_dataset(DataConfig(name=f'folder:{folder}', **{'frames': 4, 'channels': 1, **options}), split)


def test_a_folder_of_videos(folder):
    data = opened(folder)
    assert str(data.spec) == 'video of 4x8x8x1' and data.class_names == ('a', 'b') and len(data) == 6
    (batch,) = eval_batches(data, batch_size=6)
    values = batch['x'][..., 0, 0, 0].astype(int)
    numbers = values[:, 0] % 20
    assert sorted(numbers) == list(range(6))
    np.testing.assert_array_equal(batch['label'], numbers % 2)
    # The middle: as many frames are left out before it as after it, or one less.
    np.testing.assert_array_equal(
        values, numbers[:, None] + 20 * ((1 + numbers) // 2)[:, None] + 20 * np.arange(4)
    )
    assert len(opened(folder, 'train')) + len(opened(folder, 'test')) == 6
    images = opened(folder, frames=None, image_size=8, name_pattern='(?P<label>[ab])/')
    assert (
        images.spec.kind == 'image' and len(images) == 9 + 10 + 2
    )  # frames by themselves, and of GIF the first


def test_videos_of_several_rates_are_seen_at_one(folder):
    shutil.rmtree(folder / 'a' / 'clip 4')
    shutil.rmtree(folder / 'b' / 'clip 5')
    data = opened(folder, frames=2, frame_rate=12.5)
    assert data.spec.rate == 12.5 and opened(folder, frames=1, frame_stride=2, frame_rate=5).spec.rate == 2.5
    (batch,) = eval_batches(data, batch_size=4)
    values = batch['x'][..., 0, 0, 0].astype(int)
    # From frame to frame it is 0.08 s: two frames of 0.04 s, or not quite one of 0.1 s.
    for number, steps in zip(values[:, 0] % 20, np.diff(values)[:, 0] // 20, strict=True):
        assert steps == 2 if number < 2 else steps in (0, 1)


def test_videos_that_cannot_be_decoded_are_named(folder, caplog):
    a = folder / 'a'
    (a / 'text.mp4').write_text('no video')
    (a / 'cut.apng').write_bytes((a / '2.apng').read_bytes()[:90])
    (a / 'still.gif').write_bytes(animated(np.zeros((1, 8, 8), np.uint8)))
    (a / 'of two sizes').mkdir()
    for t in range(4):
        Image.new('L', (8, 8 + t // 2)).save(a / 'of two sizes' / f'{t}.png')
    (a / 'damaged').mkdir()
    for t in range(4):
        (a / 'damaged' / f'{t}.png').write_bytes(b'\x89PNG but no more')
    os.mkfifo(a / 'pipe.webm')
    data = opened(folder, max_undecodable=0.6, image_size=8)
    assert len(data) == 12
    assert sum(batch['mask'].sum() for batch in eval_batches(data, batch_size=4)) == 6
    for name, reason in (
        ('text.mp4', 'it is none of MP4'),
        ('cut.apng', 'Error'),
        ('still.gif', 'it has 1 frame, and a clip of 4 takes 4'),
        ('of two sizes', 'the size of its frames changes from 8x8 to 8x9'),
        ('damaged', 'not an image'),
        ('pipe.webm', 'not a regular file'),
    ):
        assert any(str(a / name) in line and reason in line for line in caplog.messages), name


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (
            {'frames': None, 'frame_rate': 5},
            r'config\.data\.frame_rate is 5, which is for video, and .* holds image',
        ),
        ({'frame_rate': 5}, r'clip \d does not say its rate: leave config\.data\.frame_rate out'),
        ({'num_samples': 4}, r'config\.data\.num_samples is 4, which is for audio, and .* holds video'),
        ({'frames': 0}, 'frames is 0'),
        ({'frame_stride': 0}, 'frame_stride is 0'),
        ({'frame_rate': float('nan')}, 'frame_rate is nan: use more than 0 and up to 1000'),
        ({'channels': 2}, r'config\.data\.channels is 2, which is for sound'),
    ],
)
def test_keys_that_do_not_fit(folder, options, words):
    with pytest.raises(UserError, match=words):
        list(eval_batches(opened(folder, **options), batch_size=4))


def test_videos_of_other_sizes_or_lengths_need_a_key(folder):
    frames = np.zeros((5, 8, 9), np.uint8)
    (folder / 'a' / 'wide.gif').write_bytes(animated(frames + np.arange(5, dtype=np.uint8)[:, None, None]))
    with pytest.raises(
        UserError, match=r'is \dx8 pixels, not \dx8 as .* config\.data\.image_size to bring all videos to one'
    ):
        list(eval_batches(opened(folder), batch_size=4))
    coded_videos = folder.parent / 'coded'
    coded_videos.mkdir()
    for i in (4, 5):
        (coded_videos / f'{i}.mp4').write_bytes(coded(frames_of(i)))
    with pytest.raises(UserError, match=r'has \d frames, not \d as the others: set config\.data\.frames'):
        list(eval_batches(opened(coded_videos, frames=None), batch_size=4))
    assert opened(coded_videos, frames=None, channels=None).spec.shape in ((4, 32, 48, 3), (5, 32, 48, 3))


def test_a_folder_of_coded_videos(tmp_path):
    """Against all frames decoded one after the other; of a random clip, as many as are asked for."""
    contents = {'0.mp4': coded(frames_of(10)), '1.mp4': coded(frames_of(11)[::-1])}
    contents['2.webm'] = coded(frames_of(12), 'libvpx-vp9', 'webm', deadline='realtime')
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'poster.png').write_bytes(encoded(np.zeros((4, 4, 3), np.uint8)))
    data = opened(tmp_path, frames=3, frame_stride=2, channels=3, random_crop=True, cache_gib=0)
    assert len(data) == 3 and data.class_names == ()
    whole = {name: decoded(content) for name, content in contents.items()}
    (batch,) = eval_batches(data, batch_size=3)
    for row, x in enumerate(batch['x']):
        name = Path(data._source.describe(row)).name
        first = (len(whole[name]) - 5) // 2
        np.testing.assert_array_equal(x, whole[name][first : first + 5 : 2])
    batches, starts = train_batches(data, batch_size=6, seed=0), set()
    for x in np.concatenate([next(batches)['x'] for _ in range(8)]):
        found = [
            (name, start)
            for name, video in whole.items()
            for start in range(len(video) - 4)
            if np.array_equal(video[start : start + 5 : 2], x)
        ]
        assert len(found) == 1
        starts |= {*found}
    assert len(starts) > 12


@pytest.fixture
def sprites_dir():
    return prepared('sprites')


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


def test_images_beside_folders_of_frames_are_no_video(tmp_path, caplog):
    """Such as thumbnails, which would otherwise be videos of one frame, in no class."""
    for name in ('train/a/0/0.png', 'train/a/0/1.png', 'train/b/1/0.png', 'train/a/thumb.png', 'thumb.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(np.zeros((4, 4, 3), np.uint8)))
    data = open_dataset(DataConfig(name=f'folder:{tmp_path}', frames=1), 'train')
    assert len(data) == 2 and data.class_names == ('a', 'b')
    assert 'images that lie beside folders of videos are left out' in caplog.text


def test_frames_need_a_folder_of_their_own_below_that_of_a_split(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / '0.png').write_bytes(encoded(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(
        UserError, match=r'have no video in them: .* frames of a video in a folder of its own'
    ):
        open_dataset(DataConfig(name=f'folder:{tmp_path}', frames=1), 'train')

import os
import shutil
import socket
import subprocess

import numpy as np
import pytest
from PIL import Image

from vq_jax.data import DataConfig, eval_batches, open_dataset
from vq_jax.data.sources.folder import FolderSource
from vq_jax.errors import UserError


def names(root, split):
    source = FolderSource(str(root), split)
    return {source.describe(i).removeprefix(f'{root}/') for i in range(len(source))}


def labels(root, split='train'):
    source = FolderSource(str(root), split)
    return {
        source.describe(i).removeprefix(f'{root}/'): source.class_names[source.read([i])[0][1]]
        for i in range(len(source))
    }


def test_hashed_split(write_images):
    root = write_images(400)
    train, test = names(root, 'train'), names(root, 'test')
    assert not train & test
    assert len(train | test) == 400
    assert 20 <= len(test) <= 60  # 40 expected, standard deviation 6


def test_hashed_split_is_stable_when_images_are_added(write_images):
    root = write_images(200)
    train, test = names(root, 'train'), names(root, 'test')
    write_images(255)
    assert train < names(root, 'train')
    assert test < names(root, 'test')


def test_hashed_split_does_not_depend_on_where_the_folder_is(write_images):
    assert names(write_images(50, 'a'), 'test') == names(write_images(50, 'b'), 'test')


def test_hash_is_fixed_for_ever(write_images):
    """Found by `printf %s 007.png | sha256sum`: the first eight bytes over 2**64, sorted."""
    import hashlib

    root = write_images(40)
    expected = {
        f'{i:03}.png'
        for i in range(40)
        if hashlib.sha256(f'{i:03}.png'.encode()).hexdigest() < '1999999999999999'
    }
    assert expected
    assert names(root, 'test') == expected


@pytest.mark.parametrize(('number', 'tests'), [(1, 1), (2, 1), (3, 1)])
def test_tiny_folder_has_both_splits(write_images, number, tests):
    root = write_images(number)
    assert len(names(root, 'test')) == tests
    if number == 1:
        words = r"has no images: it has .*test \(1 image\); set config.data.train_split to .* 'all'"
        with pytest.raises(UserError, match=words):
            open_dataset(DataConfig(name=f'folder:{root}'), 'train')
        assert names(root, 'all') == names(root, 'test')
    else:
        assert len(names(root, 'train')) == number - tests


def test_split_folders_and_classes(write_images):
    for folder in 'train/dog', 'train/cat', 'test/cat', 'val/dog/deeper', 'elsewhere':
        write_images(3, f'set/{folder}')
    root = write_images(0, 'set')
    assert set(labels(root).values()) == {'cat', 'dog'}
    assert labels(root)['train/dog/001.png'] == 'dog'
    assert labels(root, 'val')['val/dog/deeper/001.png'] == 'dog'
    assert labels(root, 'test')['test/cat/001.png'] == 'cat'
    assert FolderSource(str(root), 'test').class_names == ('cat', 'dog')
    assert names(root, 'validation') == names(root, 'dev') == names(root, 'val')
    assert names(root, 'valid[:1]+test') == names(root, 'val[:1]') | names(root, 'test')
    shutil.rmtree(root / 'val')
    there = r'train \(6 images\), test \(3 images\); set the split to'
    with pytest.raises(UserError, match=f"'validation' .* {there}"):
        FolderSource(str(root), 'validation')


def test_split_folders_by_their_other_names(write_images):
    for folder, number in ('Training', 4), ('VALID', 3), ('testing', 2):
        write_images(number, f'set/{folder}')
    root = write_images(0, 'set')
    counts = {split: len(names(root, split)) for split in ('train', 'validation', 'val', 'test', 'all')}
    assert counts == {'train': 4, 'validation': 3, 'val': 3, 'test': 2, 'all': 9}
    with pytest.raises(UserError, match=r'it has training \(4 images\).*set config.data.eval_split to one'):
        open_dataset(DataConfig(name=f'folder:{root}', eval_split='extra'), 'extra')


def test_classes_of_a_hashed_split(write_images):
    for folder in 'b', 'a', 'c/x', 'c/y':
        write_images(10, f'set/{folder}')
    root = write_images(0, 'set')
    data = open_dataset(DataConfig(name=f'folder:{root}'), 'train')
    assert data.class_names == ('a', 'b', 'c')
    assert data.num_classes == 3
    found = labels(root) | labels(root, 'test')
    assert len(found) == 40
    assert all(path.startswith(name + '/') for path, name in found.items())


def test_no_classes_when_images_lie_directly(write_images):
    root = write_images(20)
    write_images(5, 'images/more')
    data = open_dataset(DataConfig(name=f'folder:{root}'), 'train')
    assert (data.num_classes, data.class_names) == (0, ())
    assert all(not batch['label'].any() for batch in eval_batches(data, batch_size=8))


def test_slices_are_disjoint_and_mixed(write_images):
    for name in 'a', 'b':
        write_images(50, f'set/train/{name}')
    root = write_images(0, 'set')
    first, last = names(root, 'train[:80%]'), names(root, 'train[80%:]')
    assert (len(first), len(last)) == (80, 20)
    assert not first & last
    assert {name.split('/')[1] for name in last} == {'a', 'b'}


def test_any_tree_and_odd_files(write_images, tmp_path):
    root = write_images(2, 'set/ä b/deep er')
    (root / 'UPPER.JPG').write_bytes((root / '000.png').read_bytes())
    (root / '.hidden.png').write_bytes(b'')
    (root / 'notes.txt').write_text('no image')
    (root / 'loop').symlink_to(tmp_path / 'set', target_is_directory=True)
    source = names(tmp_path / 'set', 'train+test')
    assert source == {f'ä b/deep er/{name}' for name in ('000.png', '001.png', 'UPPER.JPG')}


def test_orientation_is_respected(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / 'train').mkdir()
    Image.new('RGB', (8, 4)).save(tmp_path / 'train' / 'a.jpg', exif=exif)
    data = open_dataset(DataConfig(name=f'folder:{tmp_path}'), 'train')
    assert data.spec.shape == (8, 4, 3)


def test_channels(write_images):
    root = write_images(4, 'set/train').parent
    for channels, expected in (None, 3), (3, 3), (1, 1):
        data = open_dataset(DataConfig(name=f'folder:{root}', channels=channels), 'train')
        (batch,) = eval_batches(data, batch_size=4)
        assert batch['x'].shape == (4, 6, 6, expected)
        assert sorted(np.unique(batch['x'])) == [0, 1, 2, 3]


def test_errors(tmp_path, write_images):
    with pytest.raises(UserError, match=r"The folder '.*nowhere' is not there"):
        open_dataset(DataConfig(name=f'folder:{tmp_path}/nowhere'), 'train')
    for name in ('folder:', 'codes:'):
        with pytest.raises(UserError, match=f'names no folder: give --config.data.name={name}PATH'):
            DataConfig(name=name)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty' / 'x.txt').write_text('x')
    with pytest.raises(UserError, match=r'No images, videos or recordings .*\.jpeg'):
        open_dataset(DataConfig(name=f'folder:{tmp_path}/empty'), 'train')
    root = write_images(30)
    for split in 'validation', 'train[', '', 'train[90:200]', 'all[:8]':
        with pytest.raises(UserError, match='cannot be read: it has train'):
            open_dataset(DataConfig(name=f'folder:{root}'), split)


def test_file_that_vanishes(write_images):
    root = write_images(5, 'set/train').parent
    data = open_dataset(DataConfig(name=f'folder:{root}', cache_gib=0), 'train')
    (root / 'train' / '003.png').unlink()
    (batch,) = eval_batches(data, batch_size=5)
    assert sorted(batch['x'][batch['mask']][:, 0, 0, 0]) == [0, 1, 2, 4]


def test_only_regular_files_are_read(write_images, monkeypatch):
    """No pipe without a writer, device without an end, link to itself, socket, or far too large file."""
    root = write_images(20, 'set/train').parent
    folder = root / 'train'
    os.mkfifo(folder / 'pipe.jpg')
    (folder / 'zero.jpg').symlink_to('/dev/zero')
    (folder / 'self.jpg').symlink_to('self.jpg')
    with open(folder / 'sparse.jpg', 'wb') as file:
        file.truncate(2**40)
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(folder)  # because the path of a socket has at most 107 bytes
        bound.bind('socket.jpg')
    data = open_dataset(DataConfig(name=f'folder:{root}', image_size=6, max_undecodable=0.3), 'train')
    assert len(data) == 25
    masks = [batch['mask'] for batch in eval_batches(data, batch_size=5)]
    assert np.sum(masks) == 20
    reasons = data.faults(range(25)).values()
    assert sum('not a regular file' in reason for reason in reasons) == 2
    assert len(reasons) == 5
    data = open_dataset(DataConfig(name=f'folder:{root}', image_size=6, max_undecodable=0.1), 'train')
    with pytest.raises(UserError, match=r'cannot be decoded, for example .*jpg'):
        list(eval_batches(data, batch_size=5))


@pytest.fixture
def deep(write_images):
    """A folder of three images, and a folder far below it."""
    root = write_images(3, 'set/train')
    folder = root
    for _ in range(1200):
        folder = folder / 'd'
        folder.mkdir()
    yield root, folder
    # What pytest removes folders with goes down one call for each, and would fail.
    subprocess.run(['rm', '-r', root / 'd'], check=True)


def test_folders_of_any_depth_and_links_in_circles(deep):
    root, folder = deep
    shutil.copy(root / '000.png', folder)
    (folder / 'up').symlink_to(root, target_is_directory=True)
    (root / 'self').symlink_to('self')
    assert len(names(root.parent, 'train')) == 4


def test_a_folder_that_cannot_be_read(write_images, monkeypatch):
    root = write_images(3, 'set/train/open')
    closed = root.parent / 'closed'
    closed.mkdir()
    scan = os.scandir

    def refuse(path):  # as for anybody but root
        if str(path) == str(closed):
            raise PermissionError(13, 'Permission denied')
        return scan(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(
        UserError, match=f"^The folder '{closed}' cannot be read .Permission denied.: make it"
    ):
        names(root.parents[1], 'train')


def test_a_name_that_is_no_text(write_images):
    root = write_images(5, 'set/train').parent
    os.rename(os.fsencode(root / 'train' / '003.png'), os.fsencode(root / 'train') + b'/\xff.png')
    assert len(FolderSource(str(root), 'train')) == 5

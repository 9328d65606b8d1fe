"""Prepared data sets in a bucket: what is read is copied, once, whole, and as it is in the bucket."""

import errno
import json
import os
import pickle
import shutil
import threading

import numpy as np
import pytest

from tests.in_shards import shard, write
from vq_jax.buckets import copy_of
from vq_jax.data import DataConfig, eval_batches, open_dataset
from vq_jax.data.sources import builtin
from vq_jax.data.text_vectors import TextVectorFiles, write_text_vectors
from vq_jax.errors import UserError
from vq_jax.prepare import prepare
from vq_jax.spec import TextVectors

ADDRESS = 'gs://bucket/tfds'
VERSION = f'{ADDRESS}/in_shards/1.0.0'
ABOUT = {'dataset_info.json', 'features.json', 'label.labels.txt'}


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tfds')
    write(folder)
    return folder


@pytest.fixture
def uploaded(bucket, prepared):
    """The bucket, with the data set."""
    for path in prepared.rglob('*'):
        if path.is_file():
            bucket.pipe_file(f'/bucket/tfds/{path.relative_to(prepared).as_posix()}', path.read_bytes())
    return bucket


def opened(split='train', data_dir=ADDRESS, **options):
    return open_dataset(DataConfig(name='in_shards', data_dir=str(data_dir), **options), split)


def copied():
    """The names of all files that are here of the version, but for the lock."""
    return {path.name for path in copy_of(VERSION).iterdir()} - {'.lock'}


def change(bucket, name, position=-1):
    content = bytearray(bucket.cat_file(f'/bucket/tfds/in_shards/1.0.0/{name}'))
    content[position] ^= 1
    bucket.pipe_file(f'/bucket/tfds/in_shards/1.0.0/{name}', bytes(content))


def batches(data):
    return next(eval_batches(data, batch_size=6))


def test_it_is_as_on_a_disk_and_copied_once(uploaded, prepared, monkeypatch, caplog):
    there, here = opened(), opened(data_dir=prepared)
    np.testing.assert_equal(batches(there), batches(here))
    assert repr(there) == repr(here) and there.class_names == ('a', 'b')
    assert copied() == {*ABOUT, *map(shard, range(3))}  # and nothing of the other split
    size = sum((copy_of(VERSION) / shard(i)).stat().st_size for i in range(3))
    assert f'copying 3 files of {VERSION}, {size:,} bytes, to ' in caplog.text
    monkeypatch.setattr(uploaded, 'get_file', None)  # is called no more
    np.testing.assert_equal(batches(opened()), batches(here))


def test_the_folder_may_be_that_of_the_environment(uploaded, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', ADDRESS)
    config = DataConfig(name='in_shards:1.0.0')
    assert len(open_dataset(config, 'test')) == 3
    assert prepare('in_shards') == f'in_shards is prepared already, in {VERSION}'


def test_of_a_part_of_a_split_only_its_shards_are_copied(uploaded):
    assert len(opened('train[:2]')) == 2
    assert copied() == {*ABOUT, shard(0)}


def test_batches_ask_nothing_of_the_bucket(uploaded, monkeypatch):
    """Nor do worker processes, to which a data set is pickled."""
    data = opened(cache_gib=0)
    monkeypatch.setattr('vq_jax.buckets._client', None)
    for read in data, pickle.loads(pickle.dumps(data)):
        assert sorted(batches(read)['x'][:, 0, 0, 0]) == list(range(60, 66))


def test_what_is_not_there(uploaded):
    with pytest.raises(UserError) as caught:
        open_dataset(DataConfig(name='in_shard', data_dir=ADDRESS), 'train')
    assert str(caught.value) == (
        f"Data set 'in_shard' is not prepared: nothing was found in '{ADDRESS}/in_shard'. Did you mean "
        "'in_shards'? Prepare it with `python -m vq_jax.prepare in_shard --data_dir FOLDER` and copy it from "
        f'there to {ADDRESS}, or set config.data.data_dir or TFDS_DATA_DIR to the folder that has it.'
    )
    with pytest.raises(UserError, match=r'There is no data set at all in gs://none/tfds; check the address'):
        opened(data_dir='gs://none/tfds')
    with pytest.raises(UserError, match='is no address of a folder in a bucket'):
        opened(data_dir='gs://bucket/../tfds')
    uploaded.rm_file(f'/bucket/tfds/in_shards/1.0.0/{shard(1)}')
    with pytest.raises(UserError, match=rf'^{VERSION}/{shard(1)} is not in the bucket; copy there'):
        opened()
    uploaded.rm('/bucket/tfds/in_shards', recursive=True)
    with pytest.raises(UserError, match=r"^Data set 'in_shards' is not prepared"):  # though there are copies
        opened()


def test_a_disk_that_is_too_small_or_full(uploaded, monkeypatch):
    def get_file(name, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    usage = shutil.disk_usage('/')
    with monkeypatch.context() as context:
        context.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=1000))
        with pytest.raises(UserError, match='bytes, are needed, and there is room for 1,000 in'):
            opened()
    monkeypatch.setattr(uploaded, 'get_file', get_file)
    with pytest.raises(UserError, match=rf'^Cannot copy {VERSION}/.* \(No space left on device\); make room'):
        opened()
    assert copied() == ABOUT


def test_what_changed_in_the_bucket_is_copied_again(uploaded):
    opened()
    other = uploaded.cat_file(f'/bucket/tfds/in_shards/1.0.0/{shard(1)}')
    uploaded.pipe_file(f'/bucket/tfds/in_shards/1.0.0/{shard(0)}', other)
    assert sorted(batches(opened())['x'][:, 0, 0, 0]) != list(range(60, 66))


@pytest.mark.parametrize('how', ['changed', 'deleted', 'cut off'])
def test_what_changes_while_it_is_copied(uploaded, monkeypatch, how):
    get_file = uploaded.get_file

    def interfere(name, path):
        get_file(name, path)
        if name.endswith(shard(1)):
            if how == 'changed':
                change(uploaded, shard(1))
            elif how == 'deleted':
                uploaded.rm_file(f'/bucket/tfds/in_shards/1.0.0/{shard(1)}')
            else:
                os.truncate(path, 100)

    monkeypatch.setattr(uploaded, 'get_file', interfere)
    with pytest.raises(UserError, match=rf'^{VERSION}/{shard(1)} changed while it was copied, or did not'):
        opened()
    if how == 'cut off':
        monkeypatch.setattr(uploaded, 'get_file', get_file)
        assert sorted(batches(opened())['x'][:, 0, 0, 0]) == list(range(60, 66))


def test_damage_there_is_told_and_damage_here_mended(uploaded):
    opened()
    path = copy_of(VERSION) / shard(2)
    status = path.stat()
    path.write_bytes(bytes(status.st_size))  # as a power cut may leave it
    os.utime(path, (status.st_atime, status.st_mtime))
    assert sorted(batches(opened())['x'][:, 0, 0, 0]) == list(range(60, 66))
    uploaded.pipe_file(f'/bucket/tfds/in_shards/1.0.0/{shard(2)}', bytes(status.st_size))
    with pytest.raises(
        UserError, match=rf"^The files of in_shards in '{VERSION}' cannot be opened \({VERSION}/{shard(2)} is"
    ):
        opened()


def test_what_a_kill_left_is_taken_for_nothing(uploaded, monkeypatch):
    """The temporary file stays, of the right size; the file itself has never been there."""
    replace = os.replace

    def killed(source, target):
        if 'array_record' in str(target):
            raise SystemExit
        replace(source, target)

    with monkeypatch.context() as context:
        context.setattr(os, 'replace', killed)
        context.setattr('pathlib.Path.unlink', lambda *_, **__: None)
        with pytest.raises(SystemExit):
            opened('test[:1]')
    (left,) = copied() - ABOUT
    assert left.startswith(f'.{shard(0, "test")}.')
    assert len(opened('test[:1]')) == 1
    assert copied() == {*ABOUT, shard(0, 'test')}


def test_one_of_two_processes_copies(uploaded, monkeypatch):
    """Here of two threads, whose locks are as those of processes."""
    begun, get_file, names, lengths = threading.Event(), uploaded.get_file, [], []

    def slowly(name, path):
        if 'array_record' in name:
            names.append(name)
            begun.set()
            other.join(1.5)  # which waits meanwhile
        get_file(name, path)

    monkeypatch.setattr(uploaded, 'get_file', slowly)
    other = threading.Thread(target=lambda: begun.wait() and lengths.append(len(opened('test'))))
    other.start()
    assert len(opened('test')) == 3
    other.join()
    assert lengths == [3] and len(names) == len(set(names))


def test_a_stranger_names_files_of_the_user(uploaded, tmp_path):
    precious = tmp_path / 'precious'
    precious.write_text('precious')
    opened()
    name = '/bucket/tfds/in_shards/1.0.0/dataset_info.json'
    info = json.loads(uploaded.cat_file(name))
    for split in info['splits']:
        split['filepathTemplate'] = os.path.relpath(precious, copy_of(VERSION))
    uploaded.pipe_file(name, json.dumps(info).encode())
    with pytest.raises(UserError, match='outside of it'):
        opened()
    assert precious.read_text() == 'precious'


def test_data_sets_are_prepared_in_folders(bucket):
    with pytest.raises(UserError, match=rf'^mnist is not in {ADDRESS} yet, .*, and copy it'):
        prepare('mnist', ADDRESS)
    for call in (
        lambda: prepare('digits', ADDRESS),
        lambda: open_dataset(DataConfig(data_dir=ADDRESS), 'train', prepare=True),
        lambda: builtin.home(ADDRESS),
    ):
        with pytest.raises(UserError, match=rf'^config.data.data_dir is {ADDRESS}, and built-in'):
            call()


def test_vectors_of_texts(bucket, tmp_path):
    made = TextVectors(length=2, width=3, encoder='x')
    tokens, vectors = np.array([[1, 2], [3, -1]], np.int32), [np.ones((2, 3)), np.full((1, 3), 2.0)]
    write_text_vectors(tmp_path / 'vectors', tokens, [2, 1], vectors, made)
    for path in (tmp_path / 'vectors').iterdir():
        bucket.pipe_file(f'/bucket/vectors/{path.name}', path.read_bytes())
    there, here = TextVectorFiles('gs://bucket/vectors'), TextVectorFiles(tmp_path / 'vectors')
    good = np.ones(2, bool)
    np.testing.assert_equal(there.find(tokens, good), here.find(tokens, good))
    with pytest.raises(UserError, match=r'^a text of the data has no vectors in gs://bucket/vectors; '):
        there.find(np.array([[4]], np.int32), good[:1])
    with pytest.raises(UserError, match=r'^gs://bucket/none/.* is not in the bucket, and neither'):
        TextVectorFiles('gs://bucket/none')

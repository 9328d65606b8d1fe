"""Runs and codes in a bucket are opened as those on a disk are, and what is damaged there is noticed."""

import shutil

import fsspec
import jax
import numpy as np
import pytest

import vq_jax
from tests.runs import arrays
from tests.test_sealed import small_config
from vq_jax.buckets import BucketFolder, address_of, copy_of, is_address, place_of
from vq_jax.data import CodeDataset, DataConfig, open_dataset
from vq_jax.errors import UserError
from vq_jax.evaluators.sources import open_features
from vq_jax.reporting import read_runs
from vq_jax.tasks import default_config
from vq_jax.tasks.codes import write_codes
from vq_jax.train import train
from vq_jax.training import bucket_runs
from vq_jax.training.bucket_runs import local_run
from vq_jax.training.run_dir import read_data_facts


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'run'
    train(small_config(), workdir)
    return workdir


@pytest.fixture(scope='module')
def codes(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp('codes') / 'digits'
    write_codes(trained, folder, overrides={'data.train_split': 'train[:64]'})
    return folder


def upload(files, folder, name):
    for path in folder.rglob('*'):
        if path.is_file():
            files.pipe_file(f'/{name}/{path.relative_to(folder).as_posix()}', path.read_bytes())


def array_file(files, step):
    """The largest file of a checkpoint."""
    names = files.find(f'/bucket/run/checkpoints/{step}/arrays')
    return max(names, key=files.size)


def change(files, name):
    content = bytearray(files.cat_file(name))
    content[len(content) // 2] ^= 1
    files.pipe_file(name, bytes(content))


def test_a_run_opens_as_on_disk(bucket, trained):
    upload(bucket, trained, 'bucket/run')
    jax.tree.map(np.testing.assert_array_equal, arrays('gs://bucket/run'), arrays(trained))
    run = vq_jax.load('gs://bucket/run/', 2)
    assert run.step == 2
    assert run.name == 'run'
    assert run._restored.identity()['workdir'] == 'gs://bucket/run'
    with pytest.raises(UserError, match=r'^gs://bucket/run/checkpoints has no checkpoint of step 3; '):
        vq_jax.load('gs://bucket/run', 3)


def test_what_is_there_is_not_copied_again_and_what_is_new_is(bucket, trained, monkeypatch):
    upload(bucket, trained, 'bucket/run')
    vq_jax.load('gs://bucket/run')
    copied = []
    monkeypatch.setattr(bucket, 'get_file', lambda name, path: copied.append(name))
    vq_jax.load('gs://bucket/run')
    assert not copied


def test_damage_in_the_bucket_is_named_and_an_older_checkpoint_taken(bucket, trained, caplog):
    upload(bucket, trained, 'bucket/run')
    change(bucket, array_file(bucket, 4))
    assert vq_jax.load('gs://bucket/run').step == 2
    with pytest.raises(UserError, match=r'^The checkpoint gs://bucket/run/checkpoints/4 is damaged '):
        vq_jax.load('gs://bucket/run', 4)
    bucket.rm_file(array_file(bucket, 2))
    shutil.rmtree(copy_of('gs://bucket/run'))  # what was copied before is still as its manifest says
    with pytest.raises(UserError, match=r'^Every checkpoint in gs://bucket/run/checkpoints is damaged: 4 '):
        vq_jax.load('gs://bucket/run')


def test_damage_of_the_copy_is_mended(bucket, trained):
    upload(bucket, trained, 'bucket/run')
    vq_jax.load('gs://bucket/run')
    copy = copy_of('gs://bucket/run')
    path = max((copy / 'checkpoints/4/arrays').rglob('*'), key=lambda path: path.stat().st_size)
    path.write_bytes(b'')
    assert vq_jax.load('gs://bucket/run').step == 4


def test_a_checkpoint_is_there_when_its_manifest_is(bucket, trained):
    """While one is written, and from when on it is deleted, there is none."""
    upload(bucket, trained, 'bucket/run')
    vq_jax.load('gs://bucket/run')
    bucket.rm_file('/bucket/run/checkpoints/4/manifest.json')
    assert vq_jax.load('gs://bucket/run').step == 2
    assert not (copy_of('gs://bucket/run') / 'checkpoints/4').exists()


def test_one_that_is_pruned_while_it_is_opened_is_not_missed(bucket, trained, monkeypatch):
    upload(bucket, trained, 'bucket/run')
    copy_to = BucketFolder.copy_to

    def then_prune(self, *arguments):
        copy_to(self, *arguments)
        if bucket.exists('/bucket/run/checkpoints/4'):
            bucket.rm('/bucket/run/checkpoints/4', recursive=True)

    monkeypatch.setattr(BucketFolder, 'copy_to', then_prune)
    assert vq_jax.load('gs://bucket/run').step == 2


def test_no_name_leads_out_of_the_copy(bucket, trained):
    upload(bucket, trained, 'bucket/run')
    bucket.pipe_file('/bucket/run/checkpoints/4/../../../../evil', b'x')
    bucket.pipe_file('/bucket/run/built_on/../../config.json', b'x')
    vq_jax.load('gs://bucket/run')
    root = copy_of('gs://bucket/run').parents[2]
    assert not [
        path for path in root.rglob('*') if path.is_file() and copy_of('gs://bucket/run') not in path.parents
    ]


@pytest.mark.slow
def test_a_prior_on_a_tokenizer_and_codes_in_buckets(bucket, trained, codes, tmp_path):
    upload(bucket, trained, 'bucket/run')
    upload(bucket, codes, 'bucket/codes')
    config = default_config('prior')
    config.steps, config.batch_size = 1, 8
    config.data.name = 'codes:gs://bucket/codes'
    config.data.train_split, config.data.eval_split = 'train[:64]', 'test[:8]'
    config.tokenizer.workdir = 'gs://bucket/run'
    config.transformer.depth, config.transformer.width, config.transformer.heads = 1, 8, 1
    train(config, tmp_path / 'prior')
    assert read_data_facts(tmp_path / 'prior').built_on['tokenizer']['workdir'] == 'gs://bucket/run'
    upload(bucket, tmp_path / 'prior', 'bucket/prior')
    bucket.rm('/bucket/run', recursive=True)
    here, there = vq_jax.load(tmp_path / 'prior'), vq_jax.load('gs://bucket/prior')
    np.testing.assert_array_equal(here.sample(2), there.sample(2))


def test_codes_that_are_damaged(bucket, codes):
    upload(bucket, codes, 'bucket/codes')
    config = DataConfig(name='codes:gs://bucket/codes')
    here = CodeDataset(DataConfig(name=f'codes:{codes}'), 'test[:8]')
    there = open_dataset(config, 'test[:8]')
    assert repr(there).startswith('CodeDataset(gs://bucket/codes (test[:8]), ')
    np.testing.assert_array_equal(here.fetch(np.arange(5)).values, there.fetch(np.arange(5)).values)
    assert not list(copy_of('gs://bucket/codes').glob('train*'))  # nobody asked for it
    shard = next(name for name in bucket.find('/bucket/codes') if 'test' in name)
    change(bucket, shard)
    with pytest.raises(UserError, match=r'^gs://bucket/codes/test.* is damaged'):
        open_dataset(config, 'test[:8]')


def test_a_report_of_runs_in_buckets(bucket, trained):
    upload(bucket, trained, 'bucket/run')
    (there,), (here,) = read_runs([local_run('gs://bucket/run', logs=True)]), read_runs([trained])
    assert there.log.keys() == here.log.keys()
    assert there.images.keys() == here.images.keys() != set()
    assert place_of(there.workdir) == 'gs://bucket/run'


@pytest.mark.parametrize(
    'address',
    ['gs://', 'gs:///run', 'gs://bucket/../run', 'gs://bucket/a//b', 'gs://bucket/*', 'gs://b/\x1b'],
)
def test_what_is_no_address(bucket, address):
    with pytest.raises(UserError, match='is no address of a folder in a bucket'):
        vq_jax.load(address)


def test_what_is_too_large_to_be_what_it_should_be(bucket, trained, monkeypatch):
    monkeypatch.setattr(bucket_runs, '_MOST_BYTES', 100)
    upload(bucket, trained, 'bucket/run')
    with pytest.raises(UserError, match=r'^gs://bucket/run/.* has .* bytes; at most 100 are copied'):
        vq_jax.load('gs://bucket/run')


def test_what_is_not_there(bucket):
    with pytest.raises(UserError, match=r'^gs://bucket/none does not exist; give the directory of'):
        vq_jax.load('gs://bucket/none')
    with pytest.raises(UserError, match=r'^gs://bucket/none does not exist; give the directory of'):
        open_features('gs://bucket/none')
    with pytest.raises(UserError, match=r'^gs://bucket/none holds no codes'):
        open_dataset(DataConfig(name='codes:gs://bucket/none'), 'train')


def test_an_address_and_its_copy_say_what_the_other_is(bucket, tmp_path):
    for address in 'gs://bucket/run', 's3://b/a b/c', 'gs://bucket':
        assert address_of(copy_of(address)) == place_of(copy_of(address)) == address
    assert address_of(tmp_path) is None
    assert place_of(tmp_path) == str(tmp_path)
    assert not is_address('codes:/gs') and not is_address('/gs:/bucket') and is_address('s3://bucket')


@pytest.mark.parametrize('error', [OSError('Forbidden: bucket'), RuntimeError('no route'), ValueError('bad')])
def test_a_client_that_fails_is_told_in_a_sentence(bucket, error, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(bucket, 'find', fail)
    with pytest.raises(
        UserError, match=rf'^gs://bucket/run cannot be used \({type(error).__name__}: {error}\)'
    ):
        vq_jax.load('gs://bucket/run')


def test_a_client_that_is_not_installed(monkeypatch):
    def absent(*_, **__):
        raise ImportError

    monkeypatch.setattr(fsspec, 'filesystem', absent)
    with pytest.raises(
        UserError, match=r"^gs:// needs the package gcsfs; install it by pip install 'vq_jax\[gcs\]'"
    ):
        vq_jax.load('gs://bucket/run')


@pytest.mark.parametrize('kind', ['folder', 'text'])
def test_files_of_the_users_are_read_from_a_mounted_bucket(kind):
    with pytest.raises(UserError, match=r'^name is gs://bucket/data, and such files .*; mount the bucket'):
        DataConfig(name=f'{kind}:gs://bucket/data')

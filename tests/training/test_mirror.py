"""A run that is trained in a bucket is as one on a disk, whatever happens to it."""

import jax
import numpy as np
import pytest

from tests.runs import arrays, logged
from tests.test_sealed import small_config
from vq_jax.buckets import SCRATCH, BucketError, BucketFolder, copy_of
from vq_jax.errors import UserError
from vq_jax.train import train
from vq_jax.training import mirror
from vq_jax.training.bucket_runs import local_run
from vq_jax.training.mirror import Mirror

ADDRESS = 'gs://bucket/run'


@pytest.fixture(scope='module')
def on_disk(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'run'
    train(small_config(), workdir)
    return workdir


def another_machine(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'another'))


def assert_as_on_disk(on_disk):
    for step in 2, 4:
        jax.tree.map(np.testing.assert_array_equal, arrays(ADDRESS, step), arrays(on_disk, step))
    there = local_run(ADDRESS, logs=True)
    assert logged(there) == logged(on_disk)
    for folder in 'images', 'tensorboard':
        assert len(BucketFolder(ADDRESS).list(f'{folder}/')) >= len([*(on_disk / folder).iterdir()])


@pytest.mark.slow
def test_a_run_in_a_bucket_is_as_on_disk(bucket, on_disk):
    train(small_config(), ADDRESS)
    assert_as_on_disk(on_disk)
    names = {name.rpartition('/')[2] for name in bucket.find('/bucket/run')}
    assert not names & {'unsaved', '.lock', '.scratch'}
    # It ended, so that it may be gone on with at once, and what is pruned here is pruned there.
    longer = small_config()
    longer.steps, longer.keep_checkpoints = 6, 1
    train(longer, ADDRESS, extend_schedule='hold')
    steps = {name.split('/')[1] for name in BucketFolder(ADDRESS).list('checkpoints/')}
    assert steps == {'6'}


@pytest.mark.slow
def test_one_that_ends_in_an_upload_goes_on_elsewhere(bucket, on_disk, monkeypatch, tmp_path):
    """The manifest is the last of a checkpoint, and without it there is none."""
    write = BucketFolder.write

    def but_that_of_step_4(self, name, content, **options):
        if name == 'checkpoints/4/manifest.json':
            raise BucketError('the network is gone.')
        write(self, name, content, **options)

    with monkeypatch.context() as failing:
        failing.setattr(BucketFolder, 'write', but_that_of_step_4)
        with pytest.raises(BucketError, match=r'^the network is gone\.$'):
            train(small_config(), ADDRESS)
    assert arrays(ADDRESS).step == 2
    assert any(name.startswith('checkpoints/4/arrays') for name in BucketFolder(ADDRESS).list())
    another_machine(monkeypatch, tmp_path)
    config = small_config()
    with Mirror(ADDRESS).held():
        assert not any(name.startswith('checkpoints/4/') for name in BucketFolder(ADDRESS).list())
    train(config, ADDRESS)
    assert_as_on_disk(on_disk)


def test_two_trainers(bucket, monkeypatch, tmp_path):
    first, second = Mirror(ADDRESS), Mirror(ADDRESS)
    with first.held():
        with pytest.raises(
            UserError, match=r'^another process of this machine is training in gs://bucket/run'
        ):
            second.held().__enter__()
        another_machine(monkeypatch, tmp_path)
        elsewhere = Mirror(ADDRESS)
        with pytest.raises(
            UserError,
            match=r'^process \d+ of .*, since .* UTC is training in gs://bucket/run; wait .* 1\d\d seconds',
        ):
            elsewhere.held().__enter__()
    with elsewhere.held():  # the first has ended
        pass


def test_a_lease_that_is_not_renewed_is_taken_over_for_good(bucket, monkeypatch, tmp_path):
    first = Mirror(ADDRESS)
    with pytest.raises(BucketError, match=r'^process .* took over training in gs://bucket/run'), first.held():
        monkeypatch.setattr(mirror, 'LEASE_SECONDS', -1)
        another_machine(monkeypatch, tmp_path)
        with Mirror(ADDRESS).held():
            (first.local / 'late').write_text('x')
            with pytest.raises(BucketError, match='took over training'):
                first.publish(1)
        assert 'late' not in BucketFolder(ADDRESS).list()


def test_of_two_that_begin_at_once_one_succeeds(bucket, monkeypatch, tmp_path):
    write = BucketFolder.write

    def after_another(self, name, content, **options):
        monkeypatch.setattr(BucketFolder, 'write', write)
        scratch = copy_of(ADDRESS, SCRATCH) / '.scratch'
        write(self, name, content.replace(scratch.read_bytes(), b'another'), **options)
        write(self, name, content, **options)

    monkeypatch.setattr(BucketFolder, 'write', after_another)
    with pytest.raises(UserError, match=r'^another process, which began at the same moment, is training'):
        Mirror(ADDRESS).held().__enter__()


def test_after_a_kill_this_machine_need_not_wait(bucket):
    """Who has the lock of the directory knows that whoever held the lease from there has ended."""
    killed = Mirror(ADDRESS)
    killed.local.mkdir(parents=True)
    killed._acquire()
    with Mirror(ADDRESS).held():
        assert len(BucketFolder(ADDRESS).list('.lease/')) == 1
    with pytest.raises(BucketError, match='took over training'):
        killed._renew()

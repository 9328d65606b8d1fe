"""What is written on a disk that is full, or may not be written."""

import errno
import json
import os
import resource
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.runs import run
from vq_jax import cli, sample_flags
from vq_jax.data.sources.codes import CodeFacts, write_facts, write_shard
from vq_jax.files import AppendedFile, WriteError, write_atomically
from vq_jax.spec import CodeSpec, Spec


@pytest.fixture
def full(tmp_path, monkeypatch):
    """A folder on a disk that is full; others have room."""
    folder, mkstemp = tmp_path / 'full', tempfile.mkstemp
    folder.mkdir()

    def make(*arguments, **options):
        if Path(options['dir']).is_relative_to(folder):
            raise OSError(errno.ENOSPC, 'No space left on device')
        return mkstemp(*arguments, **options)

    monkeypatch.setattr(tempfile, 'mkstemp', make)
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    return folder


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, number, call):
    path = tmp_path / 'file'
    write_atomically(path, 'before')

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(WriteError) as caught:
        write_atomically(path, 'after')
    assert str(caught.value) == (
        f'Cannot write {path} ({os.strerror(number)}); make room, or choose another place.'
    )
    assert path.read_text() == 'before' and list(tmp_path.iterdir()) == [path]


def test_a_record_is_added_whole_or_not_at_all(tmp_path, monkeypatch):
    file = AppendedFile(tmp_path / 'file')
    file.add(b'first\n')
    answers = iter([os.write, lambda *_: Path('/dev/full').write_bytes(b'x')])
    monkeypatch.setattr(os, 'write', lambda descriptor, data: next(answers)(descriptor, data[:3]))
    with pytest.raises(OSError, match='No space left'):
        file.add(b'second\n')
    monkeypatch.undo()
    file.add(b'third\n')
    file.close()
    assert (tmp_path / 'file').read_bytes() == b'first\nthird\n'


@pytest.mark.parametrize('name', ['sheet.png', 'arrays.npz', 'folder'])
def test_images_that_were_made_are_kept_elsewhere(full, tmp_path, name):
    images = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4, 1)
    with pytest.raises(WriteError) as caught:
        sample_flags.write(full / name, images, Spec('image', (4, 4, 1)), 'noise')
    (elsewhere,) = tmp_path.glob('vq_jax-*/*')
    failed = full / name / '0.png' if name == 'folder' else full / name
    assert str(caught.value) == (
        f'Cannot write {failed} (No space left on device); make room, or choose another place. '
        f'Meanwhile, the 3 images that were made are in {elsewhere}.'
    )
    if name.endswith('.npz'):
        np.testing.assert_array_equal(np.load(elsewhere)['images'], images)
    assert not [path for path in full.rglob('*') if path.is_file()]


def test_a_disk_that_cannot_be_written_is_told_in_a_sentence(monkeypatch, capsys):
    def run():
        raise OSError(errno.EROFS, 'Read-only file system', '/data/x')

    monkeypatch.setattr(cli.app, 'run', lambda main, flags_parser: run())
    with pytest.raises(SystemExit) as caught:
        cli.main(run)
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        'error: Cannot write /data/x (Read-only file system); make room, or mend the disk.\n'
    )


@pytest.fixture
def small_files():
    """No file may grow beyond 300 kB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_shard_of_codes_is_there_whole_or_not_at_all(tmp_path, small_files):
    facts = CodeFacts(
        tokenizer={'workdir': 'run', 'step': 1, 'checksum': 'a' * 64, 'config': {}},
        data={},
        spec=Spec('image', (8, 8, 1)),
        class_names=(),
        codes=CodeSpec(((32, 32),), ((2**16,),)),
        splits={'train': 512},
        shard_size=256,
    )
    codes = np.random.default_rng(0).integers(0, 2**16, 1024)
    write_facts(tmp_path, facts)
    good, bad = facts.shard_paths(tmp_path, 'train')
    write_shard(good, facts, [(0, codes, {})])
    with pytest.raises(
        WriteError, match=rf'Cannot write {bad} \(.*File too large\); make room, and the same'
    ):
        write_shard(bad, facts, [(0, codes, {})] * 256)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(['codes.json', good.name])


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of two megabytes; only who may mount one has it."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('no file system can be mounted here')
    yield disk
    subprocess.run(['umount', '-l', str(disk)], check=True)


@pytest.mark.slow
def test_a_run_on_a_full_disk_ends_with_a_sentence_and_goes_on_later(tiny_disk):
    workdir = tiny_disk / 'run'
    command = [
        '--config=tests/digits.py',
        f'--workdir={workdir}',
        '--config.steps=40',
        '--config.batch_size=32',
        '--config.log_every=1',
        '--config.eval_every=20',
        '--config.checkpoint_every=10',
        '--config.keep_checkpoints=9',
        '--config.model.channels=8',
        '--config.model.residual_channels=8',
        '--config.quantizer.num_codes=32',
    ]
    (tiny_disk / 'filler').write_bytes(bytes(1_500_000))
    _, errors = run(command, status=2)
    *warnings, last = errors.splitlines()
    assert last.startswith('error: ') and 'No space left on device' in last
    assert all('No space left on device' in line for line in warnings), errors
    assert not list(tiny_disk.rglob('*.tmp')) and not list(tiny_disk.rglob('*.saving*'))
    (tiny_disk / 'filler').unlink()
    run(command)
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines if line['split'] == 'train'] == list(range(1, 41))

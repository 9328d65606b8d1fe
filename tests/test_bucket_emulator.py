"""Training in a bucket of Google's protocol, and from one, on loopback, with kills while files are copied."""

import importlib.util
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.in_shards import FILES, shard, write
from tests.runs import DESCENT, assert_equal_runs, assert_same_descent, finish, start, wait_for
from vq_jax.buckets import BucketFolder, copy_of
from vq_jax.data import DataConfig, open_dataset
from vq_jax.errors import UserError
from vq_jax.training.bucket_runs import local_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ('gcsfs', 'gcp_storage_emulator'))),
        reason='pip install gcsfs gcp-storage-emulator',
    ),
]

SMALL = [
    '--config=tests/digits.py',
    '--config.steps=4',
    '--config.log_every=1',
    '--config.eval_every=2',
    '--config.checkpoint_every=2',
    '--config.batch_size=8',
    '--config.data.eval_split=test[:8]',
    '--config.model.channels=4',
]

# The emulator, and what it lacks: an object that is only to be made is not replaced. While the file `hold` is
# there, which says what the name of an object ends in, nobody who uploads that is answered, and it is not
# stored, and who downloads it is sent half.
EMULATOR = """
import pathlib, sys, time
from http import HTTPStatus
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
upload, download = objects._multipart_upload, objects.download

def held(name):
    hold = folder / 'hold'
    return hold.exists() and name.endswith(hold.read_text())

def wait(name):
    (folder / 'held').write_text(name)
    while (folder / 'hold').exists():
        time.sleep(0.05)

def is_there(request, storage):
    try:
        storage.get_file_obj(request.params['bucket_name'], request.data['meta']['name'])
    except NotFound:
        return False
    return True

def conditional(request, response, storage):
    name = request.data['meta']['name']
    if request.query.get('ifGenerationMatch') == ['0'] and is_there(request, storage):
        response.status = HTTPStatus.PRECONDITION_FAILED
    elif held(name):
        wait(name)
        response.status = HTTPStatus.SERVICE_UNAVAILABLE
    else:
        upload(request, response, storage)

def in_halves(request, response, storage, *args, **kwargs):
    download(request, response, storage)
    name, handler, content = request.params['object_id'], response._handler, response._content

    def half():
        handler.send_response(200, 'OK')
        handler.send_header('Content-Length', str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:len(content) // 2])
        wait(name)

    if held(name):
        response.close = half

objects._multipart_upload, objects.download = conditional, in_halves
from gcp_storage_emulator.server import create_server  # which keeps these functions in a table

create_server('localhost', port, in_memory=True, default_bucket='bucket').run()
"""


@pytest.fixture
def emulator(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    monkeypatch.setenv('STORAGE_EMULATOR_HOST', f'http://localhost:{port}')
    monkeypatch.setenv('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
    monkeypatch.setenv('FSSPEC_GS_TOKEN', 'anon')
    process = subprocess.Popen(
        [sys.executable, '-c', EMULATOR, str(port), tmp_path], stderr=subprocess.DEVNULL
    )
    while socket.socket().connect_ex(('localhost', port)):
        assert process.poll() is None
        time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


def test_a_kill_in_an_upload(emulator, tmp_path, monkeypatch):
    train = [*SMALL, '--workdir=gs://bucket/run']
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    finish(start([*SMALL, f'--workdir={tmp_path / "run"}']))

    (tmp_path / 'hold').write_text('checkpoints/4/manifest.json')
    killed = start(train)
    wait_for(tmp_path / 'held', killed)
    killed.send_signal(signal.SIGKILL)
    finish(killed, status=-signal.SIGKILL)
    (tmp_path / 'hold').unlink()

    # To another machine it may be training still; this one knows that it is not.
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'another'))
    _, errors = finish(start(train), status=2)
    assert f'error: process {killed.pid} of {socket.gethostname()}, since' in errors
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    output, _ = finish(start(train))
    assert 'resumed at step 2' in output

    # Nothing of what was trained here is needed to open it.
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'third'))
    assert_equal_runs(local_run('gs://bucket/run', logs=True), tmp_path / 'run')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))  # where the data are
    evaluated = [
        finish(start([f'--workdir={workdir}'], module='vq_jax.evaluate'))[0]
        for workdir in ('gs://bucket/run', tmp_path / 'run')
    ]
    assert evaluated[0] == evaluated[1]


def test_two_processes_without_a_disk_that_both_see(emulator, tmp_path, monkeypatch):
    """Parameters are split over them, and the first writes them for both."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    options = ['--config=tests/digits.py', '--config.model.channels=4', *DESCENT, '--config.eval_every=2']
    finish(start([*options, f'--workdir={tmp_path / "run"}']))
    split = ['--config.parallel.engine=jit', '--config.parallel.shard_parameters=true']
    for steps in 2, 4:  # and the second time it goes on
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        both = ['--distributed', f'--coordinator=127.0.0.1:{port}', '--num_processes=2']
        command = [*options, *split, *both, f'--config.steps={steps}', '--workdir=gs://bucket/run']
        processes = [start([*command, f'--process_id={i}'], devices=2) for i in range(2)]
        for process in processes:
            finish(process)
    assert_same_descent(local_run('gs://bucket/run', logs=True), tmp_path / 'run')


def test_a_kill_while_a_data_set_is_copied(emulator, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    (tmp_path / 'tfds').mkdir()
    BucketFolder('gs://bucket/tfds').upload(write(tmp_path / 'tfds'))
    of_set = [*SMALL, '--config.data.name=in_shards', '--config.data.eval_split=test[:1]']
    here = [*of_set, f'--config.data.data_dir={tmp_path / "tfds"}', f'--workdir={tmp_path / "here"}']
    there = [*of_set, '--config.data.data_dir=gs://bucket/tfds', f'--workdir={tmp_path / "there"}']
    finish(start(here))

    (tmp_path / 'hold').write_text(shard(1))
    killed, copy = start(there), copy_of('gs://bucket/tfds/in_shards/1.0.0')
    wait_for(tmp_path / 'held', killed)
    (partial,) = copy.glob(f'.{shard(1)}.*')
    wait_for(partial, killed, size=1)
    killed.send_signal(signal.SIGKILL)
    finish(killed, status=-signal.SIGKILL)
    assert 0 < partial.stat().st_size < (tmp_path / 'tfds/in_shards/1.0.0' / shard(1)).stat().st_size
    assert not (copy / shard(1)).exists()
    (tmp_path / 'hold').unlink()

    _, errors = finish(start(there))
    assert 'copying ' in errors
    # Of the other split, the one shard that is read.
    expected = [*(shard(number) for number in range(FILES)), shard(0, 'test')]
    assert sorted(path.name for path in copy.glob('*in_shards*')) == sorted(expected)
    assert_equal_runs(tmp_path / 'there', tmp_path / 'here')


def test_what_is_said_of_a_data_set(emulator, tmp_path, monkeypatch):
    def fails(address, match):
        with pytest.raises(UserError, match=match):
            open_dataset(DataConfig(name='in_shards', data_dir=address), 'train')

    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    (tmp_path / 'tfds').mkdir()
    bucket, name = BucketFolder('gs://bucket/tfds'), f'in_shards/1.0.0/{shard(1)}'
    bucket.upload(write(tmp_path / 'tfds'))
    assert len(open_dataset(DataConfig(name='in_shards', data_dir=bucket.address), 'train')) == 6
    bucket.write(name, b'')
    fails(bucket.address, f'{bucket.address}/{name} is damaged')
    bucket.delete([name])
    fails(bucket.address, f'^{bucket.address}/{name} is not in the bucket')
    fails(
        'gs://bucket/none', '^Data set .* There is no data set at all in gs://bucket/none; check the address'
    )
    fails('gs://none/tfds', '^Data set .* There is no data set at all in gs://none/tfds; check the address')

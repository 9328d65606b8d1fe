"""Files of weights, whole and damaged, on disk and from a server."""

import functools
import hashlib
import http.server
import importlib.util
import threading

import numpy as np
import pytest
from safetensors.numpy import save_file

from vq_jax.errors import UserError
from vq_jax.training.pretrained import download, read_weights

OTHERWISE = 'name your own'
A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)


@pytest.fixture
def files(tmp_path):
    np.savez(tmp_path / 'a.npz', **{'features.0.weight': A})
    save_file({'lin0': B}, tmp_path / 'b.safetensors')
    return tmp_path


def test_files_are_read_together_and_named_with_their_checksum(files, capsys):
    weights = read_weights([files / 'a.npz', str(files / 'b.safetensors')], OTHERWISE)
    np.testing.assert_array_equal(weights.arrays['features.0.weight'], A)
    np.testing.assert_array_equal(weights.arrays['lin0'], B)
    printed = capsys.readouterr().out
    for name in ('a.npz', 'b.safetensors'):
        assert str(files / name) in printed
        checksum = hashlib.sha256((files / name).read_bytes()).hexdigest()
        assert checksum in printed
        assert weights.checksums[str(files / name)] == checksum


@pytest.mark.parametrize('name', ['a.npz', 'b.safetensors'])
def test_a_damaged_file_is_named(files, name):
    path = files / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=name):
        read_weights([path], OTHERWISE)


def test_files_that_are_not_there_or_not_known(files):
    with pytest.raises(UserError, match=r'no file of weights .*c\.npz'):
        read_weights([files / 'c.npz'], OTHERWISE)
    (files / 'd.h5').write_bytes(b'')
    with pytest.raises(UserError, match='safetensors'):
        read_weights([files / 'd.h5'], OTHERWISE)


@pytest.mark.skipif(importlib.util.find_spec('torch') is not None, reason='PyTorch is installed')
def test_a_pytorch_file_needs_pytorch(files):
    (files / 'e.pth').write_bytes(b'PK')
    with pytest.raises(UserError, match=r'PyTorch is not installed.* and name your own\.'):
        read_weights([files / 'e.pth'], OTHERWISE)


@pytest.mark.skipif(importlib.util.find_spec('torch') is not None, reason='PyTorch is installed')
def test_published_weights_need_pytorch(server, tmp_path, monkeypatch):
    """Nothing is downloaded, and the file that is not there is not named."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    address = f'{server}/e.pth'
    with pytest.raises(UserError) as raised:
        download({'kept.pth': (address, None)}, OTHERWISE)
    assert str(raised.value) == (
        f'{address} is a PyTorch file, and PyTorch is not installed; install it, or convert the file to '
        '.safetensors or .npz where it is and name your own.'
    )
    assert not (tmp_path / 'cache').exists()


@pytest.fixture
def server(files):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(files))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{running.server_port}'
        running.shutdown()


def test_downloads_are_checked_and_kept(files, server, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    begin = hashlib.sha256((files / 'a.npz').read_bytes()).hexdigest()[:8]
    wanted = {'kept.npz': (f'{server}/a.npz', begin)}
    (path,) = download(wanted, OTHERWISE)
    np.testing.assert_array_equal(read_weights([path], OTHERWISE).arrays['features.0.weight'], A)
    (files / 'a.npz').unlink()
    assert download(wanted, OTHERWISE) == [path]  # without asking again
    path.write_bytes(b'')
    with pytest.raises(UserError, match=f'does not begin with {begin}; remove it'):
        download(wanted, OTHERWISE)


def test_a_download_that_fails_or_is_damaged(server, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    with pytest.raises(UserError, match=r'cannot be downloaded.*kept\.npz, or name your own\.'):
        download({'kept.npz': (f'{server}/none.npz', None)}, OTHERWISE)
    with pytest.raises(UserError, match='damaged'):
        download({'kept.npz': (f'{server}/a.npz', 'ffffffff')}, OTHERWISE)
    assert not (tmp_path / 'cache' / 'vq_jax' / 'weights' / 'kept.npz').exists()

"""Files of weights, whole and damaged, on disk and from a server."""

import contextlib
import functools
import hashlib
import http.server
import importlib.util
import json
import re
import struct
import threading

import numpy as np
import pytest
from safetensors.numpy import save_file

from vq_jax.errors import UserError
from vq_jax.training import pretrained
from vq_jax.training.pretrained import INCEPTION_FILES, LPIPS_FILES, download, read_weights

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
        download({'kept.pth': (address, 'f' * 64)}, OTHERWISE)
    assert str(raised.value) == (
        f'{address} is a PyTorch file, and PyTorch is not installed; install it, or convert the file to '
        '.safetensors or .npz where it is and name your own.'
    )
    assert not (tmp_path / 'cache').exists()


@pytest.fixture
def server(files, monkeypatch):
    """The address of one that has the files, answers slowly, redirects, and never ends."""
    monkeypatch.setattr(pretrained, '_SCHEMES', ('http', 'https'))
    ending = threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path == '/slow_head':
                self.drip(b'HTTP/1.0 200 OK\r\nX: ' + b'x' * 10_000)
            elif self.path == '/slow_body':
                self.drip(b'HTTP/1.0 200 OK\r\n\r\n' + b'x' * 10_000)
            elif self.path == '/endless':
                self.wfile.write(b'HTTP/1.0 200 OK\r\n\r\n')
                while True:
                    self.wfile.write(bytes(2**16))
            elif self.path.startswith('/to/'):
                self.send_response(302)
                self.send_header('Location', self.path.removeprefix('/to/'))
                self.end_headers()
            else:
                super().do_GET()

        def drip(self, data):
            for i in range(len(data)):
                self.wfile.write(data[i : i + 1])
                if ending.wait(0.02):
                    return

        def handle(self):
            with contextlib.suppress(ConnectionError):
                super().handle()

    handler = functools.partial(Handler, directory=str(files))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{running.server_port}'
        ending.set()
        running.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'vq_jax' / 'weights'


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_downloads_are_checked_and_kept(files, server, cache):
    digest = sha256(files / 'a.npz')
    wanted = {'kept.npz': (f'{server}/to/{server}/a.npz', digest)}
    (path,) = download(wanted, OTHERWISE)
    np.testing.assert_array_equal(read_weights([path], OTHERWISE).arrays['features.0.weight'], A)
    (files / 'a.npz').unlink()
    assert download(wanted, OTHERWISE) == [path]  # without asking again
    path.write_bytes(b'')
    with pytest.raises(UserError, match=f'its SHA-256 is .* and not {digest}; remove it'):
        download(wanted, OTHERWISE)


@pytest.mark.parametrize(
    'path, told',
    [
        ('/none.npz', 'File not found'),
        ('/b.safetensors', 'another file: its SHA-256 is'),
        ('/slow_head', 'it took more than 0.5 seconds'),
        ('/slow_body', 'it took more than 0.5 seconds'),
        ('/endless', 'it has more than 1,000,000 bytes'),
        ('/to//to//to//to//to//to//to//to/a.npz', 'redirect error that would lead'),
        ('/to/ftp://127.0.0.1/a.npz', 'ftp'),
    ],
)
def test_a_download_that_fails_leaves_nothing(files, server, cache, monkeypatch, path, told):
    monkeypatch.setattr(pretrained, '_MOST_BYTES', 1_000_000)
    monkeypatch.setattr(pretrained, '_MOST_SECONDS', 0.5 if 'slow' in path else 600)
    with pytest.raises(
        UserError, match=rf'cannot be downloaded \(.*{told}.*kept\.npz, or name your own\.'
    ) as found:
        download({'kept.npz': (server + path, sha256(files / 'a.npz'))}, OTHERWISE)
    assert '\n' not in str(found.value)
    assert not list(cache.iterdir())


def test_an_address_that_others_may_change_is_not_read(files, server, cache, monkeypatch):
    """Not by itself, nor where a redirect leads to it."""
    monkeypatch.setattr(pretrained, '_SCHEMES', ('https',))
    digest = sha256(files / 'a.npz')
    with pytest.raises(UserError, match=f'{server}/a.npz is not read, only https'):
        download({'kept.npz': (f'{server}/a.npz', digest)}, OTHERWISE)
    with pytest.raises(ValueError, match='ftp://a/b is not read, only https'):
        pretrained._SafeRedirects().redirect_request(None, None, 302, '', {}, 'ftp://a/b')


@pytest.mark.parametrize('files', [LPIPS_FILES, INCEPTION_FILES], ids=['LPIPS', 'Inception'])
def test_published_files_have_whole_checksums(files):
    """Where a name or the published address has the first digits, they are those."""
    for name, (address, digest) in files.items():
        assert len(digest) == 64 and set(digest) <= set('0123456789abcdef')
        assert address.startswith('https://')
        found = re.search(r'-([0-9a-f]{8})\.pth', name)
        assert found is None or digest.startswith(found[1])


@pytest.mark.parametrize('kind', ['BF16', 'F8_E5M2', 'C64'])
def test_numbers_that_are_no_weights_are_told(tmp_path, kind):
    size = 4 * {'BF16': 2, 'F8_E5M2': 1, 'C64': 8}[kind]
    header = json.dumps({'x': {'dtype': kind, 'shape': [4], 'data_offsets': [0, size]}}).encode()
    file = tmp_path / 'a.safetensors'
    file.write_bytes(struct.pack('<Q', len(header)) + header + bytes(size))
    with pytest.raises(UserError, match=r'a\.safetensors (cannot be read as a file of|holds .* no) weights'):
        read_weights([file], OTHERWISE)

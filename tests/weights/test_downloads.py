"""Published files from a server: whole, damaged and endless."""

import contextlib
import functools
import hashlib
import http.server
import re
import threading

import numpy as np
import pytest
from safetensors.numpy import save_file

from vq_jax.errors import UserError
from vq_jax.weights import INCEPTION_FILES, LPIPS_FILES, download, downloads, read_weights

OTHERWISE = 'name your own'
A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)


@pytest.fixture
def files(tmp_path):
    np.savez(tmp_path / 'a.npz', **{'features.0.weight': A})
    save_file({'lin0': B}, tmp_path / 'b.safetensors')
    return tmp_path


@pytest.fixture
def server(files, monkeypatch):
    """The address of one that has the files, answers slowly, redirects, and never ends."""
    monkeypatch.setattr(downloads, '_SCHEMES', ('http', 'https'))
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
    np.testing.assert_array_equal(read_weights([path]).arrays['features.0.weight'], A)
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
    monkeypatch.setattr(downloads, '_MOST_BYTES', 1_000_000)
    monkeypatch.setattr(downloads, '_MOST_SECONDS', 0.5 if 'slow' in path else 600)
    with pytest.raises(
        UserError, match=rf'cannot be downloaded \(.*{told}.*kept\.npz, or name your own\.'
    ) as found:
        download({'kept.npz': (server + path, sha256(files / 'a.npz'))}, OTHERWISE)
    assert '\n' not in str(found.value)
    assert not list(cache.iterdir())


def test_an_address_that_others_may_change_is_not_read(files, server, cache, monkeypatch):
    """Not by itself, nor where a redirect leads to it."""
    monkeypatch.setattr(downloads, '_SCHEMES', ('https',))
    digest = sha256(files / 'a.npz')
    with pytest.raises(UserError, match=f'{server}/a.npz is not read, only https'):
        download({'kept.npz': (f'{server}/a.npz', digest)}, OTHERWISE)
    with pytest.raises(ValueError, match='ftp://a/b is not read, only https'):
        downloads._SafeRedirects().redirect_request(None, None, 302, '', {}, 'ftp://a/b')


@pytest.mark.parametrize('files', [LPIPS_FILES, INCEPTION_FILES], ids=['LPIPS', 'Inception'])
def test_published_files_have_whole_checksums(files):
    """Where a name or the published address has the first digits, they are those."""
    for name, (address, digest) in files.items():
        assert len(digest) == 64 and set(digest) <= set('0123456789abcdef')
        assert address.startswith('https://')
        found = re.search(r'-([0-9a-f]{8})\.pth', name)
        assert found is None or digest.startswith(found[1])

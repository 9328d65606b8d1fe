"""Published weights that this project knows by their checksums: downloaded once, and kept."""

import hashlib
import http.client
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from absl import logging

from vq_jax.errors import UserError
from vq_jax.files import cache_folder, sha256_of

# name: (address, SHA-256 of the file). VGG-16 of torchvision, and the heads that the authors of LPIPS
# published, version 0.1, which are also in their package lpips 0.1.4.
LPIPS_FILES = {
    'vgg16-397923af.pth': (
        'https://download.pytorch.org/models/vgg16-397923af.pth',
        '397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0',
    ),
    'lpips_vgg_v0.1.pth': (
        'https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth',
        'a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868',
    ),
}
# Inception-v3 as the standard FID has it, ported to PyTorch by pytorch-fid.
INCEPTION_FILES = {
    'pt_inception-2015-12-05-6726825d.pth': (
        'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/'
        'pt_inception-2015-12-05-6726825d.pth',
        '6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2',
    ),
}
_SCHEMES = ('https',)
_MOST_BYTES = 2**30  # of a download
_MOST_SECONDS = 3600  # of a download, from the first word to the last
_TIMEOUT = 20  # seconds without an answer


def download(files: dict[str, tuple[str, str]], otherwise: str) -> list[Path]:
    """Files from the network, kept for the next time in `$XDG_CACHE_HOME/vq_jax/weights`.

    Args:
        files: address and hexadecimal SHA-256, by the name to keep each under.
        otherwise: what a user can do instead, as an imperative clause.

    Raises:
        UserError: if one can neither be found there nor downloaded, or is another file.
    """
    folder = cache_folder('weights')
    for name, (address, sha256) in files.items():
        if (folder / name).is_file():
            if (found := sha256_of(folder / name)) != sha256:
                raise UserError(
                    f'{folder / name} is not the file of {address}: its SHA-256 is {found} and not {sha256}; '
                    'remove it.'
                )
            continue
        logging.warning('downloading %s', address)
        try:
            _fetch(address, sha256, folder / name)
        except (http.client.HTTPException, OSError, ValueError) as error:
            reason = ' '.join(str(getattr(error, 'reason', None) or error).split())
            raise UserError(
                f'{address} cannot be downloaded ({reason}); get it elsewhere and put it at {folder / name}, '
                f'or {otherwise}.'
            ) from error
    return [folder / name for name in files]


def _fetch(address: str, sha256: str, path: Path) -> None:
    """Downloads a file, which has its name only when all of it is there and is what it should be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.download.', dir=path.parent) as folder:
        file = Path(folder) / path.name
        # In a thread, because a server may be slow in ways that no timeout of a socket ends.
        ended: Future[str] = Future()

        def run() -> None:
            try:
                ended.set_result(_stream(address, file))
            except BaseException as error:
                ended.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        try:
            found = ended.result(_MOST_SECONDS)
        except TimeoutError as error:
            raise ValueError(str(error) or f'it took more than {_MOST_SECONDS} seconds') from error
        if found != sha256:
            raise ValueError(f'what came is another file: its SHA-256 is {found} and not {sha256}')
        file.replace(path)


def _stream(address: str, path: Path) -> str:
    """Writes what an address gives to a file; the SHA-256 of it."""
    digest, size, end = hashlib.sha256(), 0, time.monotonic() + _MOST_SECONDS
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(_checked(address), timeout=_TIMEOUT) as answer, path.open('wb') as file:
        while part := answer.read1(2**20):
            digest.update(part)
            file.write(part)
            size += len(part)
            if size > _MOST_BYTES:
                raise ValueError(f'it has more than {_MOST_BYTES:,} bytes')
            if time.monotonic() > end:
                raise TimeoutError
    return digest.hexdigest()


def _checked(address: str) -> str:
    if urllib.parse.urlsplit(address).scheme not in _SCHEMES:
        raise ValueError(f'{address} is not read, only {" and ".join(_SCHEMES)}')
    return address


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, and none to a connection that others may change."""

    max_redirections = 5

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        return super().redirect_request(req, fp, code, msg, headers, _checked(newurl))

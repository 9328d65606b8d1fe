"""Weights from elsewhere: read from local files, or downloaded once, with their source and checksum."""

import dataclasses
import hashlib
import http.client
import importlib.util
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from vq_jax.errors import UserError
from vq_jax.files import write_atomically

# name: (address, how the SHA-256 of the file begins or None). VGG-16 of torchvision, and the heads that
# the authors of LPIPS published, version 0.1.
LPIPS_FILES = {
    'vgg16-397923af.pth': ('https://download.pytorch.org/models/vgg16-397923af.pth', '397923af'),
    'lpips_vgg_v0.1.pth': (
        'https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth',
        None,
    ),
}
# Inception-v3 as the standard FID has it, ported to PyTorch by pytorch-fid.
INCEPTION_FILES = {
    'pt_inception-2015-12-05-6726825d.pth': (
        'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/'
        'pt_inception-2015-12-05-6726825d.pth',
        '6726825d',
    ),
}
_TIMEOUT = 20  # seconds without an answer


@dataclasses.dataclass(frozen=True)
class Weights:
    """What files of weights hold.

    Attributes:
        arrays: by their names in the files.
        checksums: the SHA-256 of each file, by its path.
    """

    arrays: dict[str, np.ndarray]
    checksums: dict[str, str]


def read_weights(paths: Sequence[str | Path], otherwise: str) -> Weights:
    """The arrays of several files together.

    Source and SHA-256 of each are printed.

    Args:
        paths: `.npz`, `.safetensors`, or, where PyTorch is installed, `.pth` (a state dict).
        otherwise: what a user without PyTorch can do, as an imperative clause.

    Raises:
        UserError: if a file is not there or cannot be read.
    """
    arrays: dict[str, np.ndarray] = {}
    checksums: dict[str, str] = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise UserError(f'there is no file of weights {path}.')
        _check_reader(path.name, str(path), otherwise)
        readers = {'.npz': _read_npz, '.safetensors': _read_safetensors, '.pth': _read_pth, '.pt': _read_pth}
        if path.suffix not in readers:
            raise UserError(f'{path} is not a .npz, .safetensors or .pth file of weights.')
        arrays |= readers[path.suffix](path)
        checksums[str(path)] = _sha256(path)
        print(f'weights: {path}, SHA-256 {checksums[str(path)]}', flush=True)
    return Weights(arrays, checksums)


def download(files: dict[str, tuple[str, str | None]], otherwise: str) -> list[Path]:
    """Files from the network, kept for the next time in `$XDG_CACHE_HOME/vq_jax/weights`.

    Args:
        files: address, and the beginning of the SHA-256 or None, by the name to keep each under.
        otherwise: what a user can do instead, as an imperative clause.

    Raises:
        UserError: if one can neither be found there nor downloaded, or is damaged.
    """
    folder = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'vq_jax' / 'weights'
    for name, (address, begin) in files.items():
        if (folder / name).is_file():
            if begin and not _sha256(folder / name).startswith(begin):
                raise UserError(
                    f'{folder / name} is not the file of {address}: its SHA-256 does not begin with {begin}; '
                    'remove it.'
                )
            continue
        _check_reader(name, address, otherwise)
        logging.warning('downloading %s', address)
        try:
            with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
                data = answer.read()
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise UserError(
                f'{address} cannot be downloaded ({getattr(error, "reason", error)}); get it elsewhere and '
                f'put it at {folder / name}, or {otherwise}.'
            ) from error
        if begin and not hashlib.sha256(data).hexdigest().startswith(begin):
            raise UserError(f'what came from {address} is damaged: its SHA-256 does not begin with {begin}.')
        if data[:64].lstrip().startswith(b'<'):
            raise UserError(f'what came from {address} is a page, not the file; get it elsewhere.')
        write_atomically(folder / name, data)
    return [folder / name for name in files]


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:
        raise _unreadable(path, error) from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _read_pth(path: Path) -> dict[str, np.ndarray]:
    torch = importlib.import_module('torch')
    try:
        tensors = torch.load(path, map_location='cpu', weights_only=True)
        return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}
    except Exception as error:
        raise _unreadable(path, error) from error


def _check_reader(name: str, place: str, otherwise: str) -> None:
    """Raises `UserError` if a file of this name needs PyTorch to be read, and there is none."""
    if name.endswith(('.pth', '.pt')) and not importlib.util.find_spec('torch'):
        raise UserError(
            f'{place} is a PyTorch file, and PyTorch is not installed; install it, or convert the file to '
            f'.safetensors or .npz where it is and {otherwise}.'
        )


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f'{path} cannot be read as a file of weights ({str(error).splitlines()[0]}).')


def _sha256(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()

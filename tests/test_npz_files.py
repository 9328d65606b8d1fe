"""What is read of arrays that a stranger may have written."""

import io
import os
import zipfile

import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.npz_files import read_npz


class Program:
    """Runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def packed(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f'{name}.npy', content)
    return file.getvalue()


def header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {'descr': '<f4', 'fortran_order': False, 'shape': shape})
    return file.getvalue()


def test_arrays_come_back(tmp_path):
    np.savez(tmp_path / 'a.npz', x=np.arange(3), y=np.float32(2))
    arrays = read_npz(tmp_path / 'a.npz')
    assert arrays.keys() == {'x', 'y'}
    np.testing.assert_array_equal(arrays['x'], np.arange(3))
    assert arrays['y'].dtype == np.float32 and arrays['y'] == 2


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'PK',
        b'\x93NUMPY\x01\x00',
        packed(x=b'no array'),
        packed(x=header((10**14,))),
        packed(x=header((4,)) + b'123'),
        packed(x=b'\0' * 2**20)[:200],
    ],
    ids=['empty', 'half', 'one array', 'no array', 'more than there is', 'cut', 'half of a bomb'],
)
def test_other_content_is_told_in_a_sentence(tmp_path, content):
    (tmp_path / 'a.npz').write_bytes(content)
    with pytest.raises(UserError, match=r'a\.npz (cannot be read|holds)') as told:
        read_npz(tmp_path / 'a.npz')
    assert '\n' not in str(told.value)


def test_no_program_is_run_and_no_bomb_unpacked(tmp_path, monkeypatch):
    path = tmp_path / 'a.npz'
    with path.open('wb') as file:
        np.savez(file, x=np.array([Program(str(tmp_path / 'ran'))], object))
    with pytest.raises(UserError, match='cannot be read'):
        read_npz(path)
    assert not (tmp_path / 'ran').exists()
    monkeypatch.setattr('vq_jax.npz_files.MOST_BYTES', 2**16)
    path.write_bytes(packed(x=b'\0' * 2**20))
    with pytest.raises(UserError, match='1,048,576 bytes are packed in it, and at most 65,536 are read'):
        read_npz(path)

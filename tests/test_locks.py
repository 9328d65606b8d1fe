"""One process at a time trains in a directory, whatever happens to the file of its lock."""

import os
import threading

import pytest

from vq_jax.errors import UserError
from vq_jax.locks import lock_file, only_writer, try_lock, turn


def test_another_is_kept_out_though_the_file_is_deleted(tmp_path):
    with only_writer(tmp_path):
        (tmp_path / '.lock').unlink()
        with pytest.raises(UserError, match='another process is training in'), only_writer(tmp_path):
            pass
    with only_writer(tmp_path):
        pass


def test_another_is_kept_out_where_folders_cannot_be_locked(tmp_path, monkeypatch):
    """As on network file systems, whose locks need a descriptor that can be written."""
    monkeypatch.setattr('vq_jax.locks.try_lock', on_files_alone)
    with only_writer(tmp_path), pytest.raises(UserError, match='another process'), only_writer(tmp_path):
        pass


def on_files_alone(descriptor, lock=try_lock):
    return os.path.isdir(f'/proc/self/fd/{descriptor}') or lock(descriptor)


def test_a_lock_that_was_replaced_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    path, taken = tmp_path / '.lock', []

    def replaced(descriptor, lock=try_lock):
        taken.append(descriptor)
        if len(taken) == 1:
            path.unlink()
        return lock(descriptor)

    monkeypatch.setattr('vq_jax.locks.try_lock', replaced)
    with lock_file(path) as descriptor:
        assert len(taken) == 2 and os.path.samestat(os.fstat(descriptor), path.stat())


@pytest.mark.parametrize('kind', ['link', 'dangling link', 'folder', 'pipe'])
def test_a_lock_that_a_stranger_made_harms_nothing(kind, tmp_path):
    workdir, lock, other = tmp_path / 'run', tmp_path / 'run' / '.lock', tmp_path / 'other'
    workdir.mkdir()
    if kind == 'link':
        other.write_text('precious')
    if 'link' in kind:
        lock.symlink_to(other)
    elif kind == 'folder':
        lock.mkdir()
    else:
        os.mkfifo(lock)
    with pytest.raises(UserError, match=r'is a link|Cannot write to .*run \('), only_writer(workdir):
        pass
    assert other.read_text() == 'precious' if kind == 'link' else not other.exists()


def test_the_content_of_the_file_stays(tmp_path):
    (tmp_path / '.lock').write_text('precious')
    with only_writer(tmp_path):
        pass
    assert (tmp_path / '.lock').read_text() == 'precious'


def test_who_waits_for_a_lock_is_told_and_gets_it(tmp_path, monkeypatch):
    order, told = [], []
    monkeypatch.setattr('vq_jax.locks.logging.warning', lambda *words: told.append(words[0] % words[1:]))

    def second():
        with turn(tmp_path / '.lock'):
            order.append('second')

    waiting = threading.Thread(target=second)
    with turn(tmp_path / '.lock'):
        waiting.start()
        waiting.join(1)
        order.append('first')
    waiting.join()
    assert order == ['first', 'second']
    assert told == [f'waiting for another process, which holds {tmp_path / ".lock"}']

"""Locks, by which processes keep out of each other's way: they end with who holds them, however it ends."""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from vq_jax.errors import UserError
from vq_jax.files import open_itself, telling

# Of file systems that know no locks, or none of folders; there, nothing is kept out.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)
_EVERY_SECONDS = 0.5  # whoever waits for a lock asks again


@contextlib.contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """Yields the descriptor of a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Takes the lock of an open file or folder, until it is closed; False if another holder keeps it out.

    Args:
        descriptor: of the file or folder.
        shared: Others may hold it too, if they share it.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder still has a name: it may have been removed, or replaced by another."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[int | None]:
    """Holds the lock of a file, which is made if it is not there and whose content is left alone.

    Yields:
        Its descriptor; None if another process holds it.

    Raises:
        UserError: It is a link.
        OSError: It cannot be opened, or is no regular file.
    """
    while True:
        descriptor = open_itself(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, 'it is not a regular file', str(path))
            if not try_lock(descriptor):
                yield None
                return
            if is_at(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Holds the lock of a file as `lock_file` does, once no other process holds it; raises as that does.

    Whoever has to wait is told so once.
    """
    told = False
    while True:
        with lock_file(path) as held:
            if held is not None:
                yield
                return
        if not told:
            logging.warning('waiting for another process, which holds %s', path)
            told = True
        time.sleep(_EVERY_SECONDS)


@contextlib.contextmanager
def only_writer(workdir: Path) -> Iterator[None]:
    """Holds the lock of a run directory, which is made if it is not there.

    The folder itself is locked, whose lock nobody can delete, and the file `.lock` in it, because network
    file systems lock files alone.

    Raises:
        UserError: if another process holds it, or the directory cannot be written.
    """
    with contextlib.ExitStack() as held:
        with telling(f'Cannot write to {workdir}', 'choose another --workdir'):
            workdir.mkdir(parents=True, exist_ok=True)
            folder = held.enter_context(opened_folder(workdir))
            alone = try_lock(folder) and held.enter_context(lock_file(workdir / '.lock')) is not None
        if not alone:
            raise UserError(
                f'another process is training in {workdir}; wait for its end, or choose another --workdir.'
            )
        yield

"""Locks, by which processes keep out of each other's way: they end with who holds them, however it ends."""

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path

from vq_jax.errors import UserError

# Of file systems that know no locks; there, nothing is kept out.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def try_lock(descriptor: int) -> bool:
    """Takes the lock of an open file, until it is closed; False if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


@contextlib.contextmanager
def only_writer(workdir: Path) -> Iterator[None]:
    """Holds the lock of a run directory, which is made if it is not there.

    Raises:
        UserError: if another process holds it, or the directory cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / '.lock').open('w')
    except OSError as error:
        raise UserError(
            f'Cannot write to {workdir} ({error.strerror or error}); choose another --workdir.'
        ) from error
    with file:
        if not try_lock(file.fileno()):
            raise UserError(
                f'another process is training in {workdir}; wait for its end, or choose another --workdir.'
            )
        yield

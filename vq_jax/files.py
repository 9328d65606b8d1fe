"""Reads regular files alone, and writes files that are there whole or not at all.

What is read may be a stranger's, and writing may be interrupted by a full disk or a kill. What is written
never follows a link that has the name of a file: in a folder from a stranger it could lead to any file of the
user's. Folders may be links, as of users who keep checkpoints on another disk.
"""

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vq_jax.errors import UserError

MOST_BYTES = 2**28  # of one file that is read
TEMPORARY = r'\.\w{8}\.tmp'  # what `writing_atomically` calls a file until it is whole, as a pattern

# The only portable way to read it is to set it; once, because all threads share it.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


class WriteError(UserError):
    """A file could not be written: the disk is full or broken, or may not be written to."""


@contextlib.contextmanager
def telling(what: str, advice: str, kind: type[UserError] = UserError) -> Iterator[None]:
    """Tells what the system says of a file in a sentence: what failed, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise kind(f'{what} ({error.strerror or error}); {advice}.') from error


def cache_folder(name: str) -> Path:
    """The folder of vq_jax, of a name, in the user's cache; it need not be there."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'vq_jax' / name


def read_file(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a regular file.

    Args:
        path: the file; links are followed.
        most_bytes: how large it may be.

    Raises:
        FileNotFoundError: there is nothing.
        OSError: it cannot be read.
        UserError: it is no regular file (a folder, a pipe, a device), or larger than that, or no file can be
            called so.
    """
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > most_bytes:
            raise UserError(f'{path} has {size:,} bytes; at most {most_bytes:,} are read.')
        return file.read(most_bytes)


def decode_text(content: bytes, name: object) -> str:
    """The text that a file holds, without a byte order mark.

    Args:
        content: of the file.
        name: what to call it in messages.

    Raises:
        UserError: if it is no UTF-8.
    """
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{name} is no text in UTF-8 (byte {error.start:,} is none); write it again in that encoding.'
        ) from error


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file to read bytes of it; arguments and errors are those of `read_file`."""
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise UserError(f'{str(path)!r} is a name that no file can have ({error}).') from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(f'{path} is not a regular file.')
        return open(descriptor, 'rb')
    except BaseException:
        os.close(descriptor)
        raise


def is_inside(name: str) -> bool:
    """Whether a name that a stranger wrote, joined to a folder, stays below it."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not PurePosixPath(name).is_absolute() and '..' not in parts


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a regular file; raises `OSError` if it is none, or cannot be read."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, 'it is not a regular file', str(path))
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file in one step, so that no reader ever sees half of it.

    Args:
        path: The final name; a link of that name is replaced, not followed. Its folder is made if need be.
        content: Text (stored as UTF-8) or bytes.

    Raises:
        WriteError: It cannot be written; what was there before still is.
    """
    # Names of files that are not UTF-8 have characters that it has none for.
    data = content.encode('utf-8', 'backslashreplace') if isinstance(content, str) else content
    with writing_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing_atomically(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write to, which replaces that of a path when all is written, as `write_atomically`."""
    path = Path(path)
    with telling(f'Cannot write {path}', 'make room, or choose another place', WriteError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own for every writer: two processes may write the same file at once.
        handle, name = tempfile.mkstemp(prefix='.', suffix='.tmp', dir=path.parent)  # see TEMPORARY
        temporary = Path(name)
        try:
            with os.fdopen(handle, 'wb') as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; a run directory is read by colleagues and TensorBoard.
            temporary.chmod(0o666 & ~_UMASK)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def open_itself(path: str | Path, flags: int) -> int:
    """As `os.open`, but a link is not followed: it raises a `UserError`."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UserError(
            f'{path} is a link, which could lead to any file; put a file in its place, or choose another '
            'directory.'
        ) from error


class AppendedFile:
    """A file to which records are added, which is made if it is not there (see `open_itself`).

    A record is in it when the call returns, or nothing of it is. Nothing is buffered, so that a disk without
    room is noticed where it is met, and a process that is killed leaves all that it wrote.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = open_itself(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self, record: bytes) -> None:
        """Adds a record; raises `OSError` if it cannot be written, and then the file is as it was."""
        end = os.fstat(self._descriptor).st_size
        try:
            rest = memoryview(record)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise

    def sync(self) -> None:
        """Returns when all records are on the disk, where a power cut leaves them, or raises `OSError`."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

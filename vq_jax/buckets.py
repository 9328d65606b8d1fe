"""Folders of buckets (`gs://`, `s3://`) and the Hub (`hf://`), through fsspec, and copies of files of theirs.

A bucket has objects, each of which is written and read whole, and no folders: no file is renamed, locked or
added to there, and no link is followed. Whoever wants a file has a copy of it in the user's cache, under
the parts of its address, so that each of the two paths says what the other is.

A repository of the Hugging Face Hub is read like a bucket: `hf://OWNER/NAME@REVISION/FOLDER`, where the
revision may also stand at the end; one of data, `hf://datasets/OWNER/NAME`, too.
"""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from vq_jax.errors import UserError, first_line, plural
from vq_jax.files import cache_folder, telling
from vq_jax.locks import turn

# Folders of the cache: with what is only read, and with runs that are trained here.
COPIES, SCRATCH = 'buckets', 'training'
_ROOTS = re.compile(rf'{COPIES}|{SCRATCH}(-\d+)?')
# The package, the extra that has it, and what logs a user in.
_CLIENTS = {
    'gs': ('gcsfs', 'gcs', 'gcloud auth application-default login'),
    's3': ('s3fs', 's3', 'aws configure'),
    'hf': ('huggingface_hub', 'hub', 'hf auth login'),
}
HUB = 'hf'
_DATASETS = 'datasets'  # what addresses of data sets on the Hub begin with
_OTHERS_ON_THE_HUB = 'buckets', 'spaces'  # and those of what is no repository of weights, runs or data
_OPTIONS = {HUB: {'expand_info': True}}  # without which nothing says when a file was written
# Glob characters and '#' mean something to the clients; '' and dots would to a file system.
_ADDRESS = re.compile(r'(gs|s3|hf):/{1,2}([^/*?#\[\]]+)((?:/[^/*?#\[\]]+)*)/*')
_AT_ONCE = 16  # objects that are on their way
_TEMPORARY = '.tmp'  # what names of files end in while they are written
_ROOM = 'make room in the cache, and see that it can be written, or choose another (XDG_CACHE_HOME)'
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk says; clients make EIO of much else


class BucketError(UserError):
    """A bucket cannot be reached, read or written."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """An object of a bucket: its bytes, and when it was written, in seconds since 1970."""

    size: int
    modified: float


def is_address(place: str | Path) -> bool:
    """Whether it begins as an address of a bucket does; a `Path` of one has lost one of its slashes."""
    return re.match('(gs|s3|hf):/', str(place)) is not None


def is_on_the_hub(place: str | Path) -> bool:
    """Whether it begins as an address of the Hugging Face Hub does."""
    return str(place).startswith(f'{HUB}:/')


def copy_of(address: str | Path, root: str = COPIES) -> Path:
    """Where this machine keeps copies of the files of a folder of a bucket; need not be there."""
    scheme, *parts = _parts(str(address))
    return cache_folder(root).joinpath(scheme, *parts)


def address_of(path: Path) -> str | None:
    """The address of the folder that a folder is a copy of; None for all others."""
    cache = cache_folder(COPIES).parent
    root, *parts = path.relative_to(cache).parts if path.is_relative_to(cache) else ('',)
    return f'{parts[0]}://{"/".join(parts[1:])}' if _ROOTS.fullmatch(root) and len(parts) > 1 else None


def folder_of(address: str | Path) -> str | None:
    """The address of the folder in which the file of an address is; None of a bucket or repository itself."""
    scheme, *names = _parts(str(address))
    least = _place_of_name(names) + 1 if scheme == HUB else 1
    return f'{scheme}://{"/".join(names[:-1])}' if len(names) > least else None


def place_of(path: Path) -> str:
    """What to call a folder: by its address if it is a copy."""
    return address_of(path) or str(path)


@contextlib.contextmanager
def by_address() -> Iterator[None]:
    """Has the message of a `UserError` call copies by their addresses."""
    try:
        yield
    except UserError as error:
        error.args = (in_addresses(str(error)),)
        raise


def in_addresses(text: str) -> str:
    """A text in which the paths of copies are replaced by the addresses that they are of."""
    cache = re.escape(str(cache_folder(COPIES).parent))
    return re.sub(rf'{cache}/(?:{_ROOTS.pattern})/(gs|s3|hf)/', r'\2://', text)


def lacks_client(scheme: str) -> UserError:
    """What is raised where the package is missing that addresses of a scheme, such as `gs`, need."""
    package, extra, _ = _CLIENTS[scheme]
    return UserError(f"{scheme}:// needs the package {package}; install it by pip install 'vq_jax[{extra}]'.")


def refuse_address(name: str, place: str) -> None:
    """Raises `UserError` for the address of a folder whose files are read where they are."""
    if is_address(place):
        remedy = 'mount the bucket, with gcsfuse say, which fetches the parts of files that are asked for,'
        if is_on_the_hub(place):
            remedy = 'download them, by hf download,'
        raise UserError(
            f'{name} is {place}, and such files are read from a disk; {remedy} and give the folder where '
            'they are.'
        )


def _parts(address: str) -> tuple[str, ...]:
    found = _ADDRESS.fullmatch(address)
    parts = (found[1], found[2], *filter(None, found[3].split('/'))) if found else ()
    if parts[:1] == (HUB,):
        return _parts_on_the_hub(address, parts)
    if not found or not all(_is_name(part) for part in parts):
        raise UserError(
            f'{address!r} is no address of a folder in a bucket; write it as gs://BUCKET/FOLDER, without '
            "'//', '.', '..', '*', '?', '#' and brackets in it."
        )
    return parts


def _parts_on_the_hub(address: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of an address of the Hub, with the revision, if there is one, after the name."""
    scheme, *names = parts
    *before, last = names
    place = _place_of_name(names)
    if len(names) > place + 1 and '@' in last and not any('@' in name for name in before):
        last, _, revision = last.rpartition('@')
        before[place] += f'@{revision}'
        names = [*before, last]
    named = [part for name in names for part in name.split('@')]
    if len(names) <= place or names[0] in _OTHERS_ON_THE_HUB or not all(map(_is_name, named)):
        raise UserError(
            f'{address!r} is no address on the Hugging Face Hub; write it as hf://OWNER/NAME, '
            'hf://OWNER/NAME/FOLDER or, of another revision than main, hf://OWNER/NAME@REVISION.'
        )
    return scheme, *names


def _place_of_name(names: Sequence[str]) -> int:
    """Which part of an address of the Hub is NAME."""
    return 2 if names[0] == _DATASETS else 1


def _is_name(part: str) -> bool:
    return part not in ('', '.', '..') and part.isprintable()


class BucketFolder:
    """What is below an address. Names are relative to it, with slashes.

    Attributes:
        address: as `gs://BUCKET/FOLDER`.

    Raises:
        UserError: it is no address, or the client for it is not installed.
    """

    def __init__(self, address: str | Path) -> None:
        scheme, *parts = _parts(str(address))
        self._path = '/'.join(parts)
        self.address = f'{scheme}://{self._path}'
        self._login = _CLIENTS[scheme][2]
        self._files = _client(scheme)

    def list(self, below: str = '') -> dict[str, Stored]:
        """The objects below a name, by their names."""
        path = f'{self._path}/{below}'.rstrip('/')
        with self._asking():
            self._files.invalidate_cache()
            try:
                found = self._files.find(path, detail=True)
            except FileNotFoundError:  # the bucket itself, of some clients
                return {}
        # Where there is an object of the very name of the folder, that is found.
        full = {name.lstrip('/'): entry for name, entry in found.items()}
        named = {name[len(self._path) + 1 :]: entry for name, entry in full.items() if name != path}
        return {
            name: Stored(int(entry['size']), _modified(entry))
            for name, entry in named.items()
            if all(map(_is_name, name.split('/')))
        }

    def read(self, name: str) -> bytes:
        """The content of an object; raises `FileNotFoundError` if there is none."""
        with self._asking():
            return self._files.cat_file(self._full(name))

    def download(self, objects: Mapping[str, Stored], folder: Path) -> None:
        """Copies objects below a folder, with their times; each file is there whole, or as it was.

        Those that were deleted meanwhile are left out. Raises `UserError` if one cannot be read, or written
        there.
        """

        def copy(item: tuple[str, Stored]) -> None:
            name, stored = item
            path = folder / name
            with telling(f'Cannot copy {self.address}/{name} to the cache', _ROOM):
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, temporary = tempfile.mkstemp(
                    prefix=_temporary(path), suffix=_TEMPORARY, dir=path.parent
                )
                os.close(handle)
                there = True
                try:
                    with self._asking():
                        try:
                            self._files.get_file(self._full(name), temporary)
                        except FileNotFoundError:
                            there = False
                    if there:
                        os.utime(temporary, (stored.modified, stored.modified))
                        _sync(temporary)
                        os.replace(temporary, path)
                finally:
                    Path(temporary).unlink(missing_ok=True)

        _each(copy, objects.items())

    def upload(self, files: Mapping[str, Path]) -> None:
        """Makes objects of files that nobody changes; raises `UserError` if one cannot be written."""

        def copy(item: tuple[str, Path]) -> None:
            with self._asking():
                self._files.put_file(str(item[1]), self._full(item[0]))

        _each(copy, files.items())

    def write(self, name: str, content: bytes, *, new: bool = False) -> None:
        """Makes or replaces an object.

        Args:
            name: of the object.
            content: of it.
            new: whether there must be none of that name: of several processes, one succeeds.

        Raises:
            FileExistsError: there is one.
            UserError: it cannot be written.
        """
        with self._asking():
            self._files.pipe_file(self._full(name), content, mode='create' if new else 'overwrite')

    def delete(self, names: Iterable[str]) -> None:
        """Deletes objects, as far as they are there; raises `UserError` if one cannot be deleted."""

        def delete(name: str) -> None:
            with self._asking(), contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._full(name))

        _each(delete, names)

    def copy_to(
        self, folder: Path, wanted: Callable[[str], bool], most_bytes: int | None = None
    ) -> dict[str, Stored]:
        """Makes the files below a folder that are wanted, by their names, those that are here.

        Returns what is in the bucket, wanted or not. What has the size and the time of an object is taken for
        a copy of it. Raises `UserError` as `download` does, and for one of more than `most_bytes`.
        """
        found = self.list()
        there = {name: stored for name, stored in found.items() if wanted(name)}
        for name, stored in there.items():
            if most_bytes and stored.size > most_bytes:
                raise UserError(
                    f'{self.address}/{name} has {stored.size:,} bytes; at most {most_bytes:,} are copied.'
                )
        for path in [path for path in folder.rglob('*') if path.is_file()]:
            name = path.relative_to(folder).as_posix()
            if wanted(name) and name not in there:
                path.unlink(missing_ok=True)
        self.download({name: x for name, x in there.items() if not _is_copy(folder / name, x)}, folder)
        return found

    def copy_all(self, names: Collection[str], folder: Path) -> None:
        """Makes files below a folder of objects that are all there and stay as they are, such as shards.

        What has the size and the time of an object is taken for a copy of it. Of the processes of a machine,
        one copies at a time.

        Raises:
            UserError: one is not in the bucket, changes meanwhile or does not come whole, or the disk has too
                little room.
        """
        with telling(f'Cannot copy {self.address} to the cache', _ROOM):
            folder.mkdir(parents=True, exist_ok=True)
            with turn(folder / '.lock'):
                own = {(folder / name).parent / _temporary(folder / name) for name in names}
                for place in {path.parent for path in own}:
                    for left in place.glob(f'.*{_TEMPORARY}'):
                        begin = left.name.removesuffix(_TEMPORARY).rpartition('.')[0] + '.'
                        if place / begin in own:  # by a process that was killed
                            left.unlink(missing_ok=True)
                self._copy_all(names, folder)

    def _copy_all(self, names: Collection[str], folder: Path) -> None:
        there = self.list()
        if absent := sorted(set(names) - there.keys()):
            others = f', and neither are {plural(len(absent) - 1, "other")}' if len(absent) > 1 else ''
            raise UserError(
                f'{self.address}/{absent[0]} is not in the bucket{others}; copy there what is missing.'
            )
        wanted = {name: there[name] for name in names}
        lacking = {name: x for name, x in wanted.items() if not _is_copy(folder / name, x)}
        if not lacking:
            return
        needed, free = sum(stored.size for stored in lacking.values()), shutil.disk_usage(folder).free
        what = f'{plural(len(lacking), "file")} of {self.address}, {needed:,} bytes'
        if needed > free:
            raise UserError(
                f'{what}, are needed, and there is room for {free:,} in {cache_folder(COPIES)}; {_ROOM}.'
            )
        logging.warning('copying %s, to %s', what, cache_folder(COPIES))
        self.download(lacking, folder)
        after = self.list()
        for name, stored in wanted.items():
            if after.get(name) != stored or (folder / name).stat().st_size != stored.size:
                raise UserError(
                    f'{self.address}/{name} changed while it was copied, or did not come whole; run the same '
                    'command again when nobody writes there.'
                )

    def _full(self, name: str) -> str:
        return f'{self._path}/{name}'

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError, MemoryError):
            raise
        except Exception as error:  # of kinds of the clients, and of what they are built on
            if isinstance(error, OSError) and error.errno in _FULL:
                raise  # it is the disk of this machine
            raise BucketError(
                f'{self.address} cannot be used ({type(error).__name__}: {first_line(error)[:300]}); check '
                f'its name, the network, and that you are logged in (as by {self._login}) and may use it.'
            ) from error


def _each(function: Callable[[Any], None], items: Iterable[Any]) -> None:
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE, thread_name_prefix='bucket') as pool:
        for _ in pool.map(function, items):
            pass


def _temporary(path: Path) -> str:
    """What the name of a file begins with while it is written; names have at most 255 bytes."""
    return f'.{path.name[:50]}.'


def _sync(path: str) -> None:
    """Returns when a file is on the disk: else a power cut could leave another of its size and time."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_copy(path: Path, stored: Stored) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_size == stored.size and abs(status.st_mtime - stored.modified) < 1e-3


def _modified(entry: Mapping[str, Any]) -> float:
    """When an object was written; each client has a name of its own for that."""
    if 'last_commit' in entry:  # of the Hub
        return entry['last_commit'].date.timestamp()
    time = next(entry[key] for key in ('mtime', 'LastModified', 'created') if entry.get(key) is not None)
    if isinstance(time, str):
        time = datetime.datetime.fromisoformat(time)
    return time if isinstance(time, float) else time.timestamp()


def _client(scheme: str) -> Any:
    login = _CLIENTS[scheme][2]
    try:
        import fsspec

        return fsspec.filesystem(scheme, use_listings_cache=False, **_OPTIONS.get(scheme, {}))
    except ImportError as error:
        raise lacks_client(scheme) from error
    except Exception as error:  # of kinds of the client, such as for credentials that cannot be found
        raise BucketError(
            f'{scheme}:// cannot be used ({type(error).__name__}: {first_line(error)[:300]}); log in, as by '
            f'{login}.'
        ) from error

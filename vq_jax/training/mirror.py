"""A run that is trained on this machine and kept in a bucket, which has no append, no rename and no locks.

Training writes a run directory in the user's cache as it writes any, and what it wrote is copied to the
bucket, which alone is what counts: who starts again, here or elsewhere, begins with what is there.

- A checkpoint is there when its manifest is, which is written last, and deleted first.
- Files that grow, as logs do, are written again whole: an object is never half of one.
- One process has the lease: the object `.lease/<number>` of the greatest number. Whoever takes over makes the
  next number, which a bucket lets only one do, and who finds a greater one than its own writes no more. The
  lease is renewed, and one that was not for `LEASE_SECONDS`, between the clock of the bucket, which says when
  it was written, and that of the machine that asks, has ended.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NotRequired, TypedDict

import jax
from absl import logging
from jax.experimental import multihost_utils

from vq_jax.buckets import SCRATCH, BucketError, BucketFolder, copy_of, is_on_the_hub
from vq_jax.errors import UserError
from vq_jax.files import telling, write_atomically
from vq_jax.json_files import parse_json
from vq_jax.locks import lock_file
from vq_jax.training.bucket_runs import remove_incomplete
from vq_jax.training.checkpoints import MANIFEST
from vq_jax.training.run_dir import CHECKPOINTS, CONFIG_NAME

LEASE_SECONDS = 180
_EVERY_SECONDS = 30  # what has changed is copied, and the lease renewed
_LEASE = '.lease/'
# Names the directory of this machine: a lease that was taken from there has ended, as its lock has.
_IDENTITY = '.scratch'
# What is being written, is of this machine, or belongs to a checkpoint of the run itself.
_LEFT_OUT = re.compile(rf'(.*/)?(\.|\d+\.(saving|deleted)).*|{CHECKPOINTS}/(\d+|damaged)/.*', re.ASCII)
# Of checkpoints, what is copied as training begins; the rest follows when it is read.
_ARRAYS = re.compile(rf'(.*/)?{CHECKPOINTS}/\d+/(?!{MANIFEST}$).*', re.ASCII)


class _Lease(TypedDict):
    """Who holds it.

    Attributes:
        owner: the machine and process, for people.
        since: when it was taken, for people.
        scratch: the identity of the directory that is trained in.
        released: whether it was given back.
    """

    owner: str
    since: str
    scratch: str
    released: NotRequired[bool]


class Mirror:
    """The run in a bucket, and the directory of this machine in which it is trained.

    Attributes:
        address: of the run.
        local: the directory.
    """

    def __init__(self, address: str) -> None:
        if is_on_the_hub(address):
            raise UserError(
                f'{address} is read, and not trained in; train in a directory, and upload the run by '
                f'python -m vq_jax.convert DIRECTORY --upload {address}.'
            )
        self._bucket = BucketFolder(address)
        # Several processes of one machine have a directory each.
        index = jax.process_index()
        self.address = self._bucket.address
        self.local = copy_of(address, f'{SCRATCH}-{index}' if index else SCRATCH)
        # Objects, and of what files: None of those that are not there until they are read, and never change.
        self._known: dict[str, tuple[int, int] | None] = {}
        self._pushing = threading.Lock()
        self._number = 0

    @contextlib.contextmanager
    def held(self) -> Iterator['Mirror']:
        """Holds the run for this process, and the directory as the bucket is; copies what is written there.

        With several processes all of them call it; process 0 holds the run, and writes it for all.

        Raises:
            UserError: another process trains there, or the bucket cannot be read or written.
        """
        lock = self.local.parent / f'.{self.local.name}.lock'
        with telling(f'Cannot write to {self.local}', 'choose another cache (XDG_CACHE_HOME)'):
            self.local.mkdir(parents=True, exist_ok=True)
        with lock_file(lock) as alone:
            if alone is None:
                raise _taken(self.address, 'another process of this machine')
            first = jax.process_index() == 0
            if first:
                self._acquire()
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices(f'begin in {self.address}')
            self._begin(first)
            if not first:
                yield self
                return
            ended = threading.Event()
            thread = threading.Thread(target=self._keep, args=[ended], name='bucket', daemon=True)
            thread.start()
            try:
                yield self
            except BaseException:
                ended.set()
                thread.join()
                with contextlib.suppress(UserError):  # what happened before is what is to be told
                    self._end()
                raise
            ended.set()
            thread.join()
            self._end()

    def publish(self, step: int) -> None:
        """Copies a checkpoint to the bucket, after all that was logged before it.

        Raises:
            UserError: it cannot be written, or another process took over.
        """
        self._push()
        below = f'{CHECKPOINTS}/{step}/'
        folder = self.local / below
        self.remove(step)  # one of this step may be there, which was damaged
        files = {path.relative_to(self.local).as_posix(): path for path in _files(folder)}
        manifest = files.pop(f'{below}{MANIFEST}')
        self._bucket.upload(files)
        self._renew()
        self._bucket.write(f'{below}{MANIFEST}', manifest.read_bytes())

    def remove(self, step: int) -> None:
        """Deletes a checkpoint from the bucket, if there is one; raises `UserError` if it cannot."""
        below = f'{CHECKPOINTS}/{step}/'
        self._bucket.delete([f'{below}{MANIFEST}'])
        self._bucket.delete(self._bucket.list(below))

    def _begin(self, first: bool) -> None:
        """Makes the directory what the bucket is; the first process clears away what a kill left there."""
        there = self._bucket.copy_to(
            self.local, lambda name: not (_ARRAYS.fullmatch(name) or name.startswith('.'))
        )
        checkpoint = re.compile(rf'{CHECKPOINTS}/(\d+)/.+', re.ASCII)
        for step in {found[1] for name in there if (found := checkpoint.fullmatch(name))}:
            if first and f'{CHECKPOINTS}/{step}/{MANIFEST}' not in there:
                self.remove(int(step))
        remove_incomplete(self.local)
        self._known = {name: _stamp(self.local / name) for name in there if not _LEFT_OUT.fullmatch(name)}

    def _keep(self, ended: threading.Event) -> None:
        told = False
        while not ended.wait(_EVERY_SECONDS):
            try:
                self._push()
            except (
                UserError,
                OSError,
            ) as error:  # which ends the run at its next checkpoint, if it is still so
                if not told:
                    logging.warning('%s Until then nothing is copied there.', error)
                told = True

    def _push(self) -> None:
        """Copies the small files that have changed, and deletes the objects of those that are gone."""
        with self._pushing:
            self._renew()
            names = [path.relative_to(self.local).as_posix() for path in _files(self.local)]
            here = {name: _stamp(self.local / name) for name in names if not _LEFT_OUT.fullmatch(name)}
            changed = [name for name, stamp in here.items() if self._known.get(name, ()) not in (None, stamp)]
            # With its config a run is there, and with that of a copy that it is built on the copy.
            for name in sorted(changed, key=lambda name: (Path(name).name == CONFIG_NAME, MANIFEST in name)):
                with contextlib.suppress(FileNotFoundError):  # it was removed just now
                    self._bucket.write(name, (self.local / name).read_bytes())
                    self._known[name] = here[name]
            gone = [name for name in self._known if name not in here and not _ARRAYS.fullmatch(name)]
            self._bucket.delete(gone)
            for name in gone:
                del self._known[name]

    # The lease.

    def _acquire(self) -> None:
        newest, record, age = self._newest()
        scratch = self.local / _IDENTITY
        if not scratch.is_file():
            write_atomically(scratch, uuid.uuid4().hex)
        self._scratch = scratch.read_text()
        if (
            record
            and not record.get('released')
            and record['scratch'] != self._scratch
            and age < LEASE_SECONDS
        ):
            raise _taken(
                self.address,
                f'{record["owner"]}, since {record["since"]}',
                f', or, if that has ended, for {LEASE_SECONDS - age:.0f} seconds',
            )
        self._number = newest + 1
        self._since = time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime())
        try:
            self._write_lease(new=True)
        except FileExistsError as error:
            # Of a client that asked twice because no answer came, it may be its own.
            _, record, _ = self._newest()
            if not record or record['scratch'] != self._scratch:
                raise _taken(self.address, 'another process, which began at the same moment,') from error
        self._bucket.delete(name for name in self._bucket.list(_LEASE) if name < self._lease_name)

    def _renew(self) -> None:
        """Raises `UserError` unless the lease is still this process's."""
        newest, record, _ = self._newest()
        if newest != self._number or not record or record['scratch'] != self._scratch:
            owner = record['owner'] if record else 'another process'
            raise BucketError(
                f'{owner} took over training in {self.address}, because this process was not seen there for '
                f'{LEASE_SECONDS} seconds; it writes no more. Start it again only when the other has ended.'
            )
        if time.monotonic() - self._renewed > _EVERY_SECONDS / 2:  # an object takes one change a second
            self._write_lease()

    def _end(self) -> None:
        self._push()
        self._write_lease(released=True)

    @property
    def _lease_name(self) -> str:
        return f'{_LEASE}{self._number:09d}'

    def _write_lease(self, *, new: bool = False, released: bool = False) -> None:
        owner = f'process {os.getpid()} of {socket.gethostname()}'
        record: _Lease = {
            'owner': owner,
            'since': self._since,
            'scratch': self._scratch,
            'released': released,
        }
        self._bucket.write(self._lease_name, json.dumps(record).encode(), new=new)
        self._renewed = time.monotonic()

    def _newest(self) -> tuple[int, _Lease | None, float]:
        """The number of the newest lease, what it says, and how old it is in seconds; 0 if there is none."""
        there = self._bucket.list(_LEASE)
        names = [name for name in sorted(there) if re.fullmatch(rf'{_LEASE}\d{{9}}', name, re.ASCII)]
        if not names:
            return 0, None, 0.0
        where = f'{self.address}/{names[-1]}'
        with contextlib.suppress(FileNotFoundError):
            record = parse_json(self._bucket.read(names[-1]), _Lease, where=where, advice='delete it')
            return int(names[-1][len(_LEASE) :]), record, time.time() - there[names[-1]].modified
        raise BucketError(f'{where} was taken over just now; start again when the other process has ended.')


def _taken(address: str, owner: str, until: str = '') -> UserError:
    return UserError(
        f'{owner} is training in {address}; wait for its end{until}, or choose another --workdir.'
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.is_file())


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes with the content of a file; None if it is not there."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    return None

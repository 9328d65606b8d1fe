"""Runs in buckets: a copy of what is needed of one, by which it is opened as any other.

The small files of a run are copied whenever it is opened, and the files of a checkpoint when that is read,
which compares them with the checksums in its manifest. A checkpoint is there when its manifest is.
"""

import contextlib
import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from vq_jax.buckets import BucketFolder, address_of, copy_of, is_address
from vq_jax.files import is_inside, sha256_of
from vq_jax.locks import opened_folder, try_lock
from vq_jax.training.checkpoints import MANIFEST
from vq_jax.training.manifest import DamagedError, unseal
from vq_jax.training.metrics_log import METRICS_NAME
from vq_jax.training.run_dir import BUILT_ON, CHECKPOINTS, CONFIG_NAME, DATA_NAME

_OPENED = re.compile(rf'({BUILT_ON}/\w+/)*({CONFIG_NAME}|{DATA_NAME}|{CHECKPOINTS}/\d+/{MANIFEST})', re.ASCII)
_MOST_BYTES = 2**30  # of a file that is copied whenever a run is opened
_SHOWN = re.compile(
    rf'{METRICS_NAME}|images/[^/]+\.png|animations/[^/]+\.gif|sounds/[^/]+\.wav|texts/[^/]+\.txt'
)


def local_run(workdir: str | Path, *, logs: bool = False) -> Path:
    """The directory of a run on this machine: of one in a bucket, a copy of what is small as it is now.

    Args:
        workdir: a directory, which is returned, or an address.
        logs: whether the log and the media are needed too.

    Raises:
        UserError: it is an address that cannot be read.
    """
    if not is_address(workdir):
        return Path(workdir)
    local = copy_of(workdir)
    _copy(BucketFolder(workdir), local, logs=logs)
    return local


def fetcher(workdir: Path) -> Callable[[int], None] | None:
    """What `Checkpoints` of a run need to read its checkpoints if it is a copy of one in a bucket."""
    address = address_of(workdir)
    return functools.partial(_fetch, BucketFolder(address), workdir) if address else None


def _copy(bucket: BucketFolder, local: Path, *, logs: bool) -> None:
    def wanted(name: str) -> bool:
        return bool(_OPENED.fullmatch(name) or (logs and _SHOWN.fullmatch(name)))

    bucket.copy_to(local, wanted, _MOST_BYTES)
    remove_incomplete(local)


def remove_incomplete(local: Path) -> None:
    """Removes what is left of checkpoints that are not in the bucket: they have no manifest."""
    for folder in [*local.glob(f'**/{CHECKPOINTS}/*')]:
        if folder.name.isdecimal() and not (folder / MANIFEST).exists():
            with contextlib.suppress(FileNotFoundError), opened_folder(folder) as descriptor:
                if try_lock(descriptor):  # else another process is reading it, and it goes another time
                    shutil.rmtree(folder)


def _fetch(bucket: BucketFolder, local: Path, step: int) -> None:
    """Copies the files of a checkpoint that are not there as its manifest says."""
    below = f'{CHECKPOINTS}/{step}/'
    there = bucket.list(below)
    if f'{below}{MANIFEST}' not in there:  # it was pruned meanwhile
        _copy(bucket, local, logs=False)
        return
    try:
        files = unseal(local / below / MANIFEST)['files']
    except DamagedError:  # which is said where it is read
        return
    lacking = {
        f'{below}{name}': there[f'{below}{name}']
        for name, file in files.items()
        if is_inside(name)
        and there.get(f'{below}{name}') is not None
        and there[f'{below}{name}'].size == file['size']
        and not _is_as_written(local / below / name, file['sha256'])
    }
    bucket.download(lacking, local)


def _is_as_written(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False

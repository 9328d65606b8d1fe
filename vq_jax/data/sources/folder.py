"""Any folder of images, of video, or of sound, as a data set."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging

from vq_jax.data.captions import CaptionFiles
from vq_jax.data.names import Names
from vq_jax.data.source import SPLIT_NAMES, Record, Source, parts_of
from vq_jax.data.transforms import TRANSFORMS
from vq_jax.data.transforms.video_files import ANIMATED
from vq_jax.errors import UserError, plural
from vq_jax.files import read_file
from vq_jax.spec import Kind

KINDS: dict[str, Kind] = {suffix: kind for kind, cls in TRANSFORMS.items() for suffix in cls.suffixes}
_SPLIT_FOLDERS = tuple(name for names in SPLIT_NAMES for name in names)
TEST_SHARE = 0.1


class FolderSource(Source):
    """Files found anywhere below a folder, of the kind of data that most of them are of.

    As video, animated images are examples too, and so is every folder of images that has no video beside
    them: its images are the frames, in the order of the numbers in their names.

    If the folder has a sub-folder `train`, then its sub-folders of the names in `SPLIT_NAMES`, in
    upper case or lower, are the splits. Otherwise every file goes to `train` or, one in ten, to `test`
    by a hash of its path below the folder, so that adding files moves none of the others. Below
    a split, the first level of folders gives the classes if every file is in one. A pattern may
    give splits and classes by the names of the files instead. Examples are
    ordered by that hash too, so that a slice such as `train[90%:]` is a fair sample of all classes.
    """

    use_orientation = True

    def __init__(
        self,
        folder: str,
        split: str,
        split_key: str = 'the split',
        name_pattern: str | None = None,
        as_video: bool = False,
        captioned: bool = False,
    ) -> None:
        """Lists the examples of a split.

        Args:
          folder: Its path, in which `~` is understood.
          split: In the syntax of tensorflow-datasets.
          split_key: What to call it in messages.
          name_pattern: What it finds in the paths below the folder comes before what folders say (see
            `DataConfig`).
          as_video: Whether images are frames.
          captioned: Whether to read their captions (see `DataConfig.caption_length`).

        Raises:
          UserError: If the folder or the split is not there or has no such files, a folder below cannot be
            read, the pattern does not fit a path, or there are no captions.
        """
        root = Path(folder).expanduser()
        if not folder or not os.path.isdir(root):
            fault = 'is a file, not a folder' if os.path.isfile(root) else 'is not there'
            raise UserError(f'The folder {str(root)!r} {fault}: check the path in config.data.name.')
        self.name = f'{root} ({split})'
        self.kind, paths = example_paths(root, as_video)
        transform = TRANSFORMS[self.kind]
        self.shape = transform.file_shape
        noun = transform.noun
        self._names = Names(name_pattern, paths, f'folder {root}')
        below = {path: path for path in paths}
        if self._names.splits is not None:
            splits = {name: [paths[i] for i in members] for name, members in self._names.splits.items()}
        elif any(name.lower() in SPLIT_NAMES[0] and os.path.isdir(root / name) for name in os.listdir(root)):
            splits = _split_folders(paths)
            if not splits:
                raise UserError(
                    f'The folders of splits in {str(root)!r} have no {noun} in them: put some there, and '
                    'frames of a video in a folder of its own.'
                )
            below = {path: path.split('/', 1)[1] for paths in splits.values() for path in paths}
        else:
            splits = _hashed(paths)
        self._root = str(root)
        self._paths = _select(split, splits, self._root, split_key, noun)
        self._by_path = transform.by_path
        if self._names.class_names is not None:
            self.class_names = self._names.class_names
            self._labels = [self._names.label(path) for path in self._paths]
        else:
            self.class_names, labels = _labels_by_folder(below, root, noun)
            self._labels = [labels[path] for path in self._paths]
        self.conditions = self._names.conditions
        self.captioned = captioned
        self._captions = CaptionFiles(root, self._paths) if captioned else None

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, indices: Sequence[int]) -> list[Record]:
        """Returns the content or the path of each file, and what is known of it; or why it cannot be read."""
        return [self._record(index) for index in indices]

    def _record(self, index: int) -> Record:
        name, path = self._paths[index], Path(self.describe(index))
        try:
            captions = self._captions.texts(name) if self._captions else ()
            stored = path if self._by_path else read_file(path)
        except (OSError, UserError) as error:
            return Record(error)
        return Record(stored, self._labels[index], self._names.conditions_of(name), captions)

    def describe(self, index: int) -> str:
        """Returns the path of the file."""
        return os.path.join(self._root, self._paths[index])


def example_paths(root: Path, as_video: bool) -> tuple[Kind, list[str]]:
    """Lists the examples of one kind below a folder, as paths with `/` relative to it, in hashed order.

    Returns:
      The kind that most are of, and those that are of it.

    Raises:
      UserError: If there are none, or a folder cannot be read.
    """
    found, seen, waiting = [], set(), ['']
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(root / folder)
            if (status.st_dev, status.st_ino) in seen:  # a link to a folder above would otherwise never end
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                visible = [entry for entry in entries if not entry.name.startswith('.')]
        except OSError as error:
            raise UserError(
                f'The folder {str(root / folder)!r} cannot be read ({error.strerror}): make it readable, or '
                f'move it out of {str(root)!r}.'
            ) from error
        folders, here = [], []
        for entry in visible:
            path = f'{folder}/{entry.name}' if folder else entry.name
            if _is_folder(entry):
                folders.append(path)
            elif (suffix := Path(entry.name).suffix.lower()) in KINDS:
                here.append((path, 'video' if as_video and suffix in ANIMATED else KINDS[suffix]))
        found += _with_frames(folder, here) if as_video else here
        waiting += sorted(folders, reverse=True)
    above = {parent for path, _ in found if path for parent in _parents(path)} if as_video else ()
    if stray := [path for path, _ in found if path in above]:  # folders of which others are parts
        told = 'folder %s: images that lie beside folders of videos are left out, as in %s'
        logging.warning(told, root, root / stray[0])
        found = [(path, kind) for path, kind in found if path not in above]
    if not found:
        raise UserError(
            f'No images, videos or recordings were found in {str(root)!r}: it needs files that end in '
            f'{", ".join(KINDS)}.'
        )
    counts = Counter(kind for _, kind in found)
    kind = max(TRANSFORMS, key=lambda kind: counts[kind])  # of as many, the first
    if len(counts) > 1:
        told = 'folder %s: of %s, only the %d of %s are used'
        logging.warning(told, root, dict(counts), counts[kind], kind)
    return kind, sorted((path for path, other in found if other == kind), key=_hash)


def _with_frames(folder: str, files: list[tuple[str, Kind]]) -> list[tuple[str, Kind]]:
    """Puts a folder in the place of the images in it, whose frames they are, unless it has videos."""
    others = [(path, kind) for path, kind in files if kind != 'image']
    frames = len(others) < len(files) and all(kind != 'video' for _, kind in others)
    return [*others, (folder, 'video')] if frames else others


def _parents(path: str) -> list[str]:
    """The folders that a path is in, of which the outermost is ''."""
    parts = path.split('/')
    return ['/'.join(parts[:i]) for i in range(len(parts))]


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _hash(path: str) -> float:
    """Returns a number in [0, 1) that depends on the path alone."""
    return int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:8], 'big') / 2**64


def _hashed(paths: list[str]) -> dict[str, list[str]]:
    """Splits files in hashed order into train and test, neither empty if possible."""
    tests = sum(_hash(path) < TEST_SHARE for path in paths)
    tests = min(max(tests, 1), max(len(paths) - 1, 1))
    return {'train': paths[tests:], 'test': paths[:tests]}


def _split_folders(paths: list[str]) -> dict[str, list[str]]:
    """Sorts files by the split folder they are in, and drops those in none."""
    splits: dict[str, list[str]] = {}
    for path in paths:
        folder, below, _ = path.partition('/')
        if below and folder.lower() in _SPLIT_FOLDERS:
            splits.setdefault(folder.lower(), []).append(path)
    return {name: splits[name] for name in _SPLIT_FOLDERS if name in splits}


def _labels_by_folder(
    below: Mapping[str, str], root: Path, noun: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Takes the first level of folders for classes, if every file is in one.

    Args:
      below: By the path of each file, what it is below its split.
      root: For messages.
      noun: The same.

    Returns:
      The names of the classes, and the number of the class of each path.
    """
    in_folder = ['/' in path for path in below.values()]
    if any(in_folder) and not all(in_folder):
        logging.warning('folder %s: not every %s is in a sub-folder, so there are no classes', root, noun)
    if not all(in_folder):
        return (), dict.fromkeys(below, 0)
    classes = {path: rest.split('/')[0] for path, rest in below.items()}
    names = tuple(sorted(set(classes.values())))
    number = {name: label for label, name in enumerate(names)}
    return names, {path: number[name] for path, name in classes.items()}


def _select(split: str, splits: dict[str, list[str]], root: str, split_key: str, noun: str) -> list[str]:
    """Returns the files of a split in the syntax of tensorflow-datasets."""
    there = ', '.join(f'{name} ({plural(len(paths), noun)})' for name, paths in splits.items())
    try:
        parts = parts_of(split, {name: len(paths) for name, paths in splits.items()})
    except UserError as error:
        raise UserError(
            f'Split {split!r} of folder {root!r} cannot be read: it has {there}; set {split_key} to one of '
            "them, to a part such as 'train[90%:]', or to 'all'."
        ) from error
    chosen = [splits[name][i] for name, indices in parts for i in indices]
    if not chosen:
        raise UserError(
            f'Split {split!r} of folder {root!r} has no {noun}s: it has {there}; set {split_key} to another, '
            "or config.data.train_split and config.data.eval_split to 'all', to use the same for both."
        )
    return chosen

"""Data sets in tensorflow-datasets' ArrayRecord format, read without TensorFlow.

One in a bucket is read from a copy on this machine: what describes it is copied when it is looked for, and
the shards of a split when that is opened.
"""

import contextlib
import dataclasses
import json
import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
from absl import logging

from vq_jax.buckets import BucketFolder, address_of, copy_of, is_address, place_of
from vq_jax.data.config import DataConfig
from vq_jax.data.names import Names
from vq_jax.data.source import Record, Source, known_split, parts_of
from vq_jax.errors import UserError, nearest, plural
from vq_jax.files import MOST_BYTES, is_inside, telling
from vq_jax.json_files import read_json

_VERSION = re.compile(r'\d+\.\d+\.\d+')
_INFO = 'dataset_info.json'
# What is not shards, below the name of a data set: NAME, NAME/VERSION, or NAME/CONFIG/VERSION.
_ABOUT = re.compile(r'([^/]+/){0,2}[^/]+\.(json|txt)')
_DAMAGE = OSError, RuntimeError, ValueError  # what the reader of ArrayRecord files raises for them
_OWN_FEATURES = 'tensorflow_datasets.core.features.'
_AUDIO, _VIDEO, _IMAGE, _SEQUENCE, _TENSOR, _TEXT = (
    f'{_OWN_FEATURES}{module}_feature.{module.title()}'
    for module in ('audio', 'video', 'image', 'sequence', 'tensor', 'text')
)
_AGAIN = 'prepare the data set again, in another folder'


@dataclasses.dataclass(frozen=True)
class _Configs:
    """What tensorflow-datasets writes about the configs of a data set."""

    default_config_name: str = ''


class TfdsSource(Source):
    """One split of a data set that tensorflow-datasets has written to disk.

    The data set is opened from its folder and not through tensorflow-datasets' registry of names,
    which would ask the network about a name that it does not find. Images, frames of video, and sound in
    files are left encoded, so that a damaged one is this package's to skip.
    """

    use_orientation = False  # as in tensorflow-datasets' own decoding, which published numbers rest on

    def __init__(self, folder: Path, split: str, config: DataConfig) -> None:
        """Opens a split, in tensorflow-datasets' syntax, of a folder of one version, as `find` returns it.

        Raises:
          UserError: If the data set has another format, or lacks the split or the features.
        """
        import tensorflow_datasets as tfds

        name, label_key = config.name, config.label_key
        builder = open_builder(name, folder)
        self.name = f'{name} ({split})'
        features = dict(builder.info.features.items())
        image, sounds = features.get(config.image_key), _sounds(folder)
        videos = {key: feature for key, feature in features.items() if _is_video(feature)}
        if config.num_tokens is not None:
            self.kind, key, self.shape = 'text', config.text_key, (None,)
            if not isinstance(features.get(key), tfds.features.Text):
                raise UserError(
                    f'{name} has no text under the name {key!r}: set config.data.text_key to one of '
                    f'{_keys(features, tfds.features.Text)}, or leave config.data.num_tokens out.'
                )
        elif isinstance(image, tfds.features.Image) and image.np_dtype.itemsize <= 2:
            self.kind, key = 'image', config.image_key
            *sizes, channels = image.shape
            self.shape = (*(sizes if all(sizes) else [None, None]), 1 if channels == 1 else 3)
        elif config.audio_key in sounds:
            self.kind, key = 'audio', config.audio_key
            self.shape = (None, 1)
            self.rate = sounds[key]
        elif sounds:
            raise UserError(
                f'{name} has no sound under the name {config.audio_key!r}: set config.data.audio_key to one '
                f'of {", ".join(map(repr, sorted(sounds)))}.'
            )
        elif config.video_key in videos:
            self.kind, key = 'video', config.video_key
            length, *sizes, channels = videos[key].shape
            self.shape = (length, *(sizes if all(sizes) else [None, None]), 1 if channels == 1 else 3)
            # Of records, what they hold of it: the contents of files.
            features[key] = tfds.features.Sequence(tfds.features.Text())
        elif videos:
            raise UserError(
                f'{name} has no video under the name {config.video_key!r}: set config.data.video_key to one '
                f'of {", ".join(map(repr, sorted(videos)))}.'
            )
        else:
            raise UserError(
                f'{name} has no images under the name {config.image_key!r}: set config.data.image_key to one '
                f'of {_keys(features, tfds.features.Image)}, or of text config.data.num_tokens.'
            )
        wanted = {key: features[key]}
        label = features.get(label_key)
        self._names, self._name_key = self._named(builder, features, config)
        self.conditions = self._names.conditions
        if config.name_pattern is not None:
            wanted[self._name_key] = features[self._name_key]
        self.captioned, self._caption_key = config.caption_length is not None, config.caption_key
        if self.captioned:
            wanted[self._caption_key] = _captions(features, config)
        if self._names.class_names is not None:
            self.class_names = self._names.class_names
        elif isinstance(label, tfds.features.ClassLabel) and label.num_classes:
            wanted[label_key] = label
            self.class_names = tuple(label.names)
        elif label is None and label_key == 'label':
            self.class_names = ()
        else:
            raise UserError(
                f'{name} has no class labels under the name {label_key!r}: set config.data.label_key to '
                f'one of {_keys(features, tfds.features.ClassLabel)}.'
            )
        self._key, self._label_key = key, label_key
        self._features = tfds.features.FeaturesDict(wanted)
        self._decoders = {key: tfds.decode.SkipDecoding()} if self.kind == 'image' else {}
        if self._names.splits is None:
            self._records = _records(builder, name, split, config.split_key(split))
            self._chosen = None
        else:
            self._records = _records(builder, name, 'all', config.split_key(split))
            self._chosen = self._split_by_name(split, config)

    def _named(self, builder: Any, features: Any, config: DataConfig) -> tuple[Names, str]:
        """Searches the names of all records, of all splits, and returns also the feature that they are."""
        import tensorflow_datasets as tfds

        key = config.name_key
        if config.name_pattern is None:
            return Names(None, (), config.name), key
        if not isinstance(features.get(key), tfds.features.Text):
            raise UserError(
                f'{config.name} has no text under the name {key!r} that config.data.name_pattern could be '
                f'searched in: set config.data.name_key to one of {_keys(features, tfds.features.Text)}.'
            )
        texts = tfds.features.FeaturesDict({key: features[key]})
        records = _records(builder, config.name, 'all', 'the split')
        try:
            names = [_text(texts.deserialize_example_np(records[i])[key]) for i in range(len(records))]
        except _DAMAGE as error:
            raise UserError(f'{config.name} has records without a name ({error}): {_AGAIN}.') from error
        return Names(config.name_pattern, names, config.name), key

    def _split_by_name(self, split: str, config: DataConfig) -> list[int]:
        """Returns the numbers of the records of a split that names give."""
        splits = self._names.splits
        try:
            parts = parts_of(split, {name: len(members) for name, members in splits.items()})
        except UserError as error:
            there = ', '.join(f'{name} ({plural(len(of), "example")})' for name, of in splits.items())
            raise UserError(
                f'Split {split!r} of {config.name} cannot be read: by config.data.name_pattern it has '
                f"{there}; set {config.split_key(split)} to one of them, or to a part such as 'train[90%:]'."
            ) from error
        return [splits[name][i] for name, indices in parts for i in indices]

    def __len__(self) -> int:
        return len(self._records) if self._chosen is None else len(self._chosen)

    def read(self, indices: Sequence[int]) -> list[Record]:
        """Returns what is stored and the label of each record; or why it cannot be read, and 0.

        Of images, and of sound that is stored in files, that is the content of a file, of video the contents
        of files of its frames, of other sound its samples [n] or [n c] and their rate, and of text a `str`.
        """
        numbers = [int(index) if self._chosen is None else self._chosen[int(index)] for index in indices]
        try:
            records = self._records.__getitems__(numbers)
        except _DAMAGE:  # of one record or more
            records = [self._record(number) for number in numbers]
        return [self._example(record) for record in records]

    def _record(self, number: int) -> bytes | Exception:
        try:
            return self._records[number]
        except _DAMAGE as error:
            return error

    def _example(self, record: bytes | Exception) -> Record:
        if isinstance(record, Exception):
            return Record(record)
        try:
            example = self._features.deserialize_example_np(record, decoders=self._decoders)
            stored = example[self._key]
            stored = (stored, self.rate) if isinstance(stored, np.ndarray) else stored
            stored = stored.decode() if self.kind == 'text' else stored
            label, conditions = int(example.get(self._label_key, 0)), {}
            if self._name_key in example:
                text = _text(example[self._name_key])
                label = label if self._names.class_names is None else self._names.label(text)
                conditions = self._names.conditions_of(text)
            captions = np.atleast_1d(example[self._caption_key]) if self.captioned else ()
            return Record(stored, label, conditions, tuple(map(_text, captions)))
        except MemoryError:
            raise
        except Exception as error:  # records that hold something else make it raise many kinds
            return Record(error)

    def describe(self, index: int) -> str:
        """Returns the name of the data set and the number of the record within the split."""
        return f'{self.name} record {index}'


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps tensorflow-datasets' remarks on its own work out of the log; warnings stay."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, logging.WARNING))
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _text(value: Any) -> str:
    """A text as a record holds it, as Python does."""
    return value.decode('utf-8', 'replace') if isinstance(value, bytes) else str(value)


def _captions(features: Any, config: DataConfig) -> Any:
    """Returns the feature that is the caption of a record, or are its captions."""
    import tensorflow_datasets as tfds

    found = features.get(config.caption_key)
    one = found.feature if isinstance(found, tfds.features.Sequence) else found
    if not isinstance(one, tfds.features.Text):
        raise UserError(
            f'{config.name} has no text under the name {config.caption_key!r}, of which '
            'config.data.caption_length would be: set config.data.caption_key to one of '
            f'{_keys(features, tfds.features.Text)}.'
        )
    return found


def _is_video(feature: Any) -> bool:
    """Whether a feature is a sequence of images of 8 or 16 bits."""
    import tensorflow_datasets as tfds

    images = feature.feature if isinstance(feature, tfds.features.Sequence) else None
    return isinstance(images, tfds.features.Image) and images.np_dtype.itemsize <= 2


def _keys(features: Any, kind: type) -> str:
    """Names the features of one kind, for a message."""
    names = [repr(key) for key in sorted(features) if isinstance(features[key], kind)]
    return ', '.join(names) or 'its features (it has none of that kind)'


def open_builder(name: str, folder: Path) -> Any:
    """Opens a folder of one version of a data set with a read-only builder of tensorflow-datasets.

    Raises:
      UserError: If it cannot be opened, is not in the ArrayRecord format, or names code that is not of
        tensorflow-datasets itself.
    """
    _check_files(name, folder)
    try:
        with quiet():
            builder = _read_only_builder(folder)
    except ImportError as error:
        raise UserError(
            f'{name} in {str(folder)!r} has features that only TensorFlow can read ({error}): '
            'choose a data set of images, video or sound, and labels.'
        ) from error
    except Exception as error:  # damaged files make it raise many kinds
        raise UserError(f'{name} in {str(folder)!r} cannot be opened ({error}): {_AGAIN}.') from error
    if builder.info.features is None:
        raise UserError(f'{name} in {str(folder)!r} has no features.json: {_AGAIN}.')
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if 'array_record' not in formats:
        raise UserError(
            f'{name} in {str(folder)!r} was prepared as {", ".join(sorted(formats)) or "nothing"}, '
            f'which cannot be read at random: prepare it as ArrayRecord in another folder with '
            f'`python -m vq_jax.prepare {shlex.quote(name)} --data_dir OTHER_FOLDER`.'
        )
    return builder


def _read_only_builder(folder: Path) -> Any:
    """Opens a data set; features of sound and video, which need TensorFlow, become what records hold."""
    from google.protobuf import json_format
    from tensorflow_datasets.core import dataset_info
    from tensorflow_datasets.core.read_only_builder import ReadOnlyBuilder

    content = _features_json(folder)
    features = content.get('featuresDict', {}).get('features', {})
    videos = [key for key, feature in features.items() if feature.get('pythonClassName') == _VIDEO]
    if not videos and not _sounds(folder):
        return ReadOnlyBuilder(str(folder))
    info = dataset_info.read_proto_from_builder_dir(str(folder))
    for key, feature in features.items():
        features[key] = _as_stored(feature)
    json_format.ParseDict(content, info.features)
    return ReadOnlyBuilder(str(folder), info_proto=info)


def _as_stored(feature: dict[str, Any]) -> dict[str, Any]:
    """Returns a feature as records hold it: of sound a file or samples, of video its frames."""
    kind = feature.get('pythonClassName')
    if kind == _VIDEO:
        length, *frame = feature['video']['shape']['dimensions']
        image = {'shape': {'dimensions': frame}, 'dtype': feature['video'].get('dtype', 'uint8')}
        of_one = {'pythonClassName': _IMAGE, 'image': image}
        return {'pythonClassName': _SEQUENCE, 'sequence': {'feature': of_one, 'length': length}}
    if kind != _AUDIO:
        return feature
    audio = feature['audio']
    if audio.get('lazyDecode'):
        return {'pythonClassName': _TEXT, 'text': {}}
    tensor = {key: audio[key] for key in ('shape', 'dtype', 'encoding') if key in audio}
    return {'pythonClassName': _TENSOR, 'tensor': tensor}


def _features_json(folder: Path) -> dict[str, Any]:
    """Returns what `features.json` says; nothing where there is none, which is reported later."""
    try:
        return read_json(folder / 'features.json', dict[str, Any], advice=_AGAIN)
    except FileNotFoundError:
        return {}


def _sounds(folder: Path) -> dict[str, float | None]:
    """Returns the sample rate of each feature that is sound in integers, or None where it is not given."""
    features = _features_json(folder).get('featuresDict', {}).get('features', {})
    sounds = {k: value['audio'] for k, value in features.items() if value.get('pythonClassName') == _AUDIO}
    return {
        key: int(audio.get('sampleRate', 0)) or None
        for key, audio in sounds.items()
        if str(audio.get('dtype', '')).startswith('int')
    }


def _check_files(name: str, folder: Path) -> None:
    """Refuses a data set that waits for ever when it is read, or runs what its author wrote.

    tensorflow-datasets imports the module of every feature class that is named in these files.
    """
    with telling(f'Cannot read {folder}', 'check its permissions'):
        odd = [path for path in folder.iterdir() if not path.is_file() and not path.is_dir()]
    if odd:
        raise UserError(f'{odd[0]} is not a regular file: {_AGAIN}.')
    for file in 'features.json', _INFO:
        try:
            content = read_json(folder / file, dict[str, Any], advice=_AGAIN)
            foreign = [kind for kind in _feature_classes(content) if not str(kind).startswith(_OWN_FEATURES)]
        except FileNotFoundError:  # which is reported later
            continue
        except RecursionError as error:
            raise UserError(f'{folder / file} is nested too deeply; {_AGAIN}.') from error
        if foreign:
            raise UserError(
                f'{name} in {str(folder)!r} has a feature of the class {foreign[0]!r}, which is not of '
                'tensorflow-datasets itself and would run code of its author: choose another data set.'
            )


def _feature_classes(value: Any) -> Iterator[Any]:
    """Yields the names of feature classes in what a JSON file holds."""
    if isinstance(value, dict):
        # The last is how old versions wrote them.
        yield from (value[key] for key in ('pythonClassName', 'python_class_name') if key in value)
        if 'type' in value and 'content' in value:
            yield value['type']
        value = list(value.values())
    if isinstance(value, str) and value.lstrip().startswith(('{', '[')):
        with contextlib.suppress(ValueError):  # it may be JSON in JSON
            value = [json.loads(value)]
    if isinstance(value, list):
        for part in value:
            yield from _feature_classes(part)


def _records(builder: Any, name: str, split: str, split_key: str) -> Any:
    """Returns the still encoded records of a split."""
    import tensorflow_datasets as tfds

    split = known_split(split, builder.info.splits)
    try:
        size = builder.info.splits[split].num_examples
    except (ValueError, KeyError, NotImplementedError) as error:  # the last of a part of 'all'
        there = ', '.join(
            f'{key} ({plural(info.num_examples, "example")})' for key, info in builder.info.splits.items()
        )
        raise UserError(
            f'Split {split!r} of {name} cannot be read: it has {there}; set {split_key} to one of them, or '
            "to a part such as 'train[90%:]'."
        ) from error
    if size <= 0:  # below, of a part that ends before it begins
        raise UserError(f'Split {split!r} of {name} has no examples: set {split_key} to a larger one.')
    instructions = builder.info.splits[split].file_instructions
    _fetch_shards(Path(builder.data_path), instructions)
    try:
        for instruction in instructions:
            _check_shard(instruction)
        source = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        return source.data_source  # what is around it would open the builder again in a worker process
    except _DAMAGE as error:
        raise UserError(
            f'The files of {name} in {str(builder.data_path)!r} cannot be opened '
            f'({str(error) or type(error).__name__}): {_AGAIN}.'
        ) from error


def _fetch_shards(folder: Path, instructions: Sequence[Any]) -> None:
    """Copies what is read of a data set in a bucket, and is not here yet, to its folder on this machine."""
    address = address_of(folder)
    if address is None:
        return
    names = {os.path.relpath(instruction.filename, folder) for instruction in instructions}
    if outside := [name for name in names if not is_inside(name)]:
        raise UserError(f'{folder} names the file {outside[0]!r} outside of it: {_AGAIN}.')
    for instruction in instructions:
        try:
            _check_shard(instruction)
        except FileNotFoundError:
            pass
        except _DAMAGE:  # its size and time could be those of what is copied instead
            os.unlink(instruction.filename)
    BucketFolder(address).copy_all(names, folder)


def _check_shard(instruction: Any) -> None:
    """Raises one of `_DAMAGE` for a file that cannot be read or has lost its end.

    A record that is damaged by itself is found when it is read.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    path = instruction.filename
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f'{path} is not a regular file')
    try:
        reader = ArrayRecordReader(path)
        found = reader.num_records()
        reader.close()
    except RuntimeError as error:  # says nothing, or not of which file
        raise ValueError(f'{path} is damaged') from error
    if found != instruction.examples_in_shard:
        raise ValueError(f'{path} has {found:,} records, not {instruction.examples_in_shard:,}')


def data_dir(given: str | None) -> Path:
    """Returns the folder in which prepared data sets are looked for.

    It is the one that is given, else the environment variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`;
    of one in a bucket, the folder on this machine of what `find` copies. Raises `UserError` if it begins as
    an address does and is none.
    """
    place = given or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
    return copy_of(place) if is_address(place) else Path(place).expanduser()


def find(name: str, folder: Path) -> Path | None:
    """Looks in a folder for `NAME` or `NAME/CONFIG`, with `:VERSION` or `/VERSION` behind it or not.

    Of a folder in a bucket it copies all but the shards of what has that name.

    Returns:
      The folder of the newest version, or None if there is none.

    Raises:
      UserError: If it cannot be read.
    """
    of_name = folder / name.replace(':', '/')
    if address := address_of(of_name):
        BucketFolder(address).copy_to(of_name, lambda name: bool(_ABOUT.fullmatch(name)), MOST_BYTES)
    with telling(f'Cannot read {of_name}', 'check its permissions'):
        found = _newest(of_name)
        if found is None:
            with contextlib.suppress(FileNotFoundError):
                chosen = read_json(of_name / '.config' / 'metadata.json', _Configs, advice=_AGAIN)
                found = _newest(of_name / chosen.default_config_name)
    return found


def _newest(folder: Path) -> Path | None:
    """Returns this folder if a data set is in it, else its sub-folder of the highest version."""
    if (folder / _INFO).is_file():
        return folder
    versions = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if _VERSION.fullmatch(path.name) and (path / _INFO).is_file()
    ]
    return max(versions, key=lambda p: [int(part) for part in p.name.split('.')], default=None)


def prepared(folder: Path) -> list[str]:
    """Names the data sets in a folder, with their configs."""
    files: Iterable[PurePath]
    if address := address_of(folder):
        files = map(PurePosixPath, BucketFolder(address).list())
    else:
        found = (path for depth in ('*/*', '*/*/*') for path in folder.glob(f'{depth}/{_INFO}'))
        files = (path.relative_to(folder) for path in found)
    of_versions = [path.parent for path in files if path.name == _INFO and len(path.parts) in (3, 4)]
    return sorted({path.parent.as_posix() for path in of_versions if _VERSION.fullmatch(path.name)})


def missing(name: str, folder: Path, known: Sequence[str]) -> UserError:
    """The error for a name that `find` did not find in a folder: how to get it, and what was meant.

    `known` are other names that would have worked.
    """
    path = Path(name).expanduser()
    # Unlike those of `Path`, these know of every fault of a path that there is nothing.
    is_folder = os.path.isdir(path)
    if '/' in name and os.path.exists(path):
        remedy = f"'folder:{name}'" if is_folder else "'folder:' and the folder that it is in"
        return UserError(
            f'{name!r} is a path, not the name of a data set: set config.data.name to {remedy} to take the '
            'images, videos or recordings there.'
        )
    if name.startswith(('/', './', '../', '~')):
        return UserError(f'There is no {name!r}: set config.data.name to folder:PATH for a folder of files.')
    there = prepared(folder)
    configs = [other for other in there if other.split('/')[0] == name.split('/')[0]]
    near = configs or nearest(name, [*known, *there], most=3)
    near = [f'folder:{name}'] if is_folder else near
    hint = f' Did you mean {" or ".join(repr(other) for other in near)}?' if near else ''
    looked, place = place_of(folder / name.replace(':', '/')), shlex.quote(str(folder))
    copied = ''
    if address := address_of(folder):
        hint += '' if there else f' There is no data set at all in {address}; check the address.'
        place, copied = 'FOLDER', f' and copy it from there to {address}'
    return UserError(
        f'Data set {name!r} is not prepared: nothing was found in {looked!r}.{hint} Prepare it '
        f'with `python -m vq_jax.prepare {shlex.quote(name)} --data_dir {place}`{copied}, or set '
        'config.data.data_dir or TFDS_DATA_DIR to the folder that has it.'
    )

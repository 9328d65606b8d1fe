"""Data sets in tensorflow-datasets' ArrayRecord format, read without TensorFlow or a network."""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from vq_jax.data.source import plural
from vq_jax.errors import UserError, nearest

_VERSION = re.compile(r'\d+\.\d+\.\d+')


class TfdsSource:
    """One split of a data set that tensorflow-datasets has written to disk.

    The data set is opened from its folder and not through tensorflow-datasets' registry of names,
    which would ask the network about a name that it does not find. Pictures are left encoded, so
    that a damaged one is this package's to skip.
    """

    use_orientation = False  # as in tensorflow-datasets' own decoding, which published numbers rest on

    def __init__(self, name: str, folder: Path, split: str, image_key: str, label_key: str) -> None:
        """Opens the split.

        Args:
          name: What to call the data set in messages.
          folder: Folder of one version of the data set, as returned by `find`.
          split: Split in the syntax of tensorflow-datasets.
          image_key: Feature that holds the picture.
          label_key: Feature that holds the class label.

        Raises:
          UserError: If the data set has another format, or lacks the split or the features.
        """
        import tensorflow_datasets as tfds

        builder = open_builder(name, folder)
        self.name = f'{name} ({split})'
        features = dict(builder.info.features.items())
        image = features.get(image_key)
        if not isinstance(image, tfds.features.Image) or image.np_dtype.itemsize > 2:
            raise UserError(
                f'{name} has no pictures under the name {image_key!r}: set config.data.image_key to one '
                f'of {_keys(features, tfds.features.Image)}.'
            )
        height, width, channels = image.shape
        self.shape = (height, width) if height and width else None
        self.channels = 1 if channels == 1 else 3
        wanted = {'image': image}
        label = features.get(label_key)
        if isinstance(label, tfds.features.ClassLabel) and label.num_classes:
            wanted['label'] = label
            self.class_names = tuple(label.names)
        elif label is None and label_key == 'label':
            self.class_names = ()
        else:
            raise UserError(
                f'{name} has no class labels under the name {label_key!r}: set config.data.label_key to '
                f'one of {_keys(features, tfds.features.ClassLabel)}.'
            )
        self._keys = {'image': image_key, 'label': label_key}
        self._features = tfds.features.FeaturesDict(
            {self._keys[part]: feature for part, feature in wanted.items()}
        )
        self._decoders = {image_key: tfds.decode.SkipDecoding()}
        self._records = _records(builder, name, split)

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._records)

    def read(self, indices: Sequence[int]) -> list[tuple[bytes | OSError, int]]:
        """Returns the encoded picture and the label of each record."""
        records = self._records.__getitems__([int(index) for index in indices])
        examples = [
            self._features.deserialize_example_np(record, decoders=self._decoders) for record in records
        ]
        image, label = self._keys['image'], self._keys['label']
        return [(example[image], int(example.get(label, 0))) for example in examples]

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


def _keys(features: Any, kind: type) -> str:
    """Names the features of one kind, for a message."""
    names = [repr(key) for key in sorted(features) if isinstance(features[key], kind)]
    return ', '.join(names) or 'its features (it has none of that kind)'


def open_builder(name: str, folder: Path) -> Any:
    """Opens a prepared data set.

    Args:
      name: What to call it in messages.
      folder: Folder of one version of it.

    Returns:
      A read-only builder of tensorflow-datasets.

    Raises:
      UserError: If it cannot be opened, or not in the ArrayRecord format.
    """
    import tensorflow_datasets as tfds

    try:
        with quiet():
            builder = tfds.builder_from_directory(str(folder))
    except ImportError as error:
        raise UserError(
            f'{name} in {str(folder)!r} has features that only TensorFlow can read ({error}): '
            'choose a data set of pictures and labels.'
        ) from error
    except Exception as error:  # damaged files make it raise many kinds
        raise UserError(
            f'{name} in {str(folder)!r} cannot be opened ({error}): delete that folder and prepare '
            'the data set again.'
        ) from error
    if builder.info.features is None:
        raise UserError(
            f'{name} in {str(folder)!r} has no features.json: delete that folder and prepare the '
            'data set again.'
        )
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if 'array_record' not in formats:
        raise UserError(
            f'{name} in {str(folder)!r} was prepared as {", ".join(sorted(formats)) or "nothing"}, '
            f'which cannot be read at random: prepare it as ArrayRecord in another folder with '
            f'`python -m vq_jax.prepare {name} --data_dir OTHER_FOLDER`.'
        )
    return builder


def _records(builder: Any, name: str, split: str) -> Any:
    """Returns the still encoded records of a split."""
    import tensorflow_datasets as tfds

    try:
        size = builder.info.splits[split].num_examples
    except (ValueError, KeyError, NotImplementedError) as error:  # the last of a part of 'all'
        there = ', '.join(
            f'{key} ({plural(info.num_examples, "example")})' for key, info in builder.info.splits.items()
        )
        raise UserError(
            f'Split {split!r} of {name} cannot be read: it has {there}; a part of one is written '
            "'train[90%:]'."
        ) from error
    if not size:
        raise UserError(f'Split {split!r} of {name} has no examples: choose a larger one.')
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    try:
        records = builder.as_data_source(split, deserialize_method=raw)
        for instruction in builder.info.splits[split].file_instructions:
            Path(instruction.filename).stat()
        records[0]  # files are opened when they are first read
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f'The files of {name} in {str(builder.data_path)!r} cannot be opened ({error}): delete '
            'that folder and prepare the data set again.'
        ) from error
    return records


def data_dir(given: str | None) -> Path:
    """Returns the folder in which prepared data sets are looked for.

    Args:
      given: `DataConfig.data_dir`.

    Returns:
      That, else the environment variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
    """
    return Path(given or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def find(name: str, folder: Path) -> Path | None:
    """Looks for a prepared data set.

    Args:
      name: `NAME`, `NAME/CONFIG`, either with `:VERSION` or `/VERSION` behind it.
      folder: Folder that holds prepared data sets.

    Returns:
      The folder of the newest version, or None if there is none.
    """
    place = folder / name.replace(':', '/')
    found = _newest(place)
    if found is None:
        metadata = place / '.config' / 'metadata.json'
        if metadata.is_file():
            found = _newest(place / json.loads(metadata.read_text()).get('default_config_name', ''))
    return found


def _newest(place: Path) -> Path | None:
    """Returns this folder if a data set is in it, else its sub-folder of the highest version."""
    if (place / 'dataset_info.json').is_file():
        return place
    versions = [
        path
        for path in (place.iterdir() if place.is_dir() else ())
        if _VERSION.fullmatch(path.name) and (path / 'dataset_info.json').is_file()
    ]
    return max(versions, key=lambda p: [int(part) for part in p.name.split('.')], default=None)


def prepared(folder: Path) -> list[str]:
    """Names the data sets in a folder, with their configs."""
    names = set()
    for depth in ('*/*/dataset_info.json', '*/*/*/dataset_info.json'):
        for path in folder.glob(depth):
            if _VERSION.fullmatch(path.parent.name):
                names.add(path.parent.parent.relative_to(folder).as_posix())
    return sorted(names)


def missing(name: str, folder: Path, known: Sequence[str]) -> UserError:
    """Says what was looked for and where, and how to get it.

    Args:
      name: The name that `find` did not find.
      folder: Where it looked.
      known: Other names that would have worked.

    Returns:
      The error to raise.
    """
    there = prepared(folder)
    configs = [other for other in there if other.split('/')[0] == name.split('/')[0]]
    near = configs or nearest(name, [*known, *there], most=3)
    near = [f'folder:{name}'] if Path(name).is_dir() else near
    hint = f' Did you mean {" or ".join(repr(other) for other in near)}?' if near else ''
    looked = str(folder / name.replace(':', '/'))
    return UserError(
        f'Data set {name!r} is not prepared: nothing was found in {looked!r}.{hint} Prepare it '
        f'with `python -m vq_jax.prepare {name} --data_dir {folder}`, or set config.data.data_dir or '
        'TFDS_DATA_DIR to the folder that has it.'
    )

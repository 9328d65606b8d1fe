"""Prepares a data set of tensorflow-datasets for training, once.

    python -m vq_jax.prepare mnist [--data_dir ~/tensorflow_datasets]

The data set is downloaded and written in the ArrayRecord format, which is then read without
TensorFlow. Writing it needs TensorFlow, except for the built-in sets `digits`, `glyphs` and `photos`. What
`moving_mnist` needs is `mnist`.
"""

import importlib.util
from pathlib import Path

from absl import flags

from vq_jax import cli
from vq_jax.buckets import address_of, place_of
from vq_jax.data.open import BUILT_IN, MOVING_MNIST
from vq_jax.data.sources.tfds import data_dir, find, open_builder
from vq_jax.errors import UserError, first_line

_DATA_DIR = flags.DEFINE_string(
    'data_dir',
    None,
    'Folder to write to. Default: TFDS_DATA_DIR, else ~/tensorflow_datasets; for the built-in sets '
    'the cache folder that training uses.',
)
_NEEDED = ('tensorflow', 'importlib_resources')


def prepare(name: str, folder: str | None = None) -> str:
    """Prepares a data set unless it is there already.

    Args:
      name: Name of a built-in set, or of any data set of tensorflow-datasets, with its config:
        `imagenette/160px-v2`.
      folder: Folder of data sets to write to; None as for the flag.

    Returns:
      A sentence that says what is where.

    Raises:
      UserError: If there is no such data set, or something needed to prepare it is not installed.
    """
    if name == MOVING_MNIST:
        return prepare('mnist', folder)
    if name in BUILT_IN:
        from vq_jax.data.sources import builtin

        return f'{name} is ready in {builtin.prepare(name, builtin.home(folder))}'
    if name.startswith(('folder:', '/', './', '../', '~')):
        raise UserError('A folder of files needs no preparation: train on it as it is.')
    root = data_dir(folder)
    there = find(name, root)
    if there is not None:
        open_builder(name, there)
        return f'{name} is prepared already, in {place_of(there)}'
    if address := address_of(root):
        raise UserError(
            f'{name} is not in {address} yet, and data sets are written to folders: prepare it with '
            f'--data_dir=FOLDER, and copy it to the bucket, as by gcloud storage cp -r.'
        )
    lacking = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
    if lacking:
        raise UserError(
            f'Preparing {name!r} needs TensorFlow installed once (training does not): run `pip '
            f'install {" ".join(lacking)}`, then this command again.'
        )
    return f'{name} is ready in {_write(name, str(root))}'


def _write(name: str, root: str) -> str:
    """Downloads a data set and writes it as ArrayRecord; returns its folder."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.extractor import ExtractError

    # The writer of records makes a RuntimeError of a full disk.
    failures = OSError, RuntimeError, tfds.download.DownloadError, NonMatchingChecksumError, ExtractError
    try:
        builder = tfds.builder(name, data_dir=root, file_format='array_record')
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f'tensorflow-datasets cannot make {name!r} ({first_line(error)}): see '
            'https://www.tensorflow.org/datasets/catalog for names and configs.'
        ) from error
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        by_hand = Path(root) / 'downloads' / 'manual'
        if not by_hand.is_dir() or not any(by_hand.iterdir()):
            instructions = ' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
            raise UserError(
                f'{name!r} cannot be downloaded without asking its owners; put its files into {by_hand}, '
                f'then run this command again. tensorflow-datasets says: {instructions}'
            )
    try:
        builder.download_and_prepare()
    except ImportError as error:
        first: BaseException = error  # tensorflow-datasets raises it again without the name
        while first.__cause__ is not None:
            first = first.__cause__
        raise UserError(
            f'Preparing {name!r} needs another package installed once (training does not): run `pip install '
            f'{getattr(first, "name", None)}`, then this command again.'
        ) from error
    except failures as error:
        raise UserError(f'{name!r} could not be downloaded and written to {root!r}: {error}.') from error
    return str(builder.data_dir)


def main(name: str) -> None:
    """Prepares the data set and says where it is."""
    print(prepare(name, _DATA_DIR.value))


if __name__ == '__main__':
    cli.main(main, words=('NAME',))

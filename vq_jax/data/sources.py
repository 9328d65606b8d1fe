"""From a data set's name to the place where its pictures are."""

from vq_jax.data.config import DataConfig
from vq_jax.data.folder import FolderSource
from vq_jax.data.source import Source
from vq_jax.data.tfds_source import TfdsSource, data_dir, find, missing

BUILT_IN = ('digits', 'photos')


def open_source(config: DataConfig, split: str, *, prepare: bool = False) -> Source:
    """Opens one split of the data set that a config names.

    Args:
      config: Says which and where.
      split: Split in the syntax of tensorflow-datasets.
      prepare: As for `open_dataset`.

    Returns:
      Its examples.

    Raises:
      UserError: If it is not there or cannot be read.
    """
    name, key = config.name, config.split_key(split)
    if name.startswith('folder:'):
        return FolderSource(name.removeprefix('folder:'), split, key)
    if name in BUILT_IN:
        # Imported here because tensorflow-datasets takes half a second.
        from vq_jax.data import builtin

        home = builtin.home(config.data_dir)
        folder = builtin.prepare(name, home) if prepare else builtin.find(name, home)
    else:
        folder = find(name, data_dir(config.data_dir))
        if folder is None:
            raise missing(name, data_dir(config.data_dir), BUILT_IN)
    return TfdsSource(name, folder, split, config.image_key, config.label_key, key)

"""From a config to the data set that it names."""

from vq_jax.data.codes import PREFIX, CodeDataset
from vq_jax.data.config import DataConfig
from vq_jax.data.dataset import Dataset
from vq_jax.data.sources import open_source

AnyDataset = Dataset | CodeDataset


def open_dataset(config: DataConfig, split: str, *, prepare: bool = False) -> AnyDataset:
    """Opens one split of a data set.

    Args:
      config: Which data set, where it is, and how its pictures are preprocessed.
      split: Split in the syntax of tensorflow-datasets, for example `config.train_split`; of written
        codes, one of those that were written.
      prepare: Whether a built-in set that is not there yet is written to the folder that the config names.
        Only of a config of the user's own: that of a run may be a stranger's.

    Returns:
      The split, ready for `train_batches` and `eval_batches`.

    Raises:
      UserError: If the data set or the split is not there or cannot be read.
    """
    if config.name.startswith(PREFIX):
        return CodeDataset(config, split)
    return Dataset(config, open_source(config, split, prepare=prepare))

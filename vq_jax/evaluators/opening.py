"""What evaluators of a trained run begin with: a split of its data, and the devices."""

import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict

from vq_jax.data import DataConfig, Dataset, open_dataset
from vq_jax.errors import UserError
from vq_jax.extensions import allowing
from vq_jax.tasks.restore import Restored
from vq_jax.training.config import build
from vq_jax.training.parallel import Engine, ParallelConfig, make_engine


def open_split(run: Restored, split: str, **changes: Any) -> Dataset:
    """A split of the data set of a run, preprocessed as in training, but that nothing is cropped at random.

    So a split of the training data is seen as evaluation sees any other. Further arguments are other values
    for keys of `config.data`.

    Raises:
        UserError: if the data set holds codes, which no evaluator can look at.
    """
    config = build(DataConfig, run.config.data, 'data')
    with allowing(run.allow):
        config = dataclasses.replace(config, random_crop=False, **changes)
        dataset = open_dataset(config, split, tokens=run.spec.tokens)
    if dataset.key != 'x':
        raise UserError(
            f'{dataset.name} holds codes; name a set of {run.spec.plural} by --override=data.name=NAME.'
        )
    return dataset


def make_eval_engine(config: ConfigDict) -> tuple[Engine, int]:
    """The engine of a run's full config, and the size of its batches: one that all devices can share."""
    devices = jax.device_count()
    batch_size = -(-config.batch_size // devices) * devices
    return make_engine(build(ParallelConfig, config.parallel, 'parallel'), batch_size), batch_size

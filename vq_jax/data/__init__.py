"""Examples of any kind and source, preprocessed and batched in an order that is a function of the seed."""

from vq_jax.data.batches import Batch, Batches, eval_batches, train_batches
from vq_jax.data.config import DataConfig
from vq_jax.data.dataset import Dataset
from vq_jax.data.open import open_dataset
from vq_jax.data.source import Record, Source, parts_of
from vq_jax.data.sources.codes import CodeDataset

__all__ = [
    'Batch',
    'Batches',
    'CodeDataset',
    'DataConfig',
    'Dataset',
    'Record',
    'Source',
    'eval_batches',
    'open_dataset',
    'parts_of',
    'train_batches',
]

"""Examples of any kind and source, preprocessed and batched in an order that is a function of the seed."""

from vq_jax.data.batches import Batch, Batches, eval_batches, train_batches
from vq_jax.data.config import DataConfig
from vq_jax.data.dataset import Dataset
from vq_jax.data.open import open_dataset
from vq_jax.data.sources.codes import CodeDataset

__all__ = [
    'Batch',
    'Batches',
    'CodeDataset',
    'DataConfig',
    'Dataset',
    'eval_batches',
    'open_dataset',
    'train_batches',
]

"""Where examples come from: one file for each way in which they are stored."""

from vq_jax.data.sources.codes import CodeDataset
from vq_jax.data.sources.excerpts import ExcerptSource
from vq_jax.data.sources.folder import FolderSource
from vq_jax.data.sources.moving_mnist import MovingMnistSource
from vq_jax.data.sources.text import PieceSource, TextFileSource
from vq_jax.data.sources.tfds import TfdsSource

__all__ = [
    'CodeDataset',
    'ExcerptSource',
    'FolderSource',
    'MovingMnistSource',
    'PieceSource',
    'TextFileSource',
    'TfdsSource',
]

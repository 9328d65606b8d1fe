"""A small data set of tensorflow-datasets in several files."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

FILES = 3  # of each split


class InShards(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images of 8x8 pixels, each of one grey: 60 to 65 to train on, 30 to 32 to test; two classes."""

    VERSION = tfds.core.Version('1.0.0')
    url_infos = {}  # noqa: RUF012

    def _info(self):
        features = {
            'image': tfds.features.Image(shape=(8, 8, 1), encoding_format='png'),
            'label': tfds.features.ClassLabel(names=['a', 'b']),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples(6), 'test': self._generate_examples(3)}

    def _generate_examples(self, number):
        for i in range(number):
            file = io.BytesIO()
            Image.fromarray(np.full((8, 8), 10 * number + i, np.uint8)).save(file, 'PNG')
            yield i, {'image': io.BytesIO(file.getvalue()), 'label': i % 2}


def shard(number, split='train'):
    """The name of a file of it."""
    return f'in_shards-{split}.array_record-{number:05d}-of-{FILES:05d}'


def write(folder):
    """Prepares it in a folder; returns all its files by their names below that."""
    options = tfds.download.DownloadConfig(num_shards=FILES)
    InShards(data_dir=str(folder), file_format='array_record').download_and_prepare(download_config=options)
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob('*') if path.is_file()}

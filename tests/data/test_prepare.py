import importlib.util
import io
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vq_jax import prepare
from vq_jax.data import DataConfig, open_dataset
from vq_jax.errors import UserError


class TinyStock(tfds.core.GeneratorBasedBuilder):
    """Stands for a data set that tensorflow-datasets knows by name."""

    VERSION = tfds.core.Version('1.0.0')
    url_infos = {}  # noqa: RUF012

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({'image': tfds.features.Image(shape=(4, 4, 3))}),
        )

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples()}

    def _generate_examples(self):
        for i in range(3):
            file = io.BytesIO()
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(file, 'PNG')
            yield i, {'image': io.BytesIO(file.getvalue())}


def command(*words, **environment):
    return subprocess.run(
        [sys.executable, '-m', 'vq_jax.prepare', *words],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_built_in_twice(tmp_path):
    for _ in range(2):
        result = command('digits', '--data_dir', str(tmp_path))
        assert (result.returncode, result.stderr) == (0, '')
        assert result.stdout == f'digits is ready in {tmp_path}/digits/1.0.0\n'


def test_without_tensorflow(tmp_path):
    if importlib.util.find_spec('tensorflow'):
        pytest.skip('TensorFlow is installed here')
    result = command('mnist', TFDS_DATA_DIR=str(tmp_path))
    assert result.returncode == 2
    assert result.stdout == ''
    assert result.stderr.startswith("error: Preparing 'mnist' needs TensorFlow installed once")
    assert 'pip install tensorflow' in result.stderr
    assert result.stderr.count('\n') == 1


def test_usage():
    result = command('mnist', '--data-folder', 'x')
    assert result.returncode == 2
    assert result.stderr.startswith("error: Unknown command line flag 'data-folder'")
    result = command()
    assert result.returncode == 2
    assert result.stderr == 'error: NAME is missing; see --help.\n'


def test_stock_set_becomes_readable(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
    said = prepare.prepare('tiny_stock', str(tmp_path))
    assert said == f'tiny_stock is ready in {tmp_path}/tiny_stock/1.0.0'
    data = open_dataset(DataConfig(name='tiny_stock', data_dir=str(tmp_path)), 'train')
    assert (len(data), data.spec.shape, data.num_classes) == (3, (4, 4, 3), 0)
    assert 'prepared already' in prepare.prepare('tiny_stock', str(tmp_path))


class ByHand(TinyStock):
    """Stands for one whose files have to be asked for, such as imagenet2012."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Ask its owners
    for two files.
    """


def test_files_that_have_to_be_put_there_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
    folder = tmp_path / 'downloads' / 'manual'
    with pytest.raises(UserError, match=f'into {folder}, .* Ask its owners for two files'):
        prepare.prepare('by_hand', str(tmp_path))
    folder.mkdir(parents=True)
    (folder / 'file').touch()
    assert 'is ready' in prepare.prepare('by_hand', str(tmp_path))


class NeedsAnother(TinyStock):
    """Stands for one that another package has to decode, as pydub the sound of spoken_digit."""

    def _generate_examples(self):
        import no_such_package  # noqa: F401

        yield


def test_a_package_that_only_preparing_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
    words = r"'needs_another' needs another package installed once .* `pip install no_such_package`"
    with pytest.raises(UserError, match=words):
        prepare.prepare('needs_another', str(tmp_path))


def test_folder_needs_nothing(tmp_path):
    with pytest.raises(UserError, match='needs no preparation'):
        prepare.prepare(f'folder:{tmp_path}')


def test_already_there(real_dir):
    assert 'mnist is prepared already' in prepare.prepare('mnist', real_dir)

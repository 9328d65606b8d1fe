"""Means over a data set, and the images that go with them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vq_jax.data import DataConfig, open_dataset
from vq_jax.evaluators.means import MeanEvaluator
from vq_jax.media.sheets import Sheet
from vq_jax.models.text_encoder import TextEncoder
from vq_jax.ops.keys import content_keys, normal
from vq_jax.text_tokenizers import ByteTokenizer
from vq_jax.training.parallel import JitEngine


@dataclasses.dataclass
class Brightness:
    """Measures how bright images are, and draws noise for each; notes how many were asked for."""

    asked: list[int] = dataclasses.field(default_factory=list)
    classes_read: int = 0
    conditioner: TextEncoder | None = None

    @property
    def condition_specs(self):
        return self.conditioner.specs() if self.conditioner else {}

    def eval_step(self, state, batch):
        return {'brightness': jnp.mean(batch['x'], axis=(1, 2, 3))}

    def summarize(self, means):
        return {'brightness': float(means['brightness'])}

    def predict(self, state, batch):
        self.asked.append(len(batch['label']))
        return {'images': batch['x'], 'noise': normal(content_keys(batch['x']), (2,))}

    def media(self, predictions, means):
        return {name: Sheet(x, (name,), len(x)) for name, x in predictions.items()}


@pytest.fixture(scope='module')
def digits():
    return open_dataset(DataConfig(name='digits', channels=1, image_size=8), 'test', prepare=True)


def test_means_are_of_all_examples(digits):
    found = MeanEvaluator(Brightness(), JitEngine(), digits, 50, 1).run({})
    images = digits.fetch(np.arange(len(digits))).values
    assert found.metrics['examples'] == len(digits)
    assert found.metrics['brightness'] == pytest.approx(np.mean(images), rel=1e-5)


def test_columns_say_what_examples_are_of(tmp_path):
    for i, (label, text) in enumerate({'a': 'one', 'b': 'two'}.items()):
        (tmp_path / label).mkdir()
        Image.new('RGB', (4, 4), (i, i, i)).save(tmp_path / label / 'x.png')
        (tmp_path / label / 'x.txt').write_text(text)
    data = open_dataset(DataConfig(name=f'folder:{tmp_path}', caption_length=8), 'all')
    task = Brightness(classes_read=2, conditioner=TextEncoder(ByteTokenizer(), length=8))
    shown = MeanEvaluator(task, JitEngine(), data, 2, 2).run({}).media['images']
    assert {shown.image[i, 0, 0, 0]: name for i, name in enumerate(shown.columns)} == {
        0: 'a: one',
        1: 'b: two',
    }


@pytest.mark.parametrize('devices, asked', [(1, 3), (2, 4), (8, 8), (16, 16)])
def test_no_more_images_are_drawn_than_devices_need(devices, asked, digits, monkeypatch):
    """Each device is given equally many, and they are those of the whole batch."""
    monkeypatch.setattr(jax, 'local_device_count', lambda: devices)
    task = Brightness()
    few = MeanEvaluator(task, JitEngine(), digits, 16, 3).run({}).images
    assert task.asked == [asked]
    np.testing.assert_array_equal(few['images'], digits.fetch(np.arange(3)).values)
    whole = MeanEvaluator(task, JitEngine(), digits, 16, 99).run({}).images
    assert task.asked[-1] == 16
    np.testing.assert_array_equal(few['noise'], whole['noise'][:3])


def test_columns_are_called_by_the_classes_that_a_task_reads(digits):
    classes = tuple(digits.class_names[i] for i in digits.fetch(np.arange(3)).labels)
    for read, names in ((10, classes), (0, ())):
        found = MeanEvaluator(Brightness(classes_read=read), JitEngine(), digits, 16, 3).run({})
        assert found.media['images'].columns == names


def test_padding_is_not_drawn():
    few = open_dataset(DataConfig(name='digits', channels=1, image_size=8), 'test[:5]', prepare=True)
    found = MeanEvaluator(Brightness(), JitEngine(), few, 8, 8).run({})
    assert found.metrics['examples'] == 5
    np.testing.assert_array_equal(found.images['images'], few.fetch(np.arange(5)).values)


@dataclasses.dataclass
class Coded(Brightness):
    """Shows a codebook too, and measures something of the first batch alone."""

    vocabularies: tuple[tuple[int, ...], ...] = ((2,),)

    def eval_first_step(self, state, batch):
        self.asked.append(len(batch['label']))
        return {'of first': jnp.mean(batch['x'], axis=(1, 2, 3))}

    def summarize(self, means):
        return {name: float(x) for name, x in means.items()}

    def codebook(self, predictions, means):
        assert 'brightness' in means
        return {'codebook': Sheet(predictions['images'])}


def test_of_one_batch_there_are_metrics_and_a_codebook(digits):
    task = Coded()
    found = MeanEvaluator(task, JitEngine(), digits, 50, 3).run({})
    first = digits.fetch(np.arange(50)).values
    assert found.metrics['of first'] == pytest.approx(np.mean(first), rel=1e-5)
    # As many at once as are shown, as often as there are so many.
    assert task.asked == [50, 3]
    np.testing.assert_array_equal(found.images['codebook'], first[:48])
    np.testing.assert_array_equal(found.images['images'], first[:3])

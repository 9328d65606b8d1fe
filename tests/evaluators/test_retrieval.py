"""Recall by an oracle: of examples, of texts of others, and of samples that follow their texts or do not."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vq_jax.errors import UserError
from vq_jax.evaluators.retrieval import RetrievalEvaluator
from vq_jax.models.text_encoder import TextEncoder
from vq_jax.spec import Spec, Tokens
from vq_jax.tasks import default_config
from vq_jax.tasks.dual_encoder import DualEncoderTask
from vq_jax.tasks.task import Task
from vq_jax.text_tokenizers import ByteTokenizer

N, SPEC = 120, Spec('image', (2, 2, 1), tokens=Tokens('bytes'))


def number(text):
    """The number that three digits write."""
    return jnp.sum((text - 48) * jnp.array([100, 10, 1]), axis=-1)


class Oracle(DualEncoderTask):
    """Knows images by their brightness, and texts by the number in them."""

    conditioner = TextEncoder(ByteTokenizer(), length=3)

    def embed(self, state, examples):
        return jax.nn.one_hot(examples[:, 0, 0, 0], N)

    def embed_texts(self, state, text):
        return jax.nn.one_hot(number(text), N)


@dataclasses.dataclass(frozen=True)
class Painter:
    """Makes images of a text, or of the wrong one."""

    follows: bool
    classes_read: int = 0
    num_labels: int = 0
    conditioner: TextEncoder = Oracle.conditioner
    spec: Spec = SPEC
    condition_specs = property(lambda self: self.conditioner.specs())
    check_dataset, check_spec, check_losses = Task.check_dataset, Task.check_spec, Task.check_losses
    check_classes, check_conditions = Task.check_classes, Task.check_conditions

    def sample(self, state, keys, labels, conditions):
        asked = number(conditions['text'])
        made = asked if self.follows else jax.vmap(lambda key: jax.random.randint(key, (), 0, N))(keys)
        return jnp.broadcast_to(made[:, None, None, None], (len(keys), 2, 2, 1)).astype(jnp.uint8)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bright')
    for i in range(N):
        Image.fromarray(np.full((2, 2), i, np.uint8)).save(folder / f'{i}.png')
        (folder / f'{i}.txt').write_text(f'{i:03}')
    return folder


def restored(task, folder, state=None):
    config = default_config('diffusion')
    config.batch_size = 32
    config.data.name, config.data.channels, config.data.caption_length = f'folder:{folder}', 1, 3
    known = {'workdir': 'RUN', 'allow': (), 'class_names': (), 'identity': lambda: {'checksum': '0'}}
    return types.SimpleNamespace(task=task, config=config, spec=SPEC, state=state, **known)


@pytest.fixture(scope='module')
def judge(folder):
    state = types.SimpleNamespace(for_inference=dict)
    return restored(Oracle(model=None, optimizer=None, spec=SPEC), folder, state)


def test_what_is_found_of_real_examples_and_of_samples(folder, judge):
    found = RetrievalEvaluator(judge, judge, 'all').run(10_000, 0)
    assert found['examples'] == N and found['real'] == {'recall_at_1': 1, 'recall_at_5': 1}
    assert found['shuffled'] == {'recall_at_1': 0, 'recall_at_5': 0} and 'samples' not in found


@pytest.mark.parametrize('follows', [True, False])
def test_samples_are_looked_for_among_a_hundred(folder, judge, follows):
    run = restored(Painter(follows), folder, {})
    found = RetrievalEvaluator(run, judge, 'all').run(110, 3)
    recall = found['samples']['recall_at_1']
    assert found['examples'] == 110 and (recall == 1 if follows else recall < 0.06)


def test_what_does_not_fit(folder, judge):
    with pytest.raises(
        UserError, match='has 50 different texts among its first 50 examples, and more than 100'
    ):
        RetrievalEvaluator(judge, judge, 'all').run(50, 0)
    with pytest.raises(
        UserError, match='is a run of the task diffusion; give retrieval the directory of one'
    ):
        RetrievalEvaluator(judge, restored(Painter(True), folder), 'all')
    other = restored(Oracle(model=None, optimizer=None, spec=SPEC), folder)
    other.spec = Spec('image', (4, 4, 1))
    with pytest.raises(UserError, match=r'was trained on images of \(4, 4, 1\)'):
        RetrievalEvaluator(judge, other, 'all')
    with pytest.raises(UserError, match='makes no images of texts'):
        blind = Painter(True, conditioner=types.SimpleNamespace(specs=dict))
        RetrievalEvaluator(restored(blind, folder), judge, 'all')
    with pytest.raises(UserError, match='makes no images of texts'):  # such as a captioner, which reads them
        reader = types.SimpleNamespace(
            condition_specs=Oracle.conditioner.specs(), config={'task': 'captioner'}
        )
        RetrievalEvaluator(restored(reader, folder), judge, 'all')

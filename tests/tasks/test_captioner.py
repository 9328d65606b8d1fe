"""Captioners, as probabilities of texts that depend on the codes of what they are of."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import refused
from vq_jax.errors import UserError
from vq_jax.models.code_encoder import CodeEncoder
from vq_jax.run import Run
from vq_jax.spec import CodeSpec, Spec, Tokens
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.arguments import check_can
from vq_jax.tasks.codec import check_embeddable
from vq_jax.tasks.restore import Restored
from vq_jax.text_tokenizers import ByteTokenizer, pad_tokens

SPEC = Spec('image', (2, 1, 1), tokens=Tokens('bytes'))


class Letters(ByteTokenizer):
    """Three tokens: few enough to go through all texts."""

    size = 3
    lengths = np.array([1, 2, 1])


def config_of(**model):
    config = default_config('captioner')
    config.data.caption_length = 2
    config.tokenizer.levels = 4
    config.model.update(model)
    for section in (config.code_encoder, config.transformer):
        section.depth, section.width, section.heads = 1, 8, 2
    return config


@pytest.fixture
def begun(monkeypatch):
    """A captioner of two pixels, and a state by which texts differ in how likely they are."""
    monkeypatch.setattr('vq_jax.tasks.values.text_tokenizer', lambda tokens: Letters())
    task, rng = make_task(config_of(), SPEC), np.random.default_rng(0)
    state = jax.eval_shape(task.init, jax.random.key(0), {})
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), state.params)
    state = state.replace(step=jnp.zeros((), jnp.int32), key=jax.random.key(0), params=params, opt_state=())
    return task, state.replace(frozen=task.pretrained())


def test_the_probabilities_of_all_texts_of_an_image_sum_to_one(begun):
    """And they depend on each of its codes, which may as well have been written before."""
    task, state = begun
    rows = [row for n in range(3) for row in itertools.product(range(3), repeat=n)]
    texts = pad_tokens(map(np.array, rows), 2)
    images = np.array([[0, 0], [0, 200], [200, 0]], np.uint8)
    batch = {
        'x': np.repeat(images, len(texts), axis=0).reshape(-1, 2, 1, 1),
        'text': np.tile(texts, (len(images), 1)),
        'label': np.zeros(len(images) * len(texts), np.int32),
    }
    found = jax.jit(task.eval_step)(state, batch)
    nats = np.float64(found['nats']).reshape(len(images), -1)
    np.testing.assert_allclose(np.logaddexp.reduce(-nats, axis=1), 0, atol=1e-5)
    for i, j in itertools.combinations(range(len(images)), 2):
        assert np.abs(nats[i] - nats[j]).max() > 1e-3
    np.testing.assert_array_equal(
        found['bytes'], (np.int32(batch['text'] >= 0) + (batch['text'] == 1)).sum(1)
    )
    given = task._texts(state, batch)
    codes = batch.pop('x').reshape(-1, 2).astype(np.int32) // 64  # of four levels
    np.testing.assert_array_equal(given['example'], codes)
    np.testing.assert_array_equal(task._texts(state, {**batch, 'codes': codes})['example'], codes)


def test_files_are_read_when_their_batch_is_described(begun, monkeypatch):
    """And what they show is what the same examples show at once."""
    task, state = begun
    config = config_of()
    config.batch_size, read, described = 2, [], []
    model = Run(Restored(config, task, state, SPEC, 0, Path('run')))
    examples = np.random.default_rng(0).integers(0, 256, (5, 2, 1, 1)).astype(np.uint8)
    wanted = model.describe(examples, seed=3)
    prepare, describe = model.prepare, model._batched_sampler._compile
    monkeypatch.setattr(model, 'prepare', lambda file: read.append(file) or prepare(file))

    def compiled(*arguments):
        sample = describe(*arguments)
        return lambda *batch: described.append(len(read)) or sample(*batch)

    monkeypatch.setattr(model._batched_sampler, '_compiled', compiled)
    assert len(set(wanted)) > 1 and model.describe_files(list(examples), seed=3) == wanted
    before = 3  # all but those of the first batch, to know that they can be read
    assert described == [before + 2, before + 4, before + 6]
    with pytest.raises(UserError, match=r'nothing.png cannot be read'):
        model.describe_files([*examples, 'nothing.png'])
    assert len(described) == 3


def test_texts_that_are_there_are_not_replaced_unawares(tmp_path):
    path = tmp_path / 'captions.jsonl'
    path.write_text('mine')
    words = ['--workdir', tmp_path / 'run', f'--input={tmp_path}', f'--output={path}']
    errors = refused('vq_jax.describe', words, [*words, '--replace'], [*words[:-1], '--replace'])
    assert f'--output {path} is there already' in errors[0] and 'give --replace' in errors[0]
    assert 'run' in errors[1] and 'is there already' not in errors[1]
    assert '--replace is given without --output' in errors[2]
    assert path.read_text() == 'mine'


def test_codes_of_scales_and_depths_are_tokens_by_position():
    """Each position of each scale is one, and changes what becomes of all of them."""
    codes = CodeSpec(((1,), (2,)), ((3, 3), (5, 5)))
    encoder = CodeEncoder(codes=codes, depth=1, width=8, heads=2)
    row = np.zeros((1, codes.length), np.int32)
    changed = np.concatenate([row, np.eye(codes.length, dtype=np.int32)])
    params = jax.jit(encoder.init)(jax.random.key(0), row)
    context = jax.jit(encoder.apply)(params, changed)
    assert context.tokens.shape == (7, 4, 8) and context.mask.all()
    assert (np.abs(context.tokens[1:] - context.tokens[0]).max(-1) > 1e-5).all()
    # A code of another depth, or at another position, is another.
    assert len(np.unique(np.round(context.vector, 5), axis=0)) == 7


def test_what_does_not_fit():
    config = config_of()
    config.data.caption_length = None
    with pytest.raises(UserError, match=r'config\.data\.caption_length is not set'):
        make_task(config, SPEC)
    with pytest.raises(UserError, match='of which these images have 4,225; a captioner is made for at most'):
        make_task(config_of(), Spec('image', (65, 65, 1)))
    with pytest.raises(UserError, match=r'guidance is 2.*of a captioner, config\.model\.dropout'):
        config = config_of(dropout=0.0)
        config.sampling.guidance = 2.0
        make_task(config, SPEC)
    task = make_task(config_of(), SPEC)
    with pytest.raises(UserError, match=r'made for \(2, 1, 1\); resize them'):
        task.check_spec(Spec('image', (4, 1, 1)))
    with pytest.raises(UserError, match='a run of the task vae cannot describe images; one of captioner can'):
        check_can('vae', make_task(default_config('vae'), Spec('image', (28, 28, 1))), SPEC, 'describe')
    with pytest.raises(UserError, match='a run of the task captioner cannot sample images'):
        check_can('captioner', task, SPEC, 'sample')


@pytest.mark.parametrize('task', ['prior', 'captioner'])
def test_codes_of_which_each_cannot_be_learned_are_refused(task):
    run = SimpleNamespace(workdir='RUN')
    check_embeddable(SimpleNamespace(code_spec=SimpleNamespace(largest=2**22), run=run), task)
    with pytest.raises(
        UserError, match=f'the codes of RUN are of 4,194,305, and a {task} learns each, of at most'
    ):
        check_embeddable(SimpleNamespace(code_spec=SimpleNamespace(largest=2**22 + 1), run=run), task)

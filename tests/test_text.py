"""Text that is learned: a run, what it samples, and how it goes on with a text."""

import json

import numpy as np
import pytest

import vq_jax
from tests.runs import run
from vq_jax import sample_flags
from vq_jax.spec import Spec, Tokens
from vq_jax.tasks import default_config
from vq_jax.text_tokenizers import PADDING

TEXT = 'The quick, ' * 80  # in which each character says which one follows
LENGTH = 22


def config_of(path):
    config = default_config('prior')
    config.steps = config.eval_every = config.checkpoint_every = 150
    config.batch_size, config.num_shown = 16, 2
    config.data.name = f'text:{path}'
    config.data.num_tokens = LENGTH
    config.data.random_crop = True
    config.transformer.depth, config.transformer.width, config.transformer.heads = 1, 32, 2
    config.optimizer.learning_rate = 1e-2
    config.optimizer.schedule = 'cosine'
    return config


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('text')
    (folder / 'fox.txt').write_text(TEXT)
    vq_jax.fit(vq_jax.Experiment.build(config_of(folder / 'fox.txt')), folder / 'run')
    return folder / 'run'


@pytest.fixture(scope='module')
def opened(workdir):
    return vq_jax.load(workdir)


def test_a_run_learns_text_and_keeps_its_tokens(workdir, opened):
    assert opened.spec == Spec('text', (LENGTH,), tokens=Tokens('bytes'))
    metrics = opened.evaluate().metrics
    # All but the first byte of a piece are known.
    assert metrics['examples'] == len(TEXT) // 10 // LENGTH and metrics['bits_per_byte'] < 1
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert [x['bits_per_byte'] for x in lines if x['split'] == 'eval'] == [
        pytest.approx(metrics['bits_per_byte'], rel=1e-4)
    ]
    shown = (workdir / 'texts' / 'samples_0000150.txt').read_text()
    held_out = TEXT[len(TEXT) * 9 // 10 :]
    assert shown.startswith(f'--- originals 1 ---\n{held_out[:LENGTH]}\n\n')
    assert '--- samples 2 ---' in shown and 'reconstructions' not in shown


def test_it_samples_texts_and_goes_on_with_them(opened):
    tokens = opened.sample(3, temperature=0)
    assert tokens.shape == (3, LENGTH) and tokens.dtype == np.int32
    assert {text in TEXT for text in opened.texts(tokens)} == {True}
    prompt, _ = opened.prepare(b'quick, The qu', whole=True)
    longer = opened.infill(np.stack([prompt] * 2), len(prompt), 50, temperature=0)
    assert longer.shape == (2, 50)
    start = TEXT.index('quick')
    assert opened.texts(longer) == [TEXT[start : start + 50]] * 2
    # In the middle too, where what follows stays as it is.
    gap = opened.infill(longer, 20, 30, temperature=0)
    np.testing.assert_array_equal(gap, longer)


def test_what_is_known_of_a_short_text_ends_where_it_does(opened, monkeypatch):
    known = []

    def inpaint(self, examples, hole, *_, **__):
        known.append(examples[0].tolist())
        return examples

    monkeypatch.setattr(type(opened), 'inpaint', inpaint)
    opened.infill(np.array([[*b'abcd']], np.int32), 1, 3)
    assert known == [[*b'abcd', *[PADDING] * (LENGTH - 4)]]


def test_what_it_is_given_is_checked(opened, tmp_path):
    example, _ = opened.prepare(b'a fox')
    assert example.tolist() == [*b'a fox', *[PADDING] * (LENGTH - 5)]
    (tmp_path / 'latin.txt').write_bytes(b'\xe9')
    for file, words in {
        'x' * 30: 'cannot be read',
        b'x' * 30: 'has 30 tokens, and the model takes 22; give a shorter one',
        tmp_path / 'latin.txt': 'is no text in UTF-8',
    }.items():
        with pytest.raises(vq_jax.UserError, match=words):
            opened.prepare(file)
    with pytest.raises(vq_jax.UserError, match='a text has no mask'):
        opened.prepare(b'x', mask=b'x')
    with pytest.raises(vq_jax.UserError, match=r'texts must be int32 \[b n\]'):
        opened.infill(np.zeros((1, 3)), 3, 6)
    with pytest.raises(vq_jax.UserError, match='there are no texts'):
        opened.infill(np.zeros((1, 0), np.int32), 0, 6)


def test_samples_are_written_as_text(tmp_path):
    spec = Spec('text', (4,), tokens=Tokens('bytes'))
    examples = np.array([[97, 98, -1, -1], [99, 100, 101, 102]], np.int32)
    for name in ('x.txt', 'x.npz', 'x'):
        sample_flags.check_fits(tmp_path / name, 2, spec)
        sample_flags.write(tmp_path / name, examples, spec, 'title', ['one', 'two'])
    assert (tmp_path / 'x.txt').read_text() == '--- text 1, one ---\nab\n\n--- text 2, two ---\ncdef\n'
    np.testing.assert_array_equal(np.load(tmp_path / 'x.npz')['texts'], examples)
    assert [(tmp_path / 'x' / f'{i}.txt').read_text() for i in range(2)] == ['ab', 'cdef']
    sample_flags.write(tmp_path / 'one.txt', examples[:1], spec, 'title')
    assert (tmp_path / 'one.txt').read_text() == 'ab'


@pytest.mark.slow
def test_commands_take_and_write_text(workdir, tmp_path):
    (tmp_path / 'prompt.txt').write_text('quick, The qu')
    words = [f'--workdir={workdir}', f'--input={tmp_path}/prompt.txt', '--temperature=0']
    run([*words, '--continue=37', f'--output={tmp_path}/more.txt'], module='vq_jax.edit')
    start = TEXT.index('quick')
    assert (tmp_path / 'more.txt').read_text() == TEXT[start : start + 50]
    run([f'--workdir={workdir}', '--num=2', f'--output={tmp_path}/x.txt'], module='vq_jax.sample')
    assert (tmp_path / 'x.txt').read_text().startswith('--- text 1 ---\n')
    output, _ = run([f'--workdir={workdir}'], module='vq_jax.evaluate')
    assert 'bits_per_byte' in output
    run([f'--output={tmp_path}/report.html', str(workdir)], module='vq_jax.report')
    assert '--- samples 1 ---' in (tmp_path / 'report.html').read_text()
    _, errors = run([*words, '--continue=1.5', f'--output={tmp_path}/x.txt'], module='vq_jax.edit', status=2)
    assert '--continue counts tokens, and this run is of texts; give whole numbers.' in errors


@pytest.mark.slow
def test_a_run_of_learned_tokens_goes_on_when_its_text_has_changed(tmp_path):
    """With the tokens that it began with, which its directory keeps."""
    pytest.importorskip('tokenizers')
    path = tmp_path / 'fox.txt'
    path.write_text(TEXT)
    config = config_of(path)
    config.steps = config.eval_every = config.checkpoint_every = 2
    config.optimizer.schedule = 'constant'
    config.data.text_tokenizer = 'bpe:270'
    vq_jax.fit(vq_jax.Experiment.build(config), tmp_path / 'run')
    opened = vq_jax.load(tmp_path / 'run')
    assert opened.spec.tokens.kind == 'bpe'
    assert opened.texts([opened.prepare(b'The quick', whole=True)[0]]) == ['The quick']
    path.write_text(TEXT + 'a dog came in. ' * 100)
    config.steps = 4
    metrics = vq_jax.fit(vq_jax.Experiment.build(config, tmp_path / 'run'), tmp_path / 'run')
    again = vq_jax.load(tmp_path / 'run')
    assert again.spec == opened.spec and again.step == 4
    assert again.evaluate().metrics['bits_per_byte'] == pytest.approx(metrics['bits_per_byte'], rel=1e-5)

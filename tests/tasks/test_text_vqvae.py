"""A VQ-VAE of text, as probabilities of texts given codes."""

import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vq_jax
from vq_jax.errors import UserError
from vq_jax.run import Run
from vq_jax.spec import Spec, Tokens
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.codec import FrozenRun
from vq_jax.tasks.restore import Restored
from vq_jax.text_tokenizers import ByteTokenizer, pad_tokens
from vq_jax.train import train

SPEC = Spec('text', (4,), tokens=Tokens('bytes'))
LINES = ['to be or not', 'no', 'be to be', 'not to be or no', '', 'or']


class Letters(ByteTokenizer):
    """Three tokens, the second of which stands for two bytes: few enough to go through all texts."""

    size = 3
    lengths = np.array([1, 2, 1])


def config_of(**loss):
    config = default_config('vqvae')
    config.model.update({'channels': 8, 'stages': 1, 'residual_blocks': 0})
    config.quantizer.update({'num_codes': 5, 'dim': 4})
    config.loss.update({'reconstruction': 'categorical', **loss})
    return config


def begun(task, batch, seed=0):
    """A state with parameters by which codes and texts differ in how likely they are."""
    state, rng = jax.eval_shape(task.init, jax.random.key(0), batch), np.random.default_rng(seed)
    params, variables = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), (state.params, state.variables)
    )
    return state.replace(
        params=params,
        variables=variables,
        step=jnp.zeros((), jnp.int32),
        key=jax.random.key(0),
        opt_state=(),
        frozen=task.pretrained(),
    )


def test_the_probabilities_of_all_texts_with_some_codes_sum_to_one(monkeypatch):
    """Those that end within, and those that fill an example; evaluation counts all that is predicted."""
    monkeypatch.setattr('vq_jax.tasks.values.text_tokenizer', lambda tokens: Letters())
    task = make_task(config_of(), SPEC)
    rows = [row for n in range(5) for row in itertools.product(range(3), repeat=n)]
    texts, labels = pad_tokens(map(np.array, rows), 4), np.zeros(len(rows), np.int32)
    batch = {'x': jnp.asarray(texts), 'label': labels}
    state = begun(task, batch)
    likelihood = jax.jit(task.log_likelihood)
    for code in range(3):
        codes = (jnp.full((len(texts), 2, 1), code).at[:, 1].set(4),)
        nats = np.float64(likelihood(state, texts, codes))
        np.testing.assert_allclose(np.logaddexp.reduce(nats), 0, atol=1e-5)
        assert np.ptp(nats) > 1
    values = jax.jit(task.eval_step)(state, batch)

    @jax.jit
    def rebuilt(state):
        codes = task.encode(state, texts)
        outputs = task.model.apply(state.eval_variables(), codes, method='outputs').outputs
        return codes, outputs, task.decode(state, codes, labels)

    codes, outputs, decoded = rebuilt(state)
    assert len(np.unique(codes[0], axis=0)) > 1
    nats = np.float64(likelihood(state, texts, codes))
    np.testing.assert_allclose(values['reconstruction'], nats, rtol=1e-5)
    length, best = (texts >= 0).sum(1), np.argmax(outputs, -1)
    np.testing.assert_array_equal(values['predicted'], np.minimum(length + 1, 4))
    counted = np.arange(4) <= length[:, None]
    right = (best == np.where(texts < 0, 3, texts)) & counted
    np.testing.assert_array_equal(values['right'], right.sum(1))
    # A reconstruction ends where an end is likeliest.
    ended = np.cumsum(best == 3, axis=1) > 0
    np.testing.assert_array_equal(decoded, np.where(ended, -1, best))


@pytest.mark.parametrize('kind', [pytest.param('transformer', marks=pytest.mark.slow), 'maskgit'])
def test_a_gap_in_a_text_is_filled_with_tokens(monkeypatch, kind):
    """A text that is known to go on has no end in it, whatever its codes say; others end where they did."""
    monkeypatch.setattr('vq_jax.tasks.values.text_tokenizer', lambda tokens: Letters())
    spec = Spec('text', (8,), tokens=Tokens('bytes'))
    vqvae = make_task(config_of(), spec)
    texts = np.random.default_rng(0).integers(0, 3, (6, 8)).astype(np.int32)
    texts[1, 6:] = texts[2, 4:] = texts[3, 2:] = -1
    labels = np.zeros(6, np.int32)
    codec = FrozenRun(
        Restored(config_of(), vqvae, begun(vqvae, {'x': texts, 'label': labels}), spec, 0, Path()), spec
    )
    monkeypatch.setattr('vq_jax.tasks.prior.make_codec', lambda config, spec: codec)
    config = default_config('prior')
    config.model.kind, config.batch_size = kind, 6
    config.transformer.update({'depth': 1, 'width': 8, 'heads': 2})
    prior = make_task(config, spec)
    state = begun(prior, {'x': texts, 'label': labels}, seed=1)
    ends = prior.decode(state, prior.encode(state, texts), labels) < 0
    assert ends.any() and (ends[texts >= 0]).any()  # as texts are decoded that nobody knows to go on
    seen = []
    sample = type(prior.network).sample
    monkeypatch.setattr(
        type(prior.network),
        'sample',
        lambda self, variables, keys, context, sampling, known: (
            jax.debug.callback(lambda known: seen.append(np.asarray(known)), known)
            or sample(self, variables, keys, context, sampling, known)
        ),
    )
    filled = Run(Restored(config, prior, state, spec, 0, Path())).infill(texts, 3, 5)
    outside = np.delete(np.arange(8), [3, 4])
    np.testing.assert_array_equal(filled[:, outside], texts[:, outside])
    assert (filled[[0, 1, 4, 5], 3:5] >= 0).all() and filled.max() < 3
    assert len(np.unique(filled[[0, 1, 4, 5], 3:5])) > 1
    # What is known is the codes beside the gap, of which none see an end in it: they are as of another text.
    [known] = seen
    known = known.reshape(6, 4)
    np.testing.assert_array_equal(known < 0, [[False, True, True, False]] * 6)
    other = texts.copy()
    other[:, 3:5] = np.where(other[:, 5:6] >= 0, other[:, 2:3], -1)
    codes = np.asarray(prior.encode(state, other)[0]).reshape(6, 4)
    np.testing.assert_array_equal(known[[0, 1, 4, 5]][:, [0, 3]], codes[[0, 1, 4, 5]][:, [0, 3]])


def test_what_does_not_fit():
    with pytest.raises(UserError, match='is mse, which is for numbers, and tokens of text are none; set'):
        make_task(config_of(reconstruction='mse'), SPEC)
    with pytest.raises(UserError, match='is categorical, which is for text, and these are images; set it to'):
        make_task(config_of(), Spec('image', (4, 4, 1)))
    with pytest.raises(UserError, match=r'examples of 5 cannot be divided by 2.*config\.data\.num_tokens'):
        make_task(config_of(), Spec('text', (5,), tokens=Tokens('bytes')))
    with pytest.raises(UserError, match=r'stand for is not known.*tokens = vq_jax\.spec\.Tokens'):
        make_task(config_of(), Spec('text', (4,)))


@pytest.mark.slow
def test_texts_of_codes_and_what_both_cost(tmp_path):
    """A VQ-VAE of a text learns it, and a prior over its codes bounds what the text costs."""
    (tmp_path / 'text.txt').write_text(' '.join(LINES) * 60)
    config = config_of()
    config.steps = config.eval_every = config.checkpoint_every = 300
    config.batch_size, config.num_shown = 16, 2
    config.data.update({'name': f'text:{tmp_path / "text.txt"}', 'num_tokens': 16, 'eval_split': 'test'})
    config.model.channels, config.quantizer.num_codes = 32, 32
    config.optimizer.learning_rate = 3e-3
    train(config, tmp_path / 'vqvae')
    run = vq_jax.load(tmp_path / 'vqvae')
    metrics = run.evaluate().metrics
    assert metrics['accuracy'] > 0.9
    [shown] = (tmp_path / 'vqvae' / 'texts').glob('*reconstructions*')
    assert '--- originals 1 ---' in shown.read_text() and '--- reconstructions 1 ---' in shown.read_text()
    prompt, _ = run.prepare(b'no not to be or')
    codes = run.encode(prompt[None])
    assert codes.shape == (1, 8)
    text = run.texts(run.decode(codes))[0]
    assert np.mean([a == b for a, b in zip(text, 'no not to be or', strict=False)]) > 0.7
    prior = default_config('prior')
    prior.steps = prior.eval_every = prior.checkpoint_every = 60
    prior.batch_size, prior.data = 16, config.data
    prior.tokenizer.workdir = str(tmp_path / 'vqvae')
    prior.transformer.update({'depth': 1, 'width': 32, 'heads': 2})
    train(prior, tmp_path / 'prior')
    sampler = vq_jax.load(tmp_path / 'prior')
    samples = sampler.texts(sampler.sample(2))
    assert len(samples) == 2 and all(set(text) <= set(' benort\ufffd') for text in samples)
    mended = sampler.infill(prompt[None], 5, 11, temperature=0.5)
    outside = np.delete(np.arange(16), np.s_[5:11])
    np.testing.assert_array_equal(mended[:, outside], prompt[None, outside])
    assert {chr(token) for token in mended[0, 5:11]} <= set(' benort')
    found = sampler.evaluate().metrics
    # The same of all pieces, one by one.
    data = run.dataset('test')
    tokens = data.fetch(np.arange(len(data))).values
    codes = run.encode(tokens)
    bits, of_bytes = 1 / math.log(2), (tokens >= 0).sum()
    given = np.float64(run.task.log_likelihood(run.state, tokens, (codes[..., None],)))
    uniform = (len(tokens) * 8 * math.log(32) - given.sum()) * bits / of_bytes
    assert metrics['bits_per_byte_uniform_prior'] == pytest.approx(uniform, rel=1e-4)
    bound = -(np.float64(sampler.log_prob(codes)) + given).sum() * bits / of_bytes
    assert found['bits_per_byte_bound'] == pytest.approx(bound, rel=1e-4)
    assert 'bits_per_byte' not in found and bound < uniform

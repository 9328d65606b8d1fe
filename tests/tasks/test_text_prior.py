"""Priors over the tokens of text, as probabilities of texts."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.spec import Spec, Tokens
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.codec import LatentConfig, Text, TokenizerConfig, make_codec
from vq_jax.text_tokenizers import ByteTokenizer, pad_tokens

END = 4
SPEC = Spec('text', (3,), tokens=Tokens('bytes'))
LABELS = np.zeros(1, np.int32)


class Letters(ByteTokenizer):
    """Four tokens, the third of which stands for two bytes: few enough to go through all texts."""

    size = END
    lengths = np.array([1, 1, 2, 1])


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    monkeypatch.setattr('vq_jax.tasks.values.text_tokenizer', lambda tokens: Letters())


def task_of(spec=SPEC, kind='transformer'):
    config = default_config('prior')
    config.model.kind = kind
    config.transformer.depth, config.transformer.width, config.transformer.heads = 1, 8, 2
    return make_task(config, spec)


def begun(task):
    """A state with parameters by which some texts are much likelier than others."""
    batch = {'x': jnp.zeros((1, *task.spec.shape), jnp.int32)}
    state, rng = jax.eval_shape(task.init, jax.random.key(0), batch), np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), x.dtype), state.params)
    optimizer = task.optimizer.transformation.init(params)
    key = jax.random.key(0)
    return state.replace(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=params,
        opt_state=optimizer,
        frozen=task.pretrained(),
    )


def test_codes_are_tokens_and_an_end():
    codec = Text(Spec('text', (4,), tokens=Tokens('bytes')))
    x = jnp.array([[0, 1, 2, 3], [2, -1, -1, -1], [-1, -1, -1, -1]])
    (codes,) = codec.encode(None, x)
    assert codec.code_spec.vocabularies == ((END + 1,),) and codec.code_spec.shapes == ((4, 1),)
    np.testing.assert_array_equal(codes[1:, :, 0], [[2, END, END, END], [END] * 4])
    np.testing.assert_array_equal(codec.decode(None, (codes,), None), x)
    certain = [[False] * 4, [False, False, True, True], [False, True, True, True]]
    np.testing.assert_array_equal(codec.certain((codes,)), certain)
    # What a model may sample after an end is no part of a text.
    sampled = jnp.array([[[1], [END], [2], [END]]])
    np.testing.assert_array_equal(codec.decode(None, (sampled,), None), [[1, -1, -1, -1]])


def all_texts():
    """Those of up to three tokens [85 3], each once."""
    rows = [row for n in range(4) for row in itertools.product(range(END), repeat=n)]
    return pad_tokens(map(np.array, rows), 3)


def test_the_probabilities_of_all_texts_sum_to_one():
    """Those that end within, and those that fill an example."""
    task, texts = task_of(), all_texts()
    state, labels = begun(task), np.zeros(len(texts), np.int32)
    codes = task.codec.encode(None, texts)
    found = np.float64(jax.jit(task.log_probability)(state, codes, labels))
    assert found.max() - found.min() > 2
    np.testing.assert_allclose(np.logaddexp.reduce(found), 0, atol=1e-5)
    # And evaluation, with fewer of them, adds up the same.
    values = jax.jit(task.eval_step)(state, {'x': texts, 'label': labels})
    np.testing.assert_allclose(values['nats'], -found, rtol=1e-5)
    length = (texts >= 0).sum(1)
    np.testing.assert_array_equal(values['bytes'], length + (texts == 2).sum(1))
    np.testing.assert_allclose(values['asked'], np.minimum(length + 1, 3) / 3)
    means = {name: np.float64(value).mean(axis=0) for name, value in values.items()}
    metrics, nats = task.summarize(means), -found.sum()
    bits = nats / np.log(2) / (length.sum() + (texts == 2).sum())
    assert metrics['bits_per_byte'] == pytest.approx(bits, rel=1e-5)
    assert metrics['loss'] == pytest.approx(nats / np.minimum(length + 1, 3).sum(), rel=1e-5)
    assert 'bits_per_dimension' not in metrics


def test_training_learns_nothing_of_what_follows_an_end():
    """A step on a text is the same, whatever stands for codes after its end."""
    task = task_of()
    state = begun(task)

    class Odd(Text):
        def encode(self, state, x):
            (codes,) = super().encode(state, x)
            return (jnp.where(super().certain((codes,))[..., None], 0, codes),)

        def certain(self, codes):
            return jnp.array([[False, False, True], [False, True, True]])[-len(codes[0]) :]

    odd = dataclasses.replace(task, codec=Odd(task.spec))
    batch = {'x': jnp.array([[1, -1, -1], [-1, -1, -1]]), 'label': jnp.zeros(2, jnp.int32)}
    (one, metrics), (other, same) = (jax.jit(each.train_step)(state, batch) for each in (task, odd))
    np.testing.assert_allclose(metrics['loss'], same['loss'], rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), one.params, other.params)


def test_a_masked_prior_predicts_the_ends_too():
    """For it is given none of them when it samples."""
    task = task_of(kind='maskgit')
    ends = jnp.full((2, 3), -1)
    values = jax.eval_shape(task.eval_step, begun(task), {'x': ends, 'label': jnp.zeros(2, jnp.int32)})
    assert 'bytes' in values and task._uncertain(task.encode(begun(task), ends)) is None


def test_a_masked_prior_has_a_bound():
    """Its mean over masks is that of all orders in which texts may be sampled one token after another."""
    task = task_of(kind='maskgit')
    state, texts = begun(task), np.array([[1, 2, 3], [0, -1, -1]], np.int32)
    codes, labels = task.encode(state, texts), np.zeros(2, np.int32)
    tokens = np.asarray(codes[0][..., 0])
    variables = state.eval_variables()
    context = task.network.context(variables, labels)
    nats = {}  # of each token, with these masked
    for masked in itertools.product([False, True], repeat=3):
        logits = task.network.logits(variables, tokens, np.array([masked] * 2), context)
        each = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), tokens[..., None], -1)
        nats[masked] = each[..., 0]
    orders = [
        sum(nats[tuple(i not in order[:step] for i in range(3))][:, at] for step, at in enumerate(order))
        for order in itertools.permutations(range(3))
    ]
    assert np.ptp(orders, axis=0).min() > 0.1
    rows = np.repeat([0, 1], 4000)
    many = tuple(scale[rows] for scale in codes)
    keys = jax.random.split(jax.random.key(0), len(rows))
    found = jax.jit(task._nats_bound)(state, many, labels[rows], {}, keys).reshape(2, -1)
    error = np.std(found, axis=1) / np.sqrt(found.shape[1])
    assert (np.abs(np.mean(found, axis=1) - np.mean(orders, axis=0)) < 4 * error).all()
    values = jax.eval_shape(task.eval_step, state, {'x': texts, 'label': labels})
    means = {name: np.ones(value.shape[1:]) for name, value in values.items()}
    assert task.summarize(means)['bits_per_byte_bound'] == pytest.approx(1 / np.log(2))


def test_what_is_no_text_is_told():
    with pytest.raises(UserError, match='learns no text; set it to prior or vqvae'):
        make_task(default_config('vae'), SPEC)
    with pytest.raises(UserError, match=r'stand for is not known.*tokens = vq_jax\.spec\.Tokens'):
        make_codec(TokenizerConfig(), Spec('text', (2,)))
    with pytest.raises(UserError, match='tokens of text are no numbers'):
        make_codec(LatentConfig(), SPEC)
    with pytest.raises(UserError, match=r'config\.tokenizer\.levels is 2, and text has no levels'):
        make_codec(TokenizerConfig(levels=2), SPEC)
    with pytest.raises(UserError, match=r'num_tokens is 5,000; a transformer .* at most 4,096'):
        task_of(Spec('text', (5000,), tokens=Tokens('bytes')))
    with pytest.raises(UserError, match='other tokens than those that the model was made for'):
        task_of().check_spec(Spec('text', (3,), tokens=Tokens('bpe', '{}')))
    with pytest.raises(UserError, match=r'set config\.data\.num_tokens to 3'):
        task_of().check_spec(Spec('text', (2,), tokens=Tokens('bytes')))


def test_holes_where_no_text_is_teach_nothing():
    config = default_config('prior')
    config.model.given = 1.0
    config.transformer.depth, config.transformer.width, config.transformer.heads = 1, 8, 2
    task = make_task(config, Spec('text', (16,), tokens=Tokens('bytes')))
    state, step = begun(task), jax.jit(task.train_step)
    batch = {'x': np.array([[1, *[-1] * 15]], np.int32), 'label': LABELS, 'mask': np.ones(1, bool)}
    losses = []
    for _ in range(8):
        state, metrics = step(state, batch)
        losses.append(float(metrics['loss']))
    assert np.isfinite(losses).all() and min(losses) == 0 < max(losses)


def test_images_with_captions_are_measured_in_dimensions():
    task = task_of(Spec('image', (2, 2, 1), tokens=Tokens('bytes')), 'maskgit')
    batch = {'x': np.zeros((1, 2, 2, 1), np.uint8), 'label': LABELS, 'mask': np.ones(1, bool)}
    values = jax.eval_shape(task.eval_step, begun(task), batch)
    metrics = task.summarize({name: np.ones(value.shape[1:]) for name, value in values.items()})
    assert 'bits_per_dimension_bound' in metrics and 'bits_per_byte_bound' not in metrics

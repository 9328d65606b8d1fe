"""The text encoder: what it sees, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.models.text_encoder import TextEncoder
from vq_jax.text_tokenizers import ByteTokenizer

ENCODER = TextEncoder(ByteTokenizer(), length=8, depth=2, width=16, heads=2)


def given(*texts):
    return jnp.stack([ENCODER.prepare(text)['text'] for text in texts])


@pytest.fixture(scope='module')
def params():
    return jax.jit(ENCODER.init)(jax.random.key(0), given('ab'))['params']


@pytest.fixture(scope='module')
def encode(params):
    return jax.jit(lambda text: ENCODER.apply({'params': params}, text))


def test_what_stands_after_the_end_of_a_text_changes_nothing(encode, params):
    """Of a text of the same tokens in less room, by an encoder with the same first positions."""
    context = encode(given('abc', 'abcdefgh'))
    np.testing.assert_array_equal(context.mask.sum(1), [4, 9])
    shorter = TextEncoder(ByteTokenizer(), length=3, depth=2, width=16, heads=2)
    params = {**params, 'position': params['position'][:4]}
    alone = shorter.apply({'params': params}, given('abc')[:, :3])
    np.testing.assert_allclose(context.tokens[:1, :4], alone.tokens, atol=1e-5)
    np.testing.assert_allclose(context.vector[:1], alone.vector, atol=1e-5)


def test_every_token_sees_all_others_and_their_order(encode):
    context = encode(given('abcd', 'abce', 'xbcd', 'bacd'))
    for other in (1, 2, 3):
        changed = np.abs(context.tokens[0, :5] - context.tokens[other, :5]).max(-1)
        assert (changed > 1e-4).all()


def test_a_text_without_tokens_is_one_too(encode):
    context = encode(jnp.full((1, 8), -1))
    assert jnp.isfinite(context.tokens).all() and context.mask.sum() == 1


def test_texts_of_other_scripts_are_encoded_and_described():
    texts = ['\u00e9t\u00e9', '\u8d64', '\U0001f34e']
    assert ENCODER.describe(np.asarray(given(*texts))) == texts


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('nine long', r'the text has 9 tokens, and this model was trained on texts of up to 8'),
        (' ', "the text is ' '; say what is to be made"),
        (3, 'the text is 3; say what is to be made'),
    ],
)
def test_texts_that_do_not_fit(text, words):
    with pytest.raises(UserError, match=words):
        ENCODER.prepare(text)


def test_sizes_that_do_not_fit():
    with pytest.raises(UserError, match='width is 10, not a multiple of 4 heads'):
        TextEncoder(ByteTokenizer(), length=8, width=10)

"""Vectors of texts to a context, beside NumPy."""

import jax
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.models.context import ContextEncoder, prepared
from vq_jax.models.embedded_text import EmbeddedText
from vq_jax.spec import TextVectors
from vq_jax.text_tokenizers import ByteTokenizer


def embed(text):
    return np.random.RandomState(len(text)).standard_normal((len(text), 3))


MODULES = {
    pool: EmbeddedText(ByteTokenizer(), 8, TextVectors(4, 3, ''), embed, pool, width=5)
    for pool in ('mean', 'last')
}
TEXTS = ('ab', 'abcd')


def given(module):
    ready = [prepared(module, {'text': text}) for text in TEXTS]
    return {name: np.stack([one[name] for one in ready]) for name in module.specs()}


@pytest.mark.parametrize('pool', MODULES)
def test_context_beside_numpy(pool):
    module = MODULES[pool]
    params = jax.jit(module.init)(jax.random.key(0), **given(module))['params']
    context = jax.jit(module.apply)({'params': params}, **given(module))
    for i, text in enumerate(TEXTS):
        x = embed(text).astype(np.float16).astype(np.float32)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        tokens = x @ params['tokens']['kernel'] + params['tokens']['bias']
        np.testing.assert_allclose(context.tokens[i, : len(text)], tokens, atol=1e-5)
        pooled = x.mean(0) if pool == 'mean' else x[-1]
        vector = pooled @ params['pooled']['kernel'] + params['pooled']['bias']
        np.testing.assert_allclose(context.vector[i], vector, atol=1e-5)
        np.testing.assert_array_equal(context.mask[i], np.arange(4) < len(text))


def test_what_is_dropped_has_neither_vector_nor_tokens():
    module = MODULES['mean']
    encoder = ContextEncoder(conditioner=module, dropout=0.5)
    labels = np.zeros(2, np.int32)
    negative = {f'negative {name}': x[::-1] for name, x in given(module).items()}
    conditions = {**given(module), **negative}
    context, _ = encoder.init_with_output(jax.random.key(0), labels, None, conditions, method='encode')
    np.testing.assert_allclose(encoder.without(context).vector, context.vector[::-1], atol=1e-6)
    nothing = encoder.without(context.replace(negative=None))
    assert not nothing.vector.any() and not nothing.tokens.any() and not nothing.mask.any()


def test_texts_of_users():
    module = MODULES['last']
    assert module.describe(**given(module)) == list(TEXTS)
    own = np.arange(6).reshape(2, 3)
    found = prepared(module, {'text': 'ab', 'text_vectors': own})
    np.testing.assert_array_equal(found['text_vectors'][:2], own)
    assert found['text_length'] == 2 and found['text_vectors'].dtype == np.float16
    for text, vectors, words in (
        ('', None, "the text is ''; say what is to be made"),
        ('123456789', None, 'the text has 9 tokens, and this model was trained on texts of up to 8'),
        ('abcde', None, r'text_vectors have the shape \(5, 3\); give 1 to 4 vectors of 3 numbers'),
        ('ab', np.zeros(3), r'text_vectors have the shape \(3,\)'),
    ):
        with pytest.raises(UserError, match=words):
            prepared(module, {'text': text, 'text_vectors': vectors})

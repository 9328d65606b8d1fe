import dataclasses
import json
import sys

import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.spec import Tokens
from vq_jax.text_tokenizers import (
    PADDING,
    BpeTokenizer,
    ByteTokenizer,
    pad_tokens,
    text_tokenizer,
    texts_of,
)

TEXTS = ['the cat and the hat', 'a hat for the cat', 'naïve café 🐈']
ANY = ['', 'the cat', '\x00\t\r\n  spaces  ', 'Ünïcode ½ 漢字 🐈‍⬛', 'a\ufffdb', '\x85\xa0']


@pytest.fixture(scope='module')
def bpe():
    pytest.importorskip('tokenizers')
    return BpeTokenizer.train(TEXTS, size=270)


def kinds(request, kind):
    return ByteTokenizer() if kind == 'bytes' else request.getfixturevalue('bpe')


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
def test_any_text_comes_back_and_so_does_its_tokenizer(request, kind):
    tokenizer = kinds(request, kind)
    kept = tokenizer.tokens
    again = text_tokenizer(Tokens(**json.loads(json.dumps(dataclasses.asdict(kept)))))
    assert again.kind == kind and again.size == tokenizer.size and again.tokens == kept
    assert kept.content.isprintable() and kept.content.isascii()  # what JSON of ours may hold
    for text in ANY:
        tokens = tokenizer.encode(text)
        assert tokens.dtype == np.int32 and tokens.ndim == 1
        assert tokenizer.decode(tokens) == text
        assert tokenizer.lengths[tokens].sum() == len(text.encode())
        np.testing.assert_array_equal(again.encode(text), tokens)


def test_bytes_are_those_of_utf8():
    assert ByteTokenizer().encode('é🐈').tolist() == [0xC3, 0xA9, 0xF0, 0x9F, 0x90, 0x88]


def test_bpe_merges_what_is_frequent_and_has_all_bytes(bpe):
    assert 256 < bpe.size <= 270
    assert len(bpe.encode('the cat')) < len('the cat')
    assert len(bpe.encode('漢')) == 3


def test_bpe_agrees_with_a_reading_of_its_own_merges(bpe):
    """The algorithm from the paper, on the merges that the file lists."""
    model = json.loads(bpe.tokens.content)['model']
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(' ')) for pair in model['merges']]
    for word in ['the', 'hat', 'cat', 'that']:
        parts = list(word)
        for pair in merges:
            place = 0
            while place < len(parts) - 1:
                if tuple(parts[place : place + 2]) == pair:
                    parts[place : place + 2] = [''.join(pair)]
                place += 1
        assert bpe.encode(word).tolist() == [model['vocab'][part] for part in parts]


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
def test_whatever_is_sampled_can_be_shown(request, kind):
    tokenizer = kinds(request, kind)
    for seed in range(20):
        tokens = np.random.default_rng(seed).integers(0, tokenizer.size, 30)
        assert isinstance(tokenizer.decode(tokens), str)
    cut = tokenizer.encode('漢')[:2]
    assert set(tokenizer.decode(cut)) == {'\ufffd'}


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
def test_padding_is_left_out_and_what_is_no_token_is_told(request, kind):
    tokenizer = kinds(request, kind)
    padded = pad_tokens([tokenizer.encode('cat')], 10)[0]
    assert padded[-1] == PADDING and tokenizer.decode(padded) == 'cat'
    for token in (-2, tokenizer.size):
        with pytest.raises(UserError, match=f'from 0 to {tokenizer.size - 1}'):
            tokenizer.decode([0, token])
    with pytest.raises(UserError, match='UTF-8'):
        tokenizer.encode('a\udcff')


def test_texts_are_padded_and_cut_to_one_length():
    texts = [np.array([1, 2, 3]), np.array([], np.int32), np.array([4, 5, 6, 7])]
    padded = pad_tokens(texts, 3)
    assert padded.dtype == np.int32
    assert padded.tolist() == [[1, 2, 3], [-1, -1, -1], [4, 5, 6]]
    assert pad_tokens([], 3).shape == (0, 3)
    assert texts_of(pad_tokens([np.array([97, 98]), np.array([], int)], 3), Tokens('bytes')) == ['ab', '']


def test_a_file_is_read_without_what_it_adds(bpe, tmp_path):
    """Special tokens around a text, lengths and padding are for other models."""
    content = json.loads(bpe.tokens.content)
    content['truncation'] = {'direction': 'Right', 'max_length': 2, 'strategy': 'LongestFirst', 'stride': 0}
    content['post_processor'] = {
        'type': 'BertProcessing',
        'sep': ['a', content['model']['vocab']['a']],
        'cls': ['b', content['model']['vocab']['b']],
    }
    path = tmp_path / 'tokenizer.json'
    path.write_text(json.dumps(content))
    read = BpeTokenizer.read(path)
    np.testing.assert_array_equal(read.encode(TEXTS[0]), bpe.encode(TEXTS[0]))


def test_what_a_tokenizer_was_made_of_is_kept_as_it_is(bpe, tmp_path):
    """Else a version of the package that writes it in another way would make other tokens of the same."""
    content = json.loads(bpe.tokens.content)
    del content['post_processor'], content['normalizer']  # which the package writes
    content['model']['later'] = 'caf\u00e9'  # which it does not
    kept = Tokens('bpe', json.dumps(content, indent=1, ensure_ascii=False))
    assert text_tokenizer(kept).tokens == kept
    path = tmp_path / 'tokenizer.json'
    path.write_text(kept.content, encoding='utf-8', newline='\r\n')
    read = BpeTokenizer.read(path).tokens.content
    assert json.loads(read) == content
    assert read.isprintable() and read.isascii()


def test_a_text_without_tokens_is_told():
    pytest.importorskip('tokenizers')
    model = {'type': 'WordLevel', 'vocab': {'a': 0}, 'unk_token': '[UNK]'}
    tokenizer = BpeTokenizer(json.dumps({'version': '1.0', 'added_tokens': [], 'model': model}))
    assert tokenizer.encode('a').tolist() == [0]
    with pytest.raises(UserError, match=r'no tokens for a text \(.*\[UNK\].*\); set config') as error:
        tokenizer.encode('b')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('number', [2**22, 2**32 - 1])
def test_numbers_of_tokens_are_bounded(number):
    """There are arrays of as many; the latter is no int32 either."""
    pytest.importorskip('tokenizers')
    model = {'type': 'WordLevel', 'vocab': {'a': number}, 'unk_token': '[UNK]'}
    with pytest.raises(UserError, match=f'numbers its tokens up to {number:,}, and there may be 4,194,304'):
        BpeTokenizer(json.dumps({'version': '1.0', 'added_tokens': [], 'model': model}))


BPE = {'type': 'BPE', 'vocab': {'a': 0, '\u00e9': 1, 'a\u00e9': 2}, 'merges': [['a', '\u00e9']]}


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        # Of the two bytes of a character one would be cut off, and the process aborted.
        ({'model': {**BPE, 'continuing_subword_prefix': '#'}}, 'its merges have a continuing_subword_prefix'),
        (
            {'model': BPE, 'normalizer': {'type': 'Precompiled', 'precompiled_charsmap': 'AAAA'}},
            'Precompiled',
        ),
        (
            {'model': BPE, 'decoder': {'type': 'Strip', 'content': 'a', 'start': 5, 'stop': 5}},
            'out of bounds',
        ),
    ],
)
def test_what_the_package_panics_at_is_told(content, told):
    pytest.importorskip('tokenizers')
    with pytest.raises(UserError, match=told):
        BpeTokenizer(json.dumps({'version': '1.0', 'added_tokens': [], **content})).decode([0, 1])


def test_a_mark_that_is_no_token_is_told():
    """A file numbers its marks as it likes; an encoder would have no vector for this one."""
    pytest.importorskip('tokenizers')
    mark = {'SpecialToken': {'id': 'a', 'type_id': 0}}
    single = [{'Sequence': {'id': 'A', 'type_id': 0}}, mark]
    numbered = {'a': {'id': 'a', 'ids': [7], 'tokens': ['a']}}
    marks = {'type': 'TemplateProcessing', 'single': single, 'pair': single, 'special_tokens': numbered}
    model = {'type': 'WordLevel', 'vocab': {'a': 0}, 'unk_token': '[UNK]'}
    content = {'version': '1.0', 'added_tokens': [], 'model': model, 'post_processor': marks}
    tokenizer = BpeTokenizer(json.dumps(content))
    assert tokenizer.encode('a').tolist() == [0]
    with pytest.raises(UserError, match='puts the token 7 around texts, and has 1; get its'):
        tokenizer.encode_marked('a')


def test_mistakes_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="'words'; there are bytes, bpe"):
        text_tokenizer(Tokens('words'))
    with pytest.raises(UserError, match='Cannot read'):
        BpeTokenizer.read(tmp_path / 'none.json')
    monkeypatch.setitem(sys.modules, 'tokenizers', None)
    with pytest.raises(UserError, match=r"pip install 'vq_jax\[text\]'"):
        text_tokenizer(Tokens('bpe', '{}'))


def test_files_that_are_no_tokenizer_are_told(tmp_path):
    pytest.importorskip('tokenizers')
    path = tmp_path / 'tokenizer.json'
    for content in (b'', b'{"a": 1}', b'\xff\xfe', b'[' * 10_000):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r'tokenizer\.json') as error:
            BpeTokenizer.read(path)
        assert str(path) in str(error.value) and '\n' not in str(error.value)
    with pytest.raises(UserError, match='no tokenizer'):
        text_tokenizer(Tokens('bpe', '{}'))
    with pytest.raises(UserError, match='256'):
        BpeTokenizer.train(['a'], 255)

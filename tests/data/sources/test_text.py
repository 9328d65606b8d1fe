import json
from typing import ClassVar

import numpy as np
import pytest

from tests.prepared import prepared
from vq_jax.data import DataConfig, Record, Source, eval_batches, open_dataset, train_batches
from vq_jax.data.sources.text import TextFileSource
from vq_jax.errors import UserError
from vq_jax.extensions import allowing
from vq_jax.spec import Tokens
from vq_jax.text_tokenizers import texts_of

TEXT = 'Ünïcode, and 100 numbers: ' + ' '.join(map(str, range(100)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text(TEXT, encoding='utf-8')
    return path


def opened(path, split='train', **keys):
    return open_dataset(DataConfig(name=f'text:{path}', **{'num_tokens': 16, **keys}), split)


def text_of(data):
    batches = eval_batches(data, batch_size=4)
    return ''.join(texts_of(np.concatenate([batch['x'] for batch in batches]), data.spec.tokens))


@pytest.mark.parametrize('cache_gib', [0, 1])
@pytest.mark.parametrize('random_crop', [False, True])
def test_evaluation_sees_every_character_once(file, random_crop, cache_gib):
    keys = {'random_crop': random_crop, 'cache_gib': cache_gib}
    train, test = (text_of(opened(file, split, **keys)) for split in ('train', 'test'))
    assert train == TEXT[: int(0.9 * len(TEXT))] and train + test == TEXT
    assert text_of(opened(file, 'all', **keys)) == TEXT
    assert text_of(opened(file, 'train[50%:]', **keys)) == train[round(len(train) / 2) :]


def test_training_sees_pieces_from_everywhere(file):
    data = opened(file, random_crop=True)
    whole, starts, ends = TEXT[: int(0.9 * len(TEXT))].encode(), [], set()
    batches = train_batches(data, batch_size=8, seed=0)
    for _ in range(40):
        for tokens in next(batches)['x']:
            piece = tokens[tokens >= 0].astype(np.uint8).tobytes()
            assert whole.endswith(piece) if len(piece) < 16 else piece in whole
            ends |= {len(piece)} - {16}
            starts.append(whole.index(piece))
    batches.close()
    assert 0 in starts and len({start % 16 for start in starts}) == 16
    assert min(ends) == len(whole) % 16 > 0  # with its padding, as evaluation sees the last piece


def test_without_random_crops_training_sees_what_evaluation_does(file):
    data = opened(file)
    batches = train_batches(data, batch_size=len(data), seed=0)
    trained = next(batches)['x']
    batches.close()
    [batch] = eval_batches(data, batch_size=len(data))
    np.testing.assert_array_equal(sorted(map(tuple, trained)), sorted(map(tuple, batch['x'])))
    assert (batch['x'][-1] == -1).any() and (batch['x'][:-1] >= 0).all()


def test_a_folder_is_one_text_after_the_other(tmp_path):
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'two.TXT').write_text('2' * 50)
    (tmp_path / 'a.txt').write_text('\ufeff' + '1' * 30, encoding='utf-8')
    (tmp_path / 'c.txt').write_text('3' * 20)
    for name in ('empty.txt', 'other.md', '.hidden.txt'):
        (tmp_path / name).write_text('x' if name != 'empty.txt' else '')
    source = TextFileSource(str(tmp_path), 'all')
    assert [record.stored for record in source.read(range(3))] == ['1' * 30, '2' * 50, '3' * 20]
    assert source.describe(1) == str(tmp_path / 'b' / 'two.TXT')
    [record] = TextFileSource(str(tmp_path), 'test').read([0])
    assert record.stored == '3' * 10
    # A piece never goes from one text to another.
    [batch] = eval_batches(opened(tmp_path, 'all'), batch_size=20)
    assert len(batch['x']) == 2 + 4 + 2 and all(len(set(x[x >= 0])) == 1 for x in batch['x'])


def test_bpe_is_learned_from_what_is_trained_on(file, monkeypatch):
    pytest.importorskip('tokenizers')
    train, test = (opened(file, split, text_tokenizer='bpe:270') for split in ('train', 'test'))
    assert train.spec == test.spec and train.spec.tokens.kind == 'bpe'
    assert text_of(train) + text_of(test) == TEXT
    assert len(train) < len(opened(file))
    # What a model has learned is kept, whatever the text says by now.
    file.write_text(file.read_text() * 2)
    again = open_dataset(train.config, 'test', tokens=train.spec.tokens)
    assert again.spec == train.spec != open_dataset(train.config, 'test').spec


def test_a_tokenizer_that_changes_texts_is_refused(file, tmp_path):
    pytest.importorskip('tokenizers')
    content = json.loads(opened(file, text_tokenizer='bpe:260').spec.tokens.content)
    path = tmp_path / 'tokenizer.json'
    path.write_text(json.dumps(content))
    assert text_of(opened(file, 'test', text_tokenizer=str(path))) == TEXT[int(0.9 * len(TEXT)) :]
    path.write_text(json.dumps(content | {'normalizer': {'type': 'Lowercase'}}))
    with pytest.raises(UserError, match=f'does not keep texts as they are, as that of {file}'):
        opened(file, text_tokenizer=str(path))


class Words(Source):
    kind, shape = 'text', (None,)
    class_names: ClassVar = ('short', 'long')

    def __init__(self, config, split):
        self.name = 'words'

    def __len__(self):
        return 4

    def read(self, indices):
        words = ['a', '', OSError('broken'), 'a longer text of several pieces']
        return [Record(words[i], int(i == 3)) for i in indices]


def own(name='Words', **keys):
    with allowing([__name__]):
        return open_dataset(DataConfig(name=f'class:{__name__}:{name}', max_undecodable=0.5, **keys), 'train')


def test_texts_of_a_source_are_examples_of_their_own():
    data = own(num_tokens=16)
    assert str(data.spec) == 'text of 16' and data.spec.tokens == Tokens('bytes')
    [batch] = eval_batches(data, batch_size=8, pad=True)
    assert texts_of(batch['x'][batch['mask']], data.spec.tokens) == [
        'a',
        '',
        'a longer text of',
        ' several pieces',
    ]
    np.testing.assert_array_equal(batch['label'][batch['mask']], [0, 0, 1, 1])
    assert data.faults(range(len(data))) == {2: 'broken'}


class Numbers(Words):
    shape = (3,)
    tokens = Tokens('bytes')

    def read(self, indices):
        return [Record(np.full(3, i, np.int32)) for i in indices]


@pytest.mark.parametrize('random_crop', [False, True])
def test_a_source_may_give_tokens(random_crop):
    data = own('Numbers', num_tokens=3, random_crop=random_crop)
    assert data.spec.tokens == Tokens('bytes')
    batches = train_batches(data, batch_size=4, seed=0)
    np.testing.assert_array_equal(sorted(next(batches)['x'][:, 2]), range(4))
    batches.close()
    with pytest.raises(UserError, match='num_tokens is 4, and words gives 3 tokens'):
        own('Numbers', num_tokens=4)


def test_mistakes_are_one_sentence(file, tmp_path):
    for name, content in {'empty': b'', 'latin': 'é'.encode('latin-1')}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'none').mkdir()
    for name, words in {
        'nosuch': 'There is no',
        'none': r'No text was found in .*needs files that end in \.txt',
        'empty': 'All text in .* is empty',
        'latin': r'latin is no text in UTF-8 \(byte 0',
    }.items():
        with pytest.raises(UserError, match=words) as error:
            opened(tmp_path / name)
        assert '\n' not in str(error.value)
    for split, words in {
        'nosuch': r'has train \(283 characters\), test \(32 characters\)',
        'train[:0]': 'is empty',
    }.items():
        with pytest.raises(UserError, match=words):
            opened(file, split)
    with pytest.raises(UserError, match=r'holds text: set config\.data\.num_tokens'):
        opened(file, num_tokens=None)
    for keys, words in [
        ({'text_tokenizer': 'words'}, "'words': use 'bytes', 'bpe:SIZE'"),
        ({'num_tokens': 0}, 'num_tokens is 0'),
        ({'image_size': 8}, 'for image and video, and .* holds text'),
    ]:
        with pytest.raises(UserError, match=words):
            opened(file, **keys)
    with pytest.raises(UserError, match=r'names no folder: give --config\.data\.name=text:PATH'):
        DataConfig(name='text:')
    with pytest.raises(UserError, match='neither num_tokens nor caption_length is set'):
        DataConfig(name='digits', text_tokenizer='bpe:300')


def test_text_of_a_prepared_set():
    config = DataConfig(name='emoji', data_dir=prepared('emoji'), num_tokens=64)
    data = open_dataset(config, 'test')
    assert data.class_names and len(data) >= 398
    [batch] = eval_batches(data, batch_size=len(data))
    texts = texts_of(batch['x'], data.spec.tokens)
    assert 'waving hand sign, medium skin tone' in texts + texts_of(
        np.concatenate([b['x'] for b in eval_batches(open_dataset(config, 'train'), batch_size=512)]),
        data.spec.tokens,
    )
    with pytest.raises(
        UserError, match=r"no text under the name 'x': set config\.data\.text_key to .*'text'"
    ):
        open_dataset(DataConfig(name='emoji', num_tokens=64, text_key='x'), 'test')

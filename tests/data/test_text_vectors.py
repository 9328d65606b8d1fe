"""Vectors of texts that lie beside the data."""

import dataclasses
import json
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.data.test_captions import LENGTH, opened, write_list
from vq_jax.data import DataConfig, eval_batches, train_batches
from vq_jax.data.sources.codes import CodeDataset, CodeFacts, write_facts, write_shard
from vq_jax.data.text_vectors import TextVectorFiles, is_unfinished, write_text_vectors
from vq_jax.errors import UserError
from vq_jax.spec import CodeSpec, ConditionSpec, Spec, TextVectors, Tokens
from vq_jax.text_tokenizers import ByteTokenizer, pad_tokens

MADE = TextVectors(length=4, width=3, encoder='none')


def vectors_of(text):
    """As many vectors as a text has characters but for spaces, which say which these are."""
    return np.array([[ord(letter), i, 0.5] for i, letter in enumerate(text.replace(' ', ''))])


def write(folder, texts, length=LENGTH):
    tokens = pad_tokens(map(ByteTokenizer().encode, texts), length)
    vectors = [vectors_of(text) for text in texts]
    write_text_vectors(folder, tokens, list(map(len, vectors)), iter(vectors), MADE)
    return folder


@pytest.fixture
def captioned(write_images):
    root = write_images(6)
    write_list(root, [{'file_name': f'{i:03}.png', 'text': [f'a {i}', f'bcd {i}']} for i in range(6)])
    return root


@pytest.mark.parametrize('cache_gib', [0, 1])
def test_batches_have_the_vectors_of_the_texts_that_they_have(captioned, tmp_path, cache_gib):
    texts = [text for i in range(6) for text in (f'a {i}', f'bcd {i}')]
    vectors = str(write(tmp_path / 'vectors', texts[::-1]))
    data = opened(captioned, cache_gib=cache_gib, text_vectors=vectors)
    assert data.spec.text_vectors == MADE
    assert {name: str(spec) for name, spec in data.conditions.items()} == {
        'text': 'int32 [12]',
        'text_vectors': 'float16 [4 3]',
        'text_length': 'int32 []',
    }
    seen = set()
    for batches, size, options in ((train_batches, 24, {'seed': 0}), (eval_batches, 4, {'pad': True})):
        made = batches(data, batch_size=size, **options)
        for batch, _ in zip(made, range(2), strict=False):
            assert batch['text_vectors'].dtype == np.float16
            for row in range(size):
                if not batch['mask'][row]:  # of the last batch of six, by fours
                    assert size == 4 and not batch['text_vectors'][row].any()
                    assert batch['text_length'][row] == 0
                    continue
                text = ByteTokenizer().decode(batch['text'][row])
                wanted = vectors_of(text)
                seen.add(text)
                assert batch['text_length'][row] == len(wanted)
                np.testing.assert_array_equal(batch['text_vectors'][row, : len(wanted)], wanted)
                assert not batch['text_vectors'][row, len(wanted) :].any()
        made.close()
    assert seen == set(texts)


def test_workers_read_the_same_folder(tmp_path):
    source = TextVectorFiles(write(tmp_path / 'vectors', ['ab', 'c']))
    again = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 500 and again.spec == source.spec
    # Whatever room texts have.
    found = again.find(pad_tokens([ByteTokenizer().encode('c')], 7), np.array([True]))
    np.testing.assert_array_equal(found['text_vectors'][0, 0], vectors_of('c')[0])


def test_written_codes_have_them_too(tmp_path):
    folder, conditions = tmp_path / 'codes', {'text': ConditionSpec((LENGTH,), 'int32')}
    facts = CodeFacts(
        tokenizer={'workdir': '', 'step': 0, 'checksum': '', 'config': {}},
        data={},
        spec=Spec('image', (4, 4, 1), tokens=Tokens('bytes')),
        class_names=(),
        codes=CodeSpec(((2, 2),), ((8,),)),
        splits={'train': 2},
        shard_size=2,
        conditions=conditions,
    )
    folder.mkdir()
    facts = write_facts(folder, facts)
    texts = pad_tokens(map(ByteTokenizer().encode, ['ab', 'c']), LENGTH)
    [path] = facts.shard_paths(folder, 'train')
    write_shard(path, facts, [(0, np.zeros(4, int), {'text': text}) for text in texts])
    options = {'caption_length': LENGTH, 'text_vectors': str(write(tmp_path / 'vectors', ['c', 'ab']))}
    data = CodeDataset(DataConfig(name=f'codes:{folder}', **options), 'train')
    assert data.spec.text_vectors == MADE
    np.testing.assert_array_equal(np.concatenate(list(data.texts())), texts)
    batch = next(eval_batches(data, batch_size=2))
    np.testing.assert_array_equal(batch['text_length'], [2, 1])
    np.testing.assert_array_equal(batch['text_vectors'][1, 0], vectors_of('c')[0])
    facts = dataclasses.replace(facts, conditions={**conditions, 'text_length': ConditionSpec((), 'int32')})
    with pytest.raises(UserError, match='holds other codes, which differ in conditions'):
        write_facts(folder, facts)


def test_texts_of_a_data_set(captioned):
    texts = [[ByteTokenizer().decode(row) for row in rows] for rows in opened(captioned).texts()]
    assert sorted(texts) == [[f'a {i}', f'bcd {i}'] for i in range(6)]


def test_a_text_without_vectors(captioned, tmp_path):
    data = opened(captioned, text_vectors=str(write(tmp_path / 'vectors', ['a 0'])))
    with pytest.raises(UserError, match=r'a text of the data has no vectors in .*; write the vectors again'):
        next(eval_batches(data, batch_size=6))


def test_of_what_is_undecodable_no_vectors_are_missed(captioned, tmp_path):
    """The run is stopped by the files that are damaged, and not by the text that stands in their place."""
    vectors = str(write(tmp_path / 'vectors', [f'a {i}' for i in range(6)]))
    data = opened(captioned, text_vectors=vectors, cache_gib=0)
    for path in captioned.glob('*.png'):
        path.write_bytes(b'')
    with pytest.raises(UserError, match=r'images of 6 in .* cannot be decoded'):
        next(train_batches(data, batch_size=6, seed=0))


def test_data_without_texts(captioned, tmp_path):
    with pytest.raises(UserError, match='text_vectors is given, of texts that are not read'):
        opened(captioned, text_vectors='x', caption_length=None)
    with pytest.raises(UserError, match=r'there are no vectors of texts in .*nowhere, which config\.data'):
        opened(captioned, text_vectors=str(tmp_path / 'nowhere'))


def damage(folder, name):
    path = folder / name
    if name == 'vectors.json':
        said = json.loads(path.read_text())
        said['vectors']['width'] = 4
        path.write_text(json.dumps(said))
    elif name == 'vectors.npy':
        path.write_bytes(path.read_bytes()[:-2])
    else:
        np.savez(path, tokens=np.zeros((2, 3), np.int32))


@pytest.mark.parametrize('name', ['vectors.json', 'vectors.npy', 'texts.npz'])
def test_damaged_files(tmp_path, name):
    folder = write(tmp_path / 'vectors', ['ab', 'c'])
    damage(folder, name)
    with pytest.raises(
        UserError, match=r'the vectors of texts in .* are damaged \(.*\); write the vectors again'
    ):
        TextVectorFiles(folder)


def test_of_what_is_not_whole_nothing_is_read(tmp_path):
    """A second writing that stops leaves no folder that could be taken for whole."""
    folder = write(tmp_path / 'vectors', ['ab', 'c'])
    with pytest.raises(ValueError, match=r'vectors of a text are \(2, 2\), not \(2, 3\)'):
        write_text_vectors(folder, np.zeros((1, 3), np.int32), [2], [np.zeros((2, 2))], MADE)
    with pytest.raises(UserError, match='there are no vectors of texts in'):
        TextVectorFiles(folder)
    with pytest.raises(UserError, match='has numbers that float16 does not hold'):
        write_text_vectors(folder, np.zeros((1, 3), np.int32), [1], [np.full((1, 3), 1e5)], MADE)


KILLED = """
import os, signal, sys
from vq_jax.data.text_vectors import write_text_vectors
from vq_jax.spec import TextVectors
import numpy as np

def vectors():
    yield np.ones((2, 3))
    os.kill(os.getpid(), signal.SIGKILL)

made = TextVectors(length=4, width=3, encoder='none')
write_text_vectors(sys.argv[1], np.zeros((2, 3), np.int32), [2, 2], vectors(), made)
"""


@pytest.mark.parametrize('there', [False, True])
def test_a_writing_that_was_killed_begins_again_in_the_same_folder(tmp_path, there):
    folder = tmp_path / 'vectors'
    if there:
        assert not is_unfinished(write(folder, ['old']))
    killed = subprocess.run([sys.executable, '-c', KILLED, folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    names = {path.name for path in folder.iterdir()}
    assert len([name for name in names if name.endswith('.tmp')]) == 1 and is_unfinished(folder)
    with pytest.raises(UserError, match='there are no vectors of texts in'):
        TextVectorFiles(folder)
    found = TextVectorFiles(write(folder, ['ab', 'c'])).find(
        pad_tokens([ByteTokenizer().encode('ab')], LENGTH), np.array([True])
    )
    np.testing.assert_array_equal(found['text_vectors'][0, :2], vectors_of('ab'))
    assert {path.name for path in folder.iterdir()} == {'vectors.json', 'vectors.npy', 'texts.npz'}
    (folder / 'vectors.json').unlink()
    assert is_unfinished(folder)
    (folder / 'mine.txt').touch()
    assert not is_unfinished(folder)


def test_files_of_another_format(tmp_path):
    folder = write(tmp_path / 'vectors', ['ab'])
    said = json.loads((folder / 'vectors.json').read_text())
    (folder / 'vectors.json').write_text(json.dumps({**said, 'format': 2}))
    with pytest.raises(UserError, match='is not of the format 1, which is read'):
        TextVectorFiles(folder)

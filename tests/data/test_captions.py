"""Captions of records and files as the condition `text`."""

import dataclasses
import json

import numpy as np
import pytest

from vq_jax.data import DataConfig, Record, Source, eval_batches, open_dataset, train_batches
from vq_jax.data.captions import CaptionFiles, caption_lines
from vq_jax.errors import UserError
from vq_jax.extensions import allowing
from vq_jax.spec import Tokens
from vq_jax.tasks import default_config, make_task
from vq_jax.text_tokenizers import ByteTokenizer, text_tokenizer

LENGTH = 12


def opened(root, **keys):
    return open_dataset(DataConfig(name=f'folder:{root}', **{'caption_length': LENGTH, **keys}), 'all')


def texts(data, batches=eval_batches, steps=1, **options):
    """The text of each image, by its number, as batches give it."""
    found = {}
    made = batches(data, batch_size=len(data), **options)
    for _ in range(steps):
        batch = next(made)
        assert batch['text'].shape == (len(data), LENGTH) and batch['text'].dtype == np.int32
        for image, tokens in zip(batch['x'], batch['text'], strict=True):
            found.setdefault(int(image[0, 0, 0]), []).append(ByteTokenizer().decode(tokens))
    made.close()
    return found


def write_list(folder, lines, name='captions.jsonl'):
    (folder / name).write_text('\n'.join(json.dumps(line) for line in lines))


@pytest.mark.parametrize('cache_gib', [0, 1])
def test_training_takes_a_caption_in_each_epoch_and_evaluation_the_first(write_images, cache_gib):
    root = write_images(6)
    write_list(root, [{'file_name': f'{i:03}.png', 'text': [f'a {i}', f'b {i}', f'c {i}']} for i in range(6)])
    data = opened(root, cache_gib=cache_gib)
    assert texts(data) == {i: [f'a {i}'] for i in range(6)}
    taken = texts(data, train_batches, steps=40, seed=3)
    assert all({text[2:] for text in taken[i]} == {str(i)} for i in range(6))
    letters = np.array([[text[0] for text in taken[i]] for i in range(6)])
    counts = np.array([(letters == letter).sum() for letter in 'abc'])
    assert counts.sum() == 240 and (counts > 50).all()  # 80 expected, standard deviation 7
    assert len({tuple(row) for row in letters}) == 6  # each example by itself
    # A function of seed, epoch and example: neither of the size of the batch nor of where one begins.
    later = train_batches(data, batch_size=3, seed=3, start=2 * 39 + 1)
    batch = next(later)
    later.close()
    for image, tokens in zip(batch['x'], batch['text'], strict=True):
        assert ByteTokenizer().decode(tokens) == taken[int(image[0, 0, 0])][-1]
    assert texts(data, train_batches, steps=40, seed=4) != taken


def test_a_text_file_beside_has_a_caption_in_each_line(write_images):
    write_images(2, 'set/train/a')
    root = write_images(1, 'set/train/b').parents[1]
    write_list(root / 'train', [{'file_name': 'b/000.png', 'text': 'listed'}], 'metadata.jsonl')
    (root / 'train/b/000.txt').write_text('not this one')
    for i in range(2):
        (root / f'train/a/{i:03}.txt').write_text(f'\n  \u00e9 {i} \nsecond\n', encoding='utf-8-sig')
    data = open_dataset(DataConfig(name=f'folder:{root}', caption_length=LENGTH), 'train')
    found = texts(data)
    assert sorted(found.pop(0)) == ['listed', '\u00e9 0'] and found == {1: ['\u00e9 1']}
    assert data.class_names == ('a', 'b')


def test_lines_of_one_file_add_up_and_captions_jsonl_counts(write_images):
    root = write_images(2)
    lines = [('000.png', 'one'), ('./000.png', ['two', 'three']), ('000.png', 'four')]
    write_list(root, [{'file_name': name, 'text': text} for name, text in lines])
    other = [{'file_name': f'{i:03}.png', 'text': f'other {i}'} for i in range(2)]
    write_list(root, other, 'metadata.jsonl')
    captions = CaptionFiles(root, ['000.png', '001.png'])
    assert captions.texts('000.png') == ('one', 'two', 'three', 'four')
    assert captions.texts('001.png') == ('other 1',)


@pytest.mark.parametrize(
    'name', ['a"b\\ \u00e9\u2028\n\t.png', '\udcff.png']
)  # the latter are bytes that are no UTF-8
def test_what_a_model_says_is_read_again(tmp_path, name):
    """It may say any bytes, of which a list that is read holds no commands to a terminal."""
    (tmp_path / 'captions.jsonl').write_text(caption_lines([(name, 'a\n\x07"\r\x00\x85\u00e9')]))
    assert CaptionFiles(tmp_path, [name]).texts(name) == ('a\n\ufffd"\ufffd\ufffd\ufffd\u00e9',)
    with pytest.raises(UserError, match=r"'\\x1b\.png' is a name that captions\.jsonl cannot hold; give"):
        caption_lines([('\x1b.png', 'a')])


def test_a_folder_that_is_one_video_has_captions(tmp_path):
    root = tmp_path / 'clip'
    root.mkdir()
    with pytest.raises(UserError, match=r'nothing has a caption.*"file_name": "\.", "text"'):
        CaptionFiles(root, [''])
    (tmp_path / 'clip.txt').write_text('beside')
    assert CaptionFiles(root, ['']).texts('') == ('beside',)
    write_list(root, [{'file_name': '.', 'text': 'listed'}])
    assert CaptionFiles(root, ['']).texts('') == ('listed',)


def test_an_image_without_a_text_is_skipped_as_one_that_cannot_be_read(write_images):
    root = write_images(4)
    write_list(root, [{'file_name': f'./{i:03}.png', 'text': f'image {i}'} for i in range(3)])
    data = opened(root, max_undecodable=0.25)
    [batch] = eval_batches(data, batch_size=4)
    assert sorted(batch['x'][:, 0, 0, 0]) == [0, 1, 2]
    with pytest.raises(UserError, match=r'1 image of 4 in .* cannot be decoded, for example .*003\.png'):
        list(eval_batches(opened(root, max_undecodable=0.0), batch_size=4))


@pytest.mark.parametrize(
    ('line', 'keys', 'words'),
    [
        ({'text': 'x' * 13}, {}, r'a text of .*0\.png has 13 tokens, and config\.data\.caption_length is 12'),
        ({'text': 3}, {}, r'line 1 of .*captions\.jsonl does not hold what it should'),
        (
            {'file_name': 'other.png', 'text': 'x'},
            {},
            'for this split nothing has a caption: write them into captions.jsonl',
        ),
        ({'text': 'x'}, {'caption_length': 0}, 'caption_length is 0'),
        ({'text': 'x'}, {'caption_length': None, 'cut_captions': True}, 'caption_length is not set'),
    ],
)
def test_captions_that_do_not_fit(write_images, line, keys, words):
    root = write_images(1)
    write_list(root, [{'file_name': '000.png', **line}])
    with pytest.raises(UserError, match=words):
        next(train_batches(opened(root, **keys), batch_size=1, seed=0))


def test_captions_are_cut_where_the_config_says_so(write_images):
    root = write_images(1)
    write_list(root, [{'file_name': '000.png', 'text': 'a red apple on a table'}])
    assert texts(opened(root, cut_captions=True)) == {0: ['a red apple ']}


class Told(Source):
    """Images of one's own, with texts."""

    kind, shape, captioned = 'image', (2, 2, 1), True

    def __init__(self, config, split):
        self.name = 'told'

    def __len__(self):
        return 3

    def read(self, indices):
        return [Record(np.full(self.shape, i, np.uint8), captions=[f'image {i}']) for i in indices]


class Untold(Told):
    captioned = False


def test_a_source_of_ones_own_has_captions():
    def own(name):
        with allowing([__name__]):
            return open_dataset(DataConfig(name=f'class:{__name__}:{name}', caption_length=LENGTH), 'all')

    assert texts(own('Told')) == {i: [f'image {i}'] for i in range(3)}
    with pytest.raises(UserError, match=r'caption_length is set, .* and told has none; leave it out'):
        own('Untold')


def test_tokens_are_learned_from_the_captions_that_are_trained_on(write_images):
    pytest.importorskip('tokenizers')
    root = write_images(40)
    write_list(root, [{'file_name': f'{i:03}.png', 'text': f'a red apple {i % 4}'} for i in range(40)])
    config = DataConfig(name=f'folder:{root}', caption_length=8, text_tokenizer='bpe:280')
    train, test = (open_dataset(config, split) for split in ('train', 'test'))
    assert train.spec == test.spec and train.spec.kind == 'image' and train.spec.tokens.kind == 'bpe'
    [batch] = eval_batches(test, batch_size=len(test))
    tokenizer = text_tokenizer(test.spec.tokens)
    for image, tokens in zip(batch['x'], batch['text'], strict=True):
        assert tokenizer.decode(tokens) == f'a red apple {image[0, 0, 0] % 4}'
    # What a model has learned is kept, and a data set of other tokens is refused.
    assert open_dataset(config, 'test', tokens=Tokens('bytes')).spec.tokens == Tokens('bytes')
    config = default_config('dual_encoder')
    config.data.caption_length = 8
    make_task(config, train.spec).check_dataset(test)
    with pytest.raises(UserError, match='the texts have other tokens than those that the model was made for'):
        make_task(config, dataclasses.replace(train.spec, tokens=None)).check_dataset(test)

"""What steps of a tokenizer.json of a stranger's may do to texts."""

import base64
import json

import pytest

from vq_jax.errors import UserError
from vq_jax.text_tokenizers import BpeTokenizer
from vq_jax.tokenizer_files import check_steps


def sequence(*steps, of='normalizers'):
    return {'type': 'Sequence', of: list(steps)}


def replace(content, **pattern):
    return {'type': 'Replace', 'pattern': pattern, 'content': content}


def split(expression):
    return {'type': 'Split', 'pattern': {'Regex': expression}, 'behavior': 'Isolated', 'invert': False}


def precompiled(longest):
    """A map of characters to texts of up to so many bytes."""
    content = b'\4\0\0\0trie' + b'a\0' + b'a' * longest + b'\0b\0'
    return {'type': 'Precompiled', 'precompiled_charsmap': base64.b64encode(content).decode()}


DOUBLED = replace('aa', String='a')
BYTES = {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': True}
END = {'SpecialToken': {'id': '</s>', 'type_id': 0}}


@pytest.mark.parametrize(
    'content',
    [
        {},
        {'normalizer': None, 'pre_tokenizer': BYTES, 'decoder': BYTES, 'post_processor': BYTES},
        # As of CLIP.
        {
            'normalizer': sequence({'type': 'NFC'}, replace(' ', Regex=r'\s+'), {'type': 'Lowercase'}),
            'pre_tokenizer': sequence(
                split(
                    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
                ),
                BYTES,
                of='pretokenizers',
            ),
        },
        # As of T5, and of other tokenizers by SentencePiece.
        {
            'normalizer': sequence(precompiled(33), replace('▁', Regex=' {2,}')),
            'pre_tokenizer': sequence(
                {'type': 'WhitespaceSplit'}, {'type': 'Metaspace', 'replacement': '▁'}, of='pretokenizers'
            ),
            'post_processor': {
                'type': 'TemplateProcessing',
                'single': [{'Sequence': {'id': 'A', 'type_id': 0}}, END],
                'special_tokens': {'</s>': {'id': '</s>', 'ids': [1], 'tokens': ['</s>']}},
            },
        },
        {'normalizer': sequence({'type': 'Prepend', 'prepend': '▁'}, replace('▁', String=' '))},
        {
            'decoder': sequence(
                replace(' ', String='▁'),
                {'type': 'ByteFallback'},
                {'type': 'Fuse'},
                {'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0},
                of='decoders',
            )
        },
        *(
            {'pre_tokenizer': split(expression)}
            for expression in (
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r'|\s*[\r\n]+|\s+(?!\S)|\s+',
                r'[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+'
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+",
                r'[!"#$%&\'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+| ?[\p{P}\p{S}]+[\r\n]*|(?<!a)b{2}|[]a]x',
                r' ?[^(\s|[.,!?…。，、।۔،])]+',
                r"(?i)'s|'t|\p{L}+|\\c",
            )
        ),
    ],
)
def test_steps_of_published_tokenizers_are_taken(content):
    check_steps(content)


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        (
            {'normalizer': sequence(*[DOUBLED] * 13)},
            r'\(its normalizer\) make texts more than 4,096 times as',
        ),
        ({'normalizer': sequence(sequence(*[DOUBLED] * 7), sequence(*[DOUBLED] * 6))}, 'its normalizer'),
        ({'normalizer': replace('a' * 4096, Regex='x*')}, '4,096 times'),
        ({'normalizer': replace('a' * 4096, String='')}, '4,096 times'),
        ({'normalizer': {'type': 'Prepend', 'prepend': 'a' * 4096}}, '4,096 times'),
        ({'normalizer': sequence(*[{'type': 'ByteLevel'}] * 13)}, '4,096 times'),
        ({'normalizer': sequence(precompiled(65), precompiled(64))}, '4,096 times'),
        (
            {'normalizer': precompiled(1000), 'pre_tokenizer': {'type': 'Metaspace'}},
            r'its pre_tokenizer\) make',
        ),
        ({'normalizer': sequence(*[{'type': 'Strip'}] * 65)}, 'are more than 64'),
        ({'pre_tokenizer': sequence(*[BYTES] * 7, of='pretokenizers')}, r'its pre_tokenizer\) make texts'),
        ({'decoder': sequence(*[DOUBLED] * 13, of='decoders')}, r'its decoder\) make texts'),
        (
            {
                'post_processor': sequence(
                    *[{'type': 'TemplateProcessing', 'single': [{'Sequence': {'id': 'A'}}] * 2}] * 13,
                    of='processors',
                )
            },
            r'its post_processor\) make texts',
        ),
        (
            {'normalizer': {'type': 'Doubling'}},
            "the step 'Doubling', and what that makes of texts is not known",
        ),
        ({'normalizer': {'pattern': {'String': 'a'}, 'content': 'aa'}}, "the step 'None'"),
    ],
)
def test_texts_that_would_grow_are_refused(content, told):
    with pytest.raises(UserError, match=told) as error:
        check_steps(content)
    assert str(error.value).endswith(
        'give a tokenizer.json that keeps texts as they are, such as a byte-level one.'
    )


@pytest.mark.parametrize(
    ('expression', 'told'),
    [
        ('(a+)+$', 'repeats what may match in several ways'),
        ('(?:a|a)*b', 'repeats what may match in several ways'),
        ('(?:(?:aa?)){2,17}b', 'repeats what may match in several ways'),
        ('(?<x>a?){9}', 'repeats what may match in several ways'),
        ('a?' * 20 + 'a' * 20, 'may match in more than 1,024 ways'),
        ('(a|a)' * 20 + 'b', 'may match in more than 1,024 ways'),
        ('a{1}?' * 20 + 'a' * 20, 'may match in more than 1,024 ways'),
        ('(?:a+a*)a{20,}b', 'repeats more than 2 parts without a bound'),
        ('(?=a*)(?:x|a*a*)b', 'repeats more than 2 parts without a bound'),
        (r'(a)\1', 'refers to what it has found'),
        (r'(?<x>a)\g<x>', 'refers to what it has found'),
        ('a{2,3}+', 'repeats what is repeated already'),
        ('a+*', 'repeats what is repeated already'),
        ('(?~a)', 'has a group that is not known here'),
        ('(?x)(a # )\n+)+', 'has a group that is not known here'),
        ('a*a*(?i)b|a*a*(?i)b|a*a*b', 'has a group that is not known here'),
        (r'\c[a*a*a*b]', 'has an escape that is not known here'),
        (r'[\c[a]a*a*a*b]', 'has an escape that is not known here'),
        (r'\M-\C-[a*a*a*b]', 'has an escape that is not known here'),
        (r'[[a](]+(a+)+', 'repeats what may match in several ways'),
        (r'[](](a+)+', 'repeats what may match in several ways'),
        (r'\[(a+)+', 'repeats what may match in several ways'),
        (r'\p{L}(\p{L}+)+', 'repeats what may match in several ways'),
    ],
)
@pytest.mark.parametrize('kind', ['Split', 'Replace'])
def test_expressions_that_may_take_very_long_are_refused(expression, told, kind):
    step = split(expression) if kind == 'Split' else replace('', Regex=expression)
    part = {'pre_tokenizer': step} if kind == 'Split' else {'normalizer': sequence(sequence(step))}
    with pytest.raises(UserError, match=told) as error:
        check_steps(part)
    assert '\n' not in str(error.value)


def test_a_file_is_read_with_its_steps(tmp_path):
    pytest.importorskip('tokenizers')
    model = {'type': 'BPE', 'vocab': {'a': 0}, 'merges': []}
    path = tmp_path / 'tokenizer.json'
    for steps, told in (([DOUBLED] * 30, 'more than 4,096 times as long'), ([DOUBLED] * 2, None)):
        content = {'version': '1.0', 'added_tokens': [], 'model': model, 'normalizer': sequence(*steps)}
        path.write_text(json.dumps(content))
        if told is None:
            assert BpeTokenizer.read(path).encode('a').tolist() == [0] * 4
        else:
            with pytest.raises(UserError, match=told):
                BpeTokenizer.read(path)

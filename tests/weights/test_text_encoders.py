"""Text encoders of others beside their own modules, and folders that hold none."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.weights.text_encoders import ENCODERS, LENGTHS, random_weights, tokens, write_folder
from vq_jax.errors import UserError
from vq_jax.models.t5 import relative_buckets
from vq_jax.tasks.text_models import TextModel
from vq_jax.weights import write_pytorch, write_safetensors
from vq_jax.weights.text_encoders import read_text_encoder

# What the modules of `transformers` give: see `make_text_encoders.py`.
PUBLISHED = json.loads(Path(__file__).with_name('text_encoders.json').read_text())


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    pytest.importorskip('tokenizers')
    root = tmp_path_factory.mktemp('encoders')
    return {name: write_folder(root / name, name) for name in ENCODERS}


@pytest.mark.parametrize('name', ENCODERS)
def test_vectors_equal_those_of_transformers(folders, name):
    """To 1e-4, of texts of two lengths; vectors of padding are read by nobody."""
    model = TextModel.read(folders[name])
    vectors = jax.jit(model.module.apply)({'params': model.params}, tokens(name))
    for row, length, wanted in zip(vectors, LENGTHS, PUBLISHED[name], strict=True):
        np.testing.assert_allclose(row[:length:3, ::5].reshape(-1), wanted, atol=1e-4)


def test_distances_and_their_buckets():
    """By hand: of 8 buckets in each direction 4 are of one distance, and the last of all from 16 on."""
    buckets = relative_buckets(33, 16, 16)
    np.testing.assert_array_equal(buckets[32, 32 - np.arange(9)], [0, 1, 2, 3, 4, 4, 5, 5, 6])
    np.testing.assert_array_equal(buckets[0, [1, 3, 4, 8, 12, 16, 32]], np.add(8, [1, 3, 4, 6, 7, 7, 7]))


def test_texts_have_their_marks_and_room(folders):
    model = TextModel.read(folders['clip'])
    vectors, lengths = model.embed(['ab', 'abcdef'], 8)
    assert vectors.shape == (2, 8, 16) and not vectors[0, 3:].any()
    np.testing.assert_array_equal(lengths, [3, 7])
    alone, _ = model.embed(['ab'], 3)
    np.testing.assert_allclose(vectors[:1, :3], alone, atol=1e-5)
    with pytest.raises(
        UserError, match=r'a text has 9 tokens of the text encoder .*, and there is room for 8;'
    ):
        model.embed(['abcdefgh'], 8)


def test_a_checksum_is_of_weights_and_tokenizer(folders, tmp_path):
    first = TextModel.read(folders['t5']).checksum
    assert TextModel.read(write_folder(tmp_path / 'again', 't5')).checksum == first
    text = (folders['t5'] / 'tokenizer.json').read_text().replace('unused_260', 'unused_x')
    assert TextModel.read(write_folder(tmp_path / 'other', 't5', text)).checksum != first
    assert TextModel.read(folders['flan-t5']).checksum != first


def test_files_of_other_layouts(tmp_path):
    """A whole CLIP, an encoder alone in two PyTorch files, and what no text encoder has."""
    whole = tmp_path / 'whole'
    whole.mkdir()
    said = {'model_type': 'clip', 'text_config': ENCODERS['clip'], 'vision_config': {}}
    (whole / 'config.json').write_text(json.dumps(said))
    weights = {f'text_model.{name}': array for name, array in random_weights('clip').items()}
    weights['vision_model.embeddings.class_embedding'] = np.zeros(3, np.float32)
    write_safetensors(whole / 'model.safetensors', weights, {})
    plain = read_text_encoder(write_folder(tmp_path / 'plain', 'clip'))
    again = read_text_encoder(whole)
    assert again.sizes == plain.sizes and again.kind == plain.kind
    for way, array in plain.params.items():
        np.testing.assert_array_equal(again.params[way], array)

    parts = tmp_path / 'parts'
    parts.mkdir()
    (parts / 'config.json').write_text(json.dumps(ENCODERS['t5']))
    weights = random_weights('t5')
    weights['encoder.embed_tokens.weight'] = weights.pop('shared.weight')
    names = sorted(weights)
    for number, some in enumerate((names[:5], names[5:])):
        write_pytorch(parts / f'{number}.bin', {name: weights[name] for name in some})
    index = {'weight_map': {name: f'{int(i >= 5)}.bin' for i, name in enumerate(names)}}
    (parts / 'pytorch_model.bin.index.json').write_text(json.dumps(index))
    found = read_text_encoder(parts)
    np.testing.assert_array_equal(found.params['token', 'embedding'], random_weights('t5')['shared.weight'])
    index['weight_map'][names[0]] = '../0.bin'
    (parts / 'pytorch_model.bin.index.json').write_text(json.dumps(index))
    with pytest.raises(UserError, match='names files outside of its folder'):
        read_text_encoder(parts)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (
            {'model_type': 'bert'},
            "holds a model of the type 'bert', and text encoders are read of the types t5,",
        ),
        ({'feed_forward_proj': 'gated-silu'}, 'has feed_forward_proj=gated-silu, which is not computed here'),
        ({'layer_norm_epsilon': 0.1}, 'has normalisation with 0.1, which is not computed here'),
        ({'d_ff': 25}, r'wi.weight has the shape \(24, 16\), not \(25, 16\);'),
        ({'d_kv': 7}, r'q.weight has the shape \(18, 16\), not \(21, 16\);.*, and 5 more'),
        (
            {'num_layers': 2**31},
            'says that there are 2,147,483,648 blocks, and the weights beside it are of 2;',
        ),
        ({'num_layers': 1}, 'says that there are 1 blocks, and the weights beside it are of 2; get'),
        (
            {'relative_attention_max_distance': 8},
            'has 32 buckets of distances up to 8, which is not computed',
        ),
        ({'relative_attention_num_buckets': 3}, 'has 3 buckets of distances up to 40, which is not computed'),
        ({'model_type': ['t5']}, r"holds a model of the type \['t5'\], and text encoders are read of"),
        ({'d_model': 'x'}, 'config.json'),
    ],
)
def test_folders_that_are_refused(tmp_path, changes, words):
    folder = tmp_path / 'folder'
    folder.mkdir()
    write_safetensors(folder / 'model.safetensors', random_weights('t5'), {})
    (folder / 'config.json').write_text(json.dumps({**ENCODERS['t5'], **changes}))
    with pytest.raises(UserError, match=words):
        read_text_encoder(folder)


def test_weights_that_are_no_numbers(tmp_path):
    folder = tmp_path / 'folder'
    write_folder(folder, 't5')
    weights = random_weights('t5')
    weights['shared.weight'][0, 0] = np.nan
    write_safetensors(folder / 'model.safetensors', weights, {})
    with pytest.raises(
        UserError, match=r'the weights in .* are not finite, in shared\.weight; get the folder'
    ):
        read_text_encoder(folder)


def test_what_is_missing_is_named(folders, tmp_path):
    with pytest.raises(UserError, match=r'there is no .*config.json; give the folder of a T5 or CLIP'):
        TextModel.read(tmp_path)
    (tmp_path / 'config.json').write_text(json.dumps(ENCODERS['t5']))
    with pytest.raises(UserError, match=r'there is neither model.safetensors nor pytorch_model.bin in'):
        TextModel.read(tmp_path)
    write_safetensors(tmp_path / 'model.safetensors', random_weights('t5'), {})
    with pytest.raises(UserError, match=r'Cannot read the text tokenizer .*tokenizer.json'):
        TextModel.read(tmp_path)
    content = (folders['t5'] / 'tokenizer.json').read_text().replace('299', '300')
    (tmp_path / 'tokenizer.json').write_text(content)
    with pytest.raises(UserError, match='has 301 tokens, and the text encoder beside it 300'):
        TextModel.read(tmp_path)

"""MaskGIT beside its own modules, from files as Flax writes them, and back."""

import dataclasses
import json
import math
import zlib
from pathlib import Path

import flax
import jax
import numpy as np
import pytest

import vq_jax
from tests.weights.models import LABELS, OF_MASKED, images, masked_codes, random_weights
from vq_jax.errors import UserError
from vq_jax.tasks.conversion import convert, export_run
from vq_jax.weights import PROJECTS, read_weights
from vq_jax.weights.maskgit import TransformerSizes
from vq_jax.weights.vqgan import Sizes

# What its own modules give: see `make_published_maskgit.py`.
PUBLISHED = json.loads(Path(__file__).with_name('published_maskgit.json').read_text())
SMALL = Sizes(3, 128, (1, 1), 1, (), 8, 8, 16)
TINY = dataclasses.replace(SMALL, multipliers=(1,), num_codes=OF_MASKED.num_codes)  # a code for each pixel


def checkpoint(path, weights):
    """A file as theirs are: of Flax, without an ending."""
    tree = flax.traverse_util.unflatten_dict(weights, sep='.')
    path.write_bytes(flax.serialization.to_bytes({'params': tree}))
    return path


def test_tables_are_those_of_its_networks():
    """CRC-32 of the sorted lines 'name (shape)' of its own modules, of the published sizes."""
    sizes = Sizes(3, 128, (1, 1, 2, 2, 4), 2, (), 256, 256, 1024)
    shapes = {row.theirs: row.shape for row in PROJECTS['maskgit'].table(sizes, {})}
    assert sum(map(math.prod, shapes.values())) == 54_515_587
    lines = sorted(f'{name} {shape}' for name, shape in shapes.items())
    assert zlib.crc32('\n'.join(lines).encode()) == 2421335772
    arrays = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    assert PROJECTS['maskgit'].sizes(arrays) == sizes
    assert PROJECTS['maskgit'].known_as(sizes).name == 'tokenizer_imagenet'


def test_the_tokenizer_equals_its_own(tmp_path):
    made = convert(checkpoint(tmp_path / 'tokenizer_checkpoint', random_weights('maskgit')))
    assert made.facts.origin['project'] == 'maskgit' and made.config.model.form == 'maskgit'

    @jax.jit
    def both(variables, x):
        outputs, quantized = made.task.model.apply(variables, x)
        return outputs, quantized.codes[0]

    decoded, codes = both(made.state.eval_variables(), images() / np.float32(127.5) - 1)
    np.testing.assert_array_equal(codes[..., 0], PUBLISHED['maskgit']['codes'])
    found = (decoded[:, ::3, ::3].reshape(-1) + 1) / 2  # theirs are in [0, 1]
    np.testing.assert_allclose(found, PUBLISHED['maskgit']['decoded'], atol=1e-4)


@pytest.mark.slow
def test_the_tokenizer_goes_back(tmp_path):
    weights = random_weights('maskgit')
    convert(checkpoint(tmp_path / 'tokenizer', weights)).write(tmp_path / 'run')
    export_run(tmp_path / 'run', 'maskgit', tmp_path / 'back.msgpack')
    back = flax.serialization.from_bytes(None, (tmp_path / 'back.msgpack').read_bytes())
    found = flax.traverse_util.flatten_dict(back['params'], sep='.')
    assert back.keys() == {'params'} and found.keys() == weights.keys()
    assert all(found[name].tobytes() == array.tobytes() for name, array in weights.items())
    with pytest.raises(UserError, match=r'config\.model\.form is maskgit, and would have to be vqgan'):
        export_run(tmp_path / 'run', 'taming', tmp_path / 'x.ckpt')


@pytest.mark.parametrize(
    'positions, parameters, names',
    [(256, 172_457_193, 1559745476), (1024, 173_047_017, 3459356171)],
)
def test_tables_are_those_of_its_transformers(positions, parameters, names):
    """The same of its transformer."""
    sizes = TransformerSizes(24, 768, 16, 3072, 1024, positions)
    shapes = {
        name: shape
        for row in PROJECTS['maskgit-transformer'].table(sizes, {})
        for name, shape in row.shapes.items()
    }
    assert sum(map(math.prod, shapes.values())) == parameters
    lines = sorted(f'{name} {shape}' for name, shape in shapes.items())
    assert zlib.crc32('\n'.join(lines).encode()) == names
    arrays = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
    assert PROJECTS['maskgit-transformer'].sizes(arrays) == sizes
    published = PROJECTS['maskgit-transformer'].known_as(sizes)
    assert published.config['data.image_size'] == 16 * math.isqrt(positions)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A checkpoint of a transformer, and the run of a tokenizer."""
    folder = tmp_path_factory.mktemp('maskgit')
    source = checkpoint(folder / 'tokenizer', random_weights('maskgit', TINY))
    convert(source, overrides={'data.image_size': 8, 'discriminator.stages': 1}).write(folder / 'run')
    return checkpoint(folder / 'transformer', random_weights('maskgit-transformer')), folder / 'run'


def overrides(tokenizer):
    return {'tokenizer.workdir': str(tokenizer), 'data.image_size': 8}


def test_the_transformer_equals_its_own(files):
    made = convert(files[0], overrides=overrides(files[1]))
    task, state, tokens = made.task, made.state, masked_codes()
    assert made.facts.origin['project'] == 'maskgit-transformer'

    @jax.jit
    def logits(variables):
        context = task.network.context(variables, np.array(LABELS))
        return task.network.logits(variables, tokens, tokens < 0, context)

    wanted = PUBLISHED['maskgit-transformer']
    found = logits(state.eval_variables())[:, ::7, ::8].reshape(-1)
    np.testing.assert_allclose(found, wanted['logits'], atol=1e-4)


@pytest.mark.slow
def test_the_transformer_samples_as_its_own_and_goes_back(files, tmp_path):
    convert(files[0], overrides=overrides(files[1])).write(tmp_path / 'run')
    run = vq_jax.load(tmp_path / 'run')
    # The likeliest codes, and those that it is surest of.
    greedy = dataclasses.replace(run.task.sampling, temperature=0.0, confidence_temperature=0.0, steps=8)
    keys, wanted = jax.random.split(jax.random.key(0), 2), PUBLISHED['maskgit-transformer']
    sampled = run.task.sample_codes(run.state, keys, np.array(LABELS), sampling=greedy)
    np.testing.assert_array_equal(sampled.reshape(2, 64), wanted['sampled'])
    network, variables = run.task.network, run.state.eval_variables()
    context = network.context(variables, np.array(LABELS))
    completed = network.sample(variables, keys, context, greedy, masked_codes().reshape(2, 8, 8, 1))
    np.testing.assert_array_equal(completed.reshape(2, 64), wanted['completed'])
    assert run.sample(2, label=3, seed=1).shape == (2, 8, 8, 3)
    export_run(tmp_path / 'run', 'maskgit-transformer', tmp_path / 'back.msgpack')
    back = read_weights([tmp_path / 'back.msgpack']).arrays
    weights = random_weights('maskgit-transformer')
    assert back.keys() == {f'params.{name}' for name in weights}
    for name, array in weights.items():
        assert back[f'params.{name}'].tobytes() == array.tobytes(), name


def zeros():
    rows = PROJECTS['maskgit'].table(SMALL, {})
    return {row.theirs: np.zeros(row.shape, np.float32) for row in rows}


@pytest.mark.parametrize(
    'changes, told',
    [
        (
            {'decoder.Conv_2.bias': None, 'decoder.Conv_2.bios': np.zeros(3, np.float32)},
            'is no whole model of MaskGIT; missing: decoder.Conv_2.bias (there is decoder.Conv_2.bios); of '
            'no use: decoder.Conv_2.bios.',
        ),
        ({'encoder.ResBlock_1.Conv_0.kernel': None}, 'encoder.ResBlock_1.Conv_0.kernel, by which the size'),
        (
            # Of models whose grids are made smaller by convolutions, which none of the published ones are.
            {'encoder.Conv_2.kernel': np.zeros((4, 4, 128, 128), np.float32)},
            'of no use: encoder.Conv_2.kernel.',
        ),
        (
            {'decoder.ResBlock_0.Conv_1.kernel': np.zeros((3, 3, 128, 64), np.float32)},
            'of another shape: decoder.ResBlock_0.Conv_1.kernel ((3, 3, 128, 64) there, (3, 3, 128, 128) ',
        ),
        ({'encoder.ResBlock_3.Conv_0.kernel': np.zeros(1, np.float32)}, 'a multiple of 3 blocks, not 4.'),
        (
            {'encoder.Conv_0.kernel': np.zeros((3, 3, 3, 96), np.float32)},
            'the channels of a model of MaskGIT',
        ),
        ({'quantizer.codebook': None}, 'is not a model of taming-transformers, LlamaGen, '),
    ],
)
def test_what_is_no_whole_checkpoint_is_told(tmp_path, changes, told):
    arrays = {name: array for name, array in (zeros() | changes).items() if array is not None}
    with pytest.raises(UserError) as raised:
        convert(checkpoint(tmp_path / 'tokenizer', arrays))
    assert told in str(raised.value)


def test_a_file_without_its_end_is_told(tmp_path):
    source = checkpoint(tmp_path / 'tokenizer', zeros())
    source.write_bytes(source.read_bytes()[:-9])
    with pytest.raises(UserError, match='cannot be read as a file of Flax, as which one without an ending'):
        convert(source)


@pytest.mark.parametrize(
    'changes, told',
    [
        ({'MlmLayer_0.mlm_ln.scale': None}, 'missing: MlmLayer_0.mlm_ln.scale'),
        ({'Embed_0.x': np.zeros(1, np.float32)}, 'of no use: Embed_0.x'),
        (
            {'MlmLayer_0.mlm_bias.bias': np.zeros(32, np.float32)},
            r'mlm_bias.bias \(\(32,\) there, \(1033,\) ',
        ),
        (
            {'Embed_0.word_embeddings.embedding': np.zeros((1001, 64), np.float32)},
            'embeddings of codes, of 1,000 classes and of a mask, and there are 1,001',
        ),
        (
            {'Embed_0.position_embeddings.embedding': np.zeros((257, 64), np.float32)},
            'with 256 positions learns as many codes, and these are 64; give its size of images',
        ),
    ],
)
def test_what_is_no_whole_transformer_is_told(files, tmp_path, changes, told):
    arrays = {n: x for n, x in (random_weights('maskgit-transformer') | changes).items() if x is not None}
    with pytest.raises(UserError, match=told):
        convert(checkpoint(tmp_path / 'a', arrays), overrides=overrides(files[1]))


def test_a_transformer_needs_its_tokenizer(files):
    with pytest.raises(UserError, match=r'by --override=tokenizer\.workdir=DIR'):
        convert(files[0])

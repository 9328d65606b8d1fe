"""MaskGIT beside its own modules, from files as Flax writes them, and back."""

import json
import math
import zlib
from pathlib import Path

import flax
import jax
import numpy as np
import pytest

from tests.weights.models import images, random_weights
from vq_jax.errors import UserError
from vq_jax.tasks.conversion import convert, export_run
from vq_jax.weights import PROJECTS
from vq_jax.weights.vqgan import Sizes

# What its own modules give: see `make_published_maskgit.py`.
PUBLISHED = json.loads(Path(__file__).with_name('published_maskgit.json').read_text())
SMALL = Sizes(3, 128, (1, 1), 1, (), 8, 8, 16)


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

"""Short runs with every kind of quantizer: in bfloat16, and as the codes that a prior learns."""

import re

import numpy as np
import pytest

import vq_jax
from tests.runs import logged
from vq_jax.tasks import default_config
from vq_jax.tasks.codes import write_codes
from vq_jax.train import train

KINDS = {
    'vq': {'quantizer.num_codes': 32},
    'cosine': {'quantizer.num_codes': 32, 'quantizer.cosine': True, 'quantizer.estimator': 'rotation'},
    'residual': {'quantizer.kind': 'residual', 'quantizer.num_codes': 16, 'residual.depth': 2},
    'grouped': {'quantizer.kind': 'simvq', 'simvq.num_codes': 16, 'quantizer.groups': 2},
    'simvq': {'quantizer.kind': 'simvq', 'simvq.num_codes': 32},
    'fsq': {'quantizer.kind': 'fsq', 'fsq.levels': (5, 4, 3)},
    'lfq': {'quantizer.kind': 'lfq', 'lfq.bits': 6, 'lfq.group_bits': 3, 'lfq.temperature': 1.0},
    'bsq': {'quantizer.kind': 'bsq', 'bsq.bits': 12, 'bsq.group_bits': 4},
    'ibq': {'quantizer.kind': 'ibq', 'ibq.num_codes': 32, 'ibq.temperature': 1.0},
    'gumbel': {'quantizer.kind': 'gumbel', 'gumbel.num_codes': 32, 'gumbel.anneal_steps': 20},
}
CODES = {'bsq': (16,) * 3, 'ibq': (32,), 'simvq': (32,), 'grouped': (16, 16)}


def short(task, steps, **changes):
    config = default_config(task)
    config.steps = config.eval_every = config.checkpoint_every = steps
    config.log_every = 1
    config.batch_size = 16
    config.data.image_size = 8
    config.data.eval_split = 'test[:16]'
    config.update_from_flattened_dict(changes)
    return config


def tokenizer(kind, steps, **changes):
    small = {'model.stages': 1, 'model.channels': 8, 'model.residual_channels': 8, 'quantizer.dim': 8}
    return short('vqvae', steps, **small, **KINDS[kind], **changes)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_training_in_bfloat16_is_near_that_in_float32(kind, tmp_path):
    losses = []
    for dtype in ('float32', 'bfloat16'):
        train(tokenizer(kind, 12, **{'model.dtype': dtype}), tmp_path / dtype)
        lines = [line for line in logged(tmp_path / dtype) if line['split'] == 'train']
        assert all(np.isfinite(x) for line in lines for x in line.values() if isinstance(x, float))
        losses.append([line['reconstruction_loss'] for line in lines])
    assert losses[0][-1] < 0.97 * losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize('kind', CODES)
def test_a_prior_learns_and_samples_codes_of(kind, tmp_path):
    train(tokenizer(kind, 3), tmp_path / 'tokenizer')
    opened = vq_jax.load(tmp_path / 'tokenizer')
    assert opened.task.vocabularies == (CODES[kind],)
    written = write_codes(tmp_path / 'tokenizer', tmp_path / 'codes', splits=['test[:16]'], batch_size=8)
    assert written == {'test[:16]': 16}
    small = {'transformer.depth': 1, 'transformer.heads': 1, 'transformer.width': 8}
    small |= {'tokenizer.workdir': str(tmp_path / 'tokenizer'), 'data.train_split': 'test[:16]'}
    losses = []
    for name, data in (('images', 'digits'), ('codes', f'codes:{tmp_path / "codes"}')):
        losses.append(train(short('prior', 3, **small, **{'data.name': data}), tmp_path / name)['loss'])
        assert vq_jax.load(tmp_path / name).sample(2).shape == (2, 8, 8, 1)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('pattern', ['flattened', 'delay', 'depth'])
def test_a_prior_learns_and_decodes_the_first_codes_of_a_position(pattern, tmp_path):
    """Of images and of written codes, which are of all depths."""
    tokenizing, codes = tmp_path / 'tokenizer', tmp_path / 'codes'
    config = tokenizer('residual', 3, **{'residual.dropout': 0.5})
    config.residual.depth = 3
    train(config, tokenizing)
    write_codes(tokenizing, codes, splits=['test[:16]'], batch_size=8)
    small = {'tokenizer.workdir': str(tokenizing), 'tokenizer.depths': 2, 'model.pattern': pattern}
    for section in ('transformer', 'depth_transformer'):
        small |= {f'{section}.depth': 1, f'{section}.heads': 1, f'{section}.width': 8}
    small['data.train_split'] = 'test[:16]'
    losses = []
    for name, data in (('images', 'digits'), ('written', f'codes:{codes}')):
        losses.append(train(short('prior', 3, **small, **{'data.name': data}), tmp_path / name)['loss'])
        opened = vq_jax.load(tmp_path / name)
        assert opened.sample(2).shape == (2, 8, 8, 1)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert opened.task.vocabularies == ((16, 16),)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    found = opened.encode(images)
    whole = vq_jax.load(tokenizing)
    np.testing.assert_array_equal(found, whole.encode(images)[..., :2])
    np.testing.assert_array_equal(opened.decode(found), whole.decode(found))
    assert (opened.log_prob(found) < 0).all()
    for depths, words in (
        (4, f'{tokenizing} decodes so many: 1, 2, 3; give'),
        (1, 'learns one code at each'),
    ):
        config = short('prior', 3, **{**small, 'tokenizer.depths': depths, 'data.name': 'digits'})
        if pattern != 'flattened' or depths == 4:
            with pytest.raises(vq_jax.UserError, match=re.escape(words)):
                train(config, tmp_path / 'refused')

"""Whole runs of a VQ-VAE with two levels of codes: resume, devices, and a notebook that opens them."""

import signal

import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.runs import (
    DESCENT,
    assert_equal_runs,
    assert_same_descent,
    logged,
    refused,
    run,
)
from vq_jax.media.captions import HEIGHT

SMALL = [
    '--config=tests/digits.py',
    '--config.seed=5',
    '--config.steps=40',
    '--config.batch_size=32',
    '--config.log_every=5',
    '--config.eval_every=20',
    '--config.checkpoint_every=10',
    '--config.model.top_stages=1',
    '--config.model.channels=8',
    '--config.model.residual_channels=8',
    '--config.quantizer.num_codes=32',
    '--config.quantizer.revive_below=0.5',
    '--config.loss.reconstruction=discretised_logistic',
]


def train(workdir, *changes, **options):
    return run([*SMALL, f'--workdir={workdir}', *changes], **options)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'whole'
    train(workdir)
    return workdir


@pytest.fixture(scope='module')
def digits():
    from sklearn.datasets import load_digits

    return np.round(load_digits().images[-16:, ..., None] * (255 / 16)).astype(np.uint8)


@pytest.mark.slow
def test_both_levels_are_in_the_log_and_the_images(whole):
    last = {line['split']: line for line in logged(whole)}
    for scale in ('_scale_0', '_scale_1'):
        names = {f'{name}{scale}' for name in ('perplexity', 'code_entropy_bits', 'codebook_usage')}
        assert names <= set(last['eval']) and names <= set(last['train'])
        assert {f'commitment_loss{scale}', f'codes_revived{scale}'} <= set(last['train'])
        assert last['eval'][f'perplexity{scale}'] > 2
        assert 0 < last['eval'][f'quantization_error{scale}'] < 1
    assert last['eval']['gradient_ratio'] > 0
    bits = [line['bits_per_dimension_uniform_prior'] for line in logged(whole) if line['split'] == 'eval']
    assert bits[-1] < bits[0]
    names = {p.name for p in (whole / 'images').iterdir()}
    assert {'code_usage_scale_0_0000040.png', 'code_usage_scale_1_0000040.png'} <= names
    # Four rows: originals, reconstructions, the top's codes and the bottom's.
    sheet = np.asarray(Image.open(whole / 'images' / 'reconstructions_0000040.png'))
    rows = sheet[2:, 2:66].reshape(4, HEIGHT + 66, 64, 3)[:, HEIGHT : HEIGHT + 64]
    for row, places in ((rows[2], 2), (rows[3], 4)):
        blocks = row.reshape(places, 64 // places, places, 64 // places, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()


@pytest.mark.slow
def test_killed_and_resumed_equals_never_interrupted(whole, tmp_path):
    workdir = tmp_path / 'run'
    train(workdir, signalled=(workdir / 'checkpoints' / '20', signal.SIGKILL), status=-signal.SIGKILL)
    assert 'resumed at step' in train(workdir)[0]
    assert_equal_runs(whole, workdir)


@pytest.mark.slow
@pytest.mark.parametrize('engine, learning', [('pmap', 'moving_average'), ('jit', 'gradient')])
def test_eight_devices_equal_one(engine, learning, tmp_path):
    """Black and white pixels, which are drawn anew for each example and step."""
    changes = [*DESCENT, f'--config.quantizer.learning={learning}', '--config.loss.reconstruction=bernoulli']
    train(tmp_path / 'one', *changes)
    train(tmp_path / 'eight', *changes, f'--config.parallel.engine={engine}', devices=8)
    assert_same_descent(tmp_path / 'one', tmp_path / 'eight')


@pytest.mark.slow
def test_codes_and_back(whole, digits):
    opened = vq_jax.load(whole)
    top, bottom = opened.encode(digits)
    assert top.shape == (16, 2, 2) and bottom.shape == (16, 4, 4)
    images = np.asarray(opened.decode((top, bottom)))
    np.testing.assert_array_equal(images, opened.reconstruct(digits))
    wide = np.concatenate([digits, digits], axis=2)
    assert [x.shape for x in opened.encode(wide)] == [(16, 2, 4), (16, 4, 8)]
    assert opened.reconstruct(wide).shape == wide.shape

    # Either level counts: shuffled among the images, the reconstruction is worse.
    def error(codes):
        return np.mean(np.square(np.float64(opened.decode(codes)) - digits))

    order = np.roll(np.arange(16), 1)
    assert error((top, bottom)) < error((np.asarray(top)[order], bottom))
    assert error((top, bottom)) < error((top, np.asarray(bottom)[order]))


@pytest.mark.slow
def test_wrong_codes(whole):
    opened = vq_jax.load(whole)
    top, bottom = np.zeros((1, 2, 2), int), np.zeros((1, 4, 4), int)
    for codes in (
        bottom,
        (top,),
        (bottom, top),
        (top, bottom + 32),
        (top + 0.5, bottom),
        (top[[0, 0]], bottom),
    ):
        with pytest.raises(vq_jax.UserError, match='codes must be'):
            opened.decode(codes)


def test_a_mistake_is_one_sentence(tmp_path):
    mistakes = {
        '--config.model.top_stages=3': 'multiple of 16',
        '--config.model.top_stages=-1': 'give 0 or more',
    }
    commands = [[*SMALL, f'--workdir={tmp_path / "run"}', change] for change in mistakes]
    for errors, words in zip(refused('vq_jax.train', *commands, shows=True), mistakes.values(), strict=True):
        assert errors.startswith('error: ') and errors.count('\n') == 1 and words in errors

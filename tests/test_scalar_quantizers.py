"""Whole runs with quantizers without a codebook: in a notebook, as tokens and latents, on several devices."""

import numpy as np
import pytest

import vq_jax
from tests.runs import DESCENT, assert_same_descent, logged, run
from vq_jax.spec import CodeSpec
from vq_jax.tasks import default_config
from vq_jax.tasks.codec import LatentConfig, TokenizerConfig, make_codec
from vq_jax.train import train

SMALL = {
    'steps': 60,
    'batch_size': 32,
    'log_every': 5,
    'eval_every': 60,
    'checkpoint_every': 60,
    'model.stages': 1,
    'model.channels': 8,
    'model.residual_channels': 8,
    'quantizer.dim': 8,
    'optimizer.learning_rate': 5e-3,
}
KINDS = {
    'fsq': {'quantizer.kind': 'fsq', 'fsq.levels': (5, 4, 3)},
    'lfq': {'quantizer.kind': 'lfq', 'lfq.bits': 6, 'lfq.temperature': 1.0},
}
NUM_CODES = {'fsq': 60, 'lfq': 64}


@pytest.fixture(scope='module')
def digits():
    from sklearn.datasets import load_digits

    return np.round(load_digits().images[-16:, ..., None] * (255 / 16)).astype(np.uint8)


@pytest.mark.parametrize('kind', ['fsq', pytest.param('lfq', marks=pytest.mark.slow)])
def test_a_run_trains_and_is_opened(kind, tmp_path, digits):
    config = default_config('vqvae')
    config.update_from_flattened_dict(SMALL | KINDS[kind])
    workdir = tmp_path / 'run'
    train(config, workdir)

    lines = logged(workdir)
    losses = [line['reconstruction_loss'] for line in lines if line['split'] == 'train']
    assert losses[-1] < 0.75 * losses[0]
    last = {line['split']: line for line in lines}
    assert {'perplexity', 'codebook_usage'} <= set(last['train']) and last['eval']['perplexity'] > 2
    assert ({'commitment_loss', 'code_entropy', 'entropy_of_mean'} <= set(last['train'])) == (kind == 'lfq')
    assert (workdir / 'images' / 'code_usage_0000060.png').exists()

    opened = vq_jax.load(workdir)
    codes = opened.encode(digits)
    assert codes.shape == (16, 4, 4) and codes.dtype == np.int32
    assert opened.task.vocabularies == ((NUM_CODES[kind],),)
    images = np.asarray(opened.decode(codes))
    np.testing.assert_array_equal(images, opened.reconstruct(digits))
    with pytest.raises(vq_jax.UserError, match=f'from 0 to {NUM_CODES[kind] - 1}'):
        opened.decode(np.full((1, 4, 4), NUM_CODES[kind]))

    # What a prior and a latent diffusion model learn, and draw with.
    codec = make_codec(TokenizerConfig(str(workdir)), opened.spec)
    assert codec.code_spec == CodeSpec(((4, 4),), ((NUM_CODES[kind],),))
    np.testing.assert_array_equal(codec.encode(codec.state(), digits)[0][..., 0], codes)
    codec = make_codec(LatentConfig(str(workdir)), opened.spec)
    latents = codec.latents(codec.state(), digits)
    assert codec.latent_shape == latents.shape[1:] == (4, 4, {'fsq': 3, 'lfq': 6}[kind])
    np.testing.assert_array_equal(codec.decode_latents(codec.state(), latents, None), images)


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['pmap', 'jit'])
def test_eight_devices_equal_one(engine, tmp_path):
    """Of LFQ, whose loss is of the whole batch."""
    changes = [f'--config.{key}={value}' for key, value in (SMALL | KINDS['lfq']).items()]
    arguments = ['--config=tests/digits.py', *changes, *DESCENT]
    run([*arguments, f'--workdir={tmp_path / "one"}'])
    eight = [f'--workdir={tmp_path / "eight"}', f'--config.parallel.engine={engine}']
    run([*arguments, *eight], devices=8)
    assert_same_descent(tmp_path / 'one', tmp_path / 'eight')

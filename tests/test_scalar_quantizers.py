"""Whole runs with all quantizers but VQ: in a notebook, as tokens and latents, on several devices."""

import signal

import numpy as np
import pytest

import vq_jax
from tests.runs import DESCENT, assert_equal_runs, assert_same_descent, logged, run
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
    'bsq': {'quantizer.kind': 'bsq', 'bsq.bits': 10, 'bsq.group_bits': 5},
    'ibq': {'quantizer.kind': 'ibq', 'ibq.num_codes': 64, 'ibq.temperature': 1.0},
    'gumbel': {'quantizer.kind': 'gumbel', 'gumbel.num_codes': 64, 'gumbel.anneal_steps': 50},
}
VOCABULARIES = {'fsq': (60,), 'lfq': (64,), 'bsq': (32, 32), 'ibq': (64,), 'gumbel': (64,)}
LATENTS = {'fsq': 3, 'lfq': 6, 'bsq': 10, 'ibq': 8, 'gumbel': 64}


@pytest.fixture(scope='module')
def digits():
    from sklearn.datasets import load_digits

    return np.round(load_digits().images[-16:, ..., None] * (255 / 16)).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_a_run_trains_and_is_opened(kind, tmp_path, digits):
    config = default_config('vqvae')
    config.update_from_flattened_dict(SMALL | KINDS[kind])
    workdir = tmp_path / 'run'
    train(config, workdir)

    lines = logged(workdir)
    losses = [line['reconstruction_loss'] for line in lines if line['split'] == 'train']
    assert losses[-1] < 0.75 * losses[0]
    last = {line['split']: line for line in lines}
    depths = [f'_depth_{i}' for i in range(2)] if len(VOCABULARIES[kind]) > 1 else ['']
    for depth in depths:
        assert {f'perplexity{depth}', f'codebook_usage{depth}'} <= set(last['train'])
        assert last['eval'][f'perplexity{depth}'] > 1.5  # of one code it is 1
        assert last['eval'][f'dead_codes{depth}'] == round(
            (1 - last['eval'][f'codebook_usage{depth}']) * VOCABULARIES[kind][0]
        )
        assert (workdir / 'images' / f'code_usage{depth}_0000060.png').exists()
    assert last['eval']['quantization_error'] > 0 and last['eval']['gradient_ratio'] > 0
    assert (workdir / 'images' / 'codebook_0000060.png').exists()
    entropies = {'commitment_loss', 'code_entropy', 'entropy_of_mean'} <= set(last['train'])
    assert entropies == (kind in ('lfq', 'bsq', 'ibq'))

    opened = vq_jax.load(workdir)
    codes = opened.encode(digits)
    vocabulary, shape = VOCABULARIES[kind], (4, 4) if len(depths) == 1 else (4, 4, 2)
    assert codes.shape == (16, *shape) and codes.dtype == np.int32
    assert opened.task.vocabularies == (vocabulary,)
    images = np.asarray(opened.decode(codes))
    np.testing.assert_array_equal(images, opened.reconstruct(digits))
    with pytest.raises(vq_jax.UserError, match=f'from 0 to {vocabulary[0] - 1}'):
        opened.decode(np.full((1, *shape), vocabulary[0]))

    # What a prior and a latent diffusion model learn, and draw with.
    codec = make_codec(TokenizerConfig(str(workdir)), opened.spec)
    assert codec.code_spec == CodeSpec(((4, 4),), (vocabulary,))
    np.testing.assert_array_equal(codec.encode(codec.state(), digits)[0].reshape(codes.shape), codes)
    codec = make_codec(LatentConfig(str(workdir)), opened.spec)
    latents = codec.latents(codec.state(), digits)
    assert codec.latent_shape == latents.shape[1:] == (4, 4, LATENTS[kind])
    np.testing.assert_array_equal(codec.decode_latents(codec.state(), latents, None), images)


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['pmap', 'jit'])
@pytest.mark.parametrize('kind', ['lfq', 'bsq', 'ibq', 'gumbel'])
def test_eight_devices_equal_one(kind, engine, tmp_path):
    """Of those whose loss is of the whole batch, or whose codes are sampled."""
    changes = [f'--config.{key}={value}' for key, value in (SMALL | KINDS[kind]).items()]
    arguments = ['--config=tests/digits.py', *changes, *DESCENT]
    run([*arguments, f'--workdir={tmp_path / "one"}'])
    eight = [f'--workdir={tmp_path / "eight"}', f'--config.parallel.engine={engine}']
    run([*arguments, *eight], devices=8)
    assert_same_descent(tmp_path / 'one', tmp_path / 'eight')


@pytest.mark.slow
@pytest.mark.parametrize('engine, kind', [('pmap', 'bsq'), ('jit', 'ibq'), ('pmap', 'gumbel')])
def test_a_stop_changes_nothing(engine, kind, tmp_path):
    changes = [f'--config.{key}={value}' for key, value in (SMALL | KINDS[kind]).items()]
    arguments = ['--config=tests/digits.py', *changes, f'--config.parallel.engine={engine}', *DESCENT]
    whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
    run([*arguments, f'--workdir={whole}'])
    run([*arguments, f'--workdir={stopped}'], signalled=(stopped / 'checkpoints' / '2', signal.SIGTERM))
    run([*arguments, f'--workdir={stopped}'])
    assert_equal_runs(whole, stopped)

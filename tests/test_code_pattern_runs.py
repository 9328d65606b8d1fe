"""Whole runs of priors over codes of sound of several depths, in each order: a kill changes nothing."""

import signal

import numpy as np
import pytest

from tests.runs import assert_equal_runs, run
from vq_jax.media import wav
from vq_jax.tasks import default_config
from vq_jax.train import train

RATE = 8000
SMALL = [
    '--config=tests/digits_prior.py',
    '--config.data.image_size=None',
    '--config.data.num_samples=64',
    '--config.batch_size=16',
    '--config.steps=12',
    '--config.log_every=4',
    '--config.eval_every=12',
    '--config.checkpoint_every=4',
    '--config.optimizer.warmup_steps=0',
    *(
        f'--config.{section}.{key}={value}'
        for section in ('transformer', 'depth_transformer')
        for key, value in {'depth': 1, 'width': 16, 'heads': 2, 'dropout': 0.2}.items()
    ),
]


@pytest.fixture(scope='module')
def sounds(tmp_path_factory):
    """Tones of two classes."""
    folder, rng = tmp_path_factory.mktemp('sounds'), np.random.default_rng(0)
    for name, pitch in (('low', 300), ('high', 900)):
        (folder / name).mkdir()
        for i in range(20):
            phases = 2 * np.pi * pitch * rng.uniform(0.9, 1.1) * np.arange(64) / RATE
            tone = np.round(12_000 * np.sin(phases)).astype(np.int16)[:, None]
            (folder / name / f'{i}.wav').write_bytes(wav.encode(tone, RATE))
    return folder


@pytest.fixture(scope='module')
def tokenizer(sounds, tmp_path_factory):
    """Eight positions of three codes, each of what those before it leave."""
    config = default_config('vqvae')
    config.steps = config.eval_every = config.checkpoint_every = 20
    config.batch_size = 16
    config.data.update({'name': f'folder:{sounds}', 'num_samples': 64})
    config.model.update({'channels': 8, 'stages': 1, 'strides': (8,), 'residual_blocks': 0})
    config.quantizer.update({'kind': 'residual', 'num_codes': 16, 'dim': 8})
    config.residual.depth = 3
    workdir = tmp_path_factory.mktemp('runs') / 'tokenizer'
    train(config, workdir)
    return workdir


@pytest.fixture(params=['flattened', 'delay', 'depth'])
def learn(request, sounds, tokenizer):
    """Trains a prior of one pattern."""
    given = [
        f'--config.data.name=folder:{sounds}',
        f'--config.tokenizer.workdir={tokenizer}',
        f'--config.model.pattern={request.param}',
    ]

    def start(workdir, *changes, **options):
        run([*SMALL, *given, f'--workdir={workdir}', *changes], **options)

    return start


@pytest.mark.slow
def test_killed_and_resumed_equals_never_interrupted(learn, tmp_path):
    whole, workdir = tmp_path / 'whole', tmp_path / 'run'
    learn(whole)
    learn(workdir, signalled=(workdir / 'checkpoints' / '4', signal.SIGKILL), status=-signal.SIGKILL)
    learn(workdir)
    assert_equal_runs(whole, workdir)

"""Tokenizers of video the whole way: trained, evaluated, and used."""

import json

import numpy as np
import pytest

import vq_jax
from tests.films import FRAMES, SIZE, film
from vq_jax.tasks import default_config
from vq_jax.train import train

OWN = 'tests.films'


def small(task, steps):
    config = default_config(task)
    config.batch_size = 8
    config.steps = config.eval_every = config.checkpoint_every = steps
    config.data.name = f'class:{OWN}:Films'
    config.model.channels, config.quantizer.num_codes = 8, 16
    config.optimizer.learning_rate = 3e-3
    return config


def opened(workdir):
    return vq_jax.load(workdir, allow=(OWN,))


@pytest.fixture(scope='module')
def vqvae(tmp_path_factory):
    config = small('vqvae', 40)
    config.model.strides, config.model.stages = (1, 2, 2), 2
    config.model.residual_blocks, config.model.residual_channels, config.quantizer.dim = 1, 8, 4
    workdir = tmp_path_factory.mktemp('runs') / 'vqvae'
    metrics = train(config, workdir)
    assert metrics['psnr'] > 16 and metrics['ssim'] > 0.4
    return workdir


def test_videos_of_any_size_are_encoded_and_come_back(vqvae):
    run = opened(vqvae)
    assert str(run.spec) == f'video of {FRAMES}x{SIZE}x{SIZE}x3' and run.spec.rate == 8
    video = film(32, 7)[None]
    wide = np.concatenate([video, video], axis=3)
    codes = run.encode(wide)
    assert codes.shape == (1, 7, 4, 8) and codes.dtype == np.int32
    assert run.decode(codes).shape == wide.shape
    assert (np.abs(run.reconstruct(video) - np.float32(video)) < 32).mean() > 0.7
    with pytest.raises(vq_jax.UserError, match=r'videos must be uint8 \[b t h w c\], .* give videos\[None\]'):
        run.encode(video[0])
    with pytest.raises(vq_jax.UserError, match='7x16x15 cannot be divided by 1x4x4'):
        run.encode(video[:, :, :, :15])


def test_an_evaluation_of_videos_is_looked_at(vqvae):
    names = {path.name for path in (vqvae / 'images').iterdir()}
    assert {f'{name}_0000040.png' for name in ('reconstructions', 'code_usage', 'codebook')} <= names
    lines = map(json.loads, (vqvae / 'metrics.jsonl').read_text().splitlines())
    metrics = next(line for line in lines if line['split'] == 'eval')
    assert metrics['psnr'] == pytest.approx(opened(vqvae).evaluate('test').metrics['psnr'], rel=1e-5)

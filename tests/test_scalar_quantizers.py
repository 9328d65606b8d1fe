"""Whole runs with quantizers without a codebook: in a notebook, as tokens and latents, on several devices."""

import numpy as np
import pytest

import vq_jax
from tests.runs import assert_close, logged, run
from vq_jax.tasks.latents import LatentConfig, make_space
from vq_jax.tasks.tokenizers import TokenizerConfig, make_tokenizer

SMALL = [
    '--config=configs/quickstart.py',
    '--config.steps=60',
    '--config.optimizer.learning_rate=5e-3',
    '--config.batch_size=32',
    '--config.log_every=5',
    '--config.eval_every=60',
    '--config.checkpoint_every=60',
    '--config.model.channels=8',
    '--config.model.residual_channels=8',
]
KINDS = {
    'fsq': ['--config.quantizer.kind=fsq', '--config.fsq.levels=(5,4,3)'],
    'lfq': ['--config.quantizer.kind=lfq', '--config.lfq.bits=6', '--config.lfq.temperature=1.0'],
}
NUM_CODES = {'fsq': 60, 'lfq': 64}


def train(kind, workdir, *changes, **options):
    return run([*SMALL, *KINDS[kind], f'--workdir={workdir}', *changes], **options)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    for kind in KINDS:
        train(kind, folder / kind)
    return folder


@pytest.fixture(scope='module')
def digits():
    from sklearn.datasets import load_digits

    return np.round(load_digits().images[-16:, ..., None] * (255 / 16)).astype(np.uint8)


@pytest.mark.parametrize('kind', KINDS)
def test_a_run_trains_and_is_opened(kind, runs, digits):
    lines = logged(runs / kind)
    losses = [line['reconstruction_loss'] for line in lines if line['split'] == 'train']
    assert losses[-1] < 0.75 * losses[0]
    last = {line['split']: line for line in lines}
    assert {'perplexity', 'codes_used'} <= set(last['train']) and last['eval']['perplexity'] > 2
    assert ({'commitment_loss', 'code_entropy', 'entropy_of_mean'} <= set(last['train'])) == (kind == 'lfq')
    names = {path.name for path in (runs / kind / 'images').iterdir()}
    assert {'reconstructions_0000060.png', 'code_use_0000060.png'} <= names

    opened = vq_jax.load(runs / kind)
    codes = opened.encode(digits)
    assert codes.shape == (16, 4, 4) and codes.dtype == np.int32
    assert opened.task.num_codes == NUM_CODES[kind]
    images = np.asarray(opened.decode(codes))
    np.testing.assert_array_equal(images, opened.reconstruct(digits))
    with pytest.raises(vq_jax.UserError, match=f'from 0 to {NUM_CODES[kind] - 1}'):
        opened.decode(np.full((1, 4, 4), NUM_CODES[kind]))

    # What a prior and a latent diffusion model learn, and draw with.
    tokenizer = make_tokenizer(TokenizerConfig(str(runs / kind)), digits.shape[1:])
    assert (tokenizer.num_tokens, tokenizer.grids) == (NUM_CODES[kind], ((4, 4),))
    np.testing.assert_array_equal(tokenizer.encode(tokenizer.state(), digits)[0], codes)
    space = make_space(LatentConfig(str(runs / kind)), digits.shape[1:])
    latents = space.encode(space.state(), digits)
    assert space.shape == latents.shape[1:] == (4, 4, {'fsq': 3, 'lfq': 6}[kind])
    np.testing.assert_array_equal(space.decode(space.state(), latents, None), images)


@pytest.mark.slow
def test_eight_devices_equal_one(runs, tmp_path):
    """Of LFQ, whose loss is of the whole batch."""
    train('lfq', tmp_path / 'eight', devices=8)
    assert_close(runs / 'lfq', tmp_path / 'eight')
    for one, eight in zip(logged(runs / 'lfq'), logged(tmp_path / 'eight'), strict=True):
        for name in ('loss', 'code_entropy', 'entropy_of_mean'):
            if name in one:
                assert eight[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), (name, one)

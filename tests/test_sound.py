"""Sound the whole way: a folder of WAV files, a VQ-VAE, its codes, a prior over them, and new sounds."""

import wave

import numpy as np
import pytest

import vq_jax
from vq_jax.tasks import default_config
from vq_jax.train import train

RATE = 8000


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Tones of two classes, low and high, in stereo of 16 bits."""
    folder = tmp_path_factory.mktemp('sounds')
    draw = np.random.default_rng(0)
    for name, pitch in (('low', 300), ('high', 900)):
        (folder / name).mkdir()
        for i in range(16):
            t = np.arange(draw.integers(400, 700)) / RATE
            tone = np.round(12_000 * np.sin(2 * np.pi * pitch * draw.uniform(0.9, 1.1) * t)).astype('<i2')
            with wave.open(str(folder / name / f'{i}.wav'), 'wb') as file:
                file.setnchannels(2)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes(np.stack([tone, tone], 1).tobytes())
    return folder


def small(task, folder, **changes):
    config = default_config(task)
    config.batch_size, config.steps = 8, 40
    config.eval_every = config.checkpoint_every = 40
    config.data.name = f'folder:{folder}'
    config.data.num_samples = 512
    for name, value in changes.items():
        section, key = name.split('__')
        config[section][key] = value
    return config


@pytest.fixture(scope='module')
def tokenizer(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'tokenizer'
    config = small('vqvae', folder, model__channels=16, model__stages=2, model__strides=(4,))
    config.quantizer.kind, config.residual.depth = 'residual', 2
    config.quantizer.num_codes, config.quantizer.dim = 16, 8
    config.optimizer.learning_rate = 3e-3
    metrics = train(config, workdir)
    assert metrics['l1'] < 0.18 and {'perplexity_depth_0', 'codebook_usage_depth_1'} <= set(metrics)
    return workdir


def test_sounds_are_encoded_and_come_back(tokenizer):
    run = vq_jax.load(tokenizer)
    assert (run.spec.kind, run.spec.shape, run.spec.rate) == ('audio', (512, 1), RATE)
    assert 'audio of 512x1' in repr(run)
    sounds = next(iter(vq_jax.data.eval_batches(run.dataset('test'), batch_size=4)))['x']
    codes = run.encode(sounds)
    assert codes.shape == (len(sounds), 32, 2) and codes.dtype == np.int32
    rebuilt = np.asarray(run.decode(codes))
    assert rebuilt.shape == sounds.shape and rebuilt.dtype == np.int16
    np.testing.assert_array_equal(rebuilt, run.reconstruct(sounds))
    longer = np.concatenate([sounds, sounds], axis=1)
    assert run.encode(longer).shape == (len(sounds), 64, 2)
    with pytest.raises(vq_jax.UserError, match=r'sounds must be int16 \[b t c\], .* give sounds\[None\]'):
        run.encode(sounds[0])
    with pytest.raises(vq_jax.UserError, match=r"give \(32767 \* sounds\).round\(\).astype\('int16'\)"):
        run.encode(sounds / 32768)


def test_an_evaluation_is_looked_at_and_listened_to(tokenizer):
    assert (tokenizer / 'images' / 'reconstructions_0000040.png').exists()
    with wave.open(str(tokenizer / 'sounds' / 'reconstructions_sound_0000040.wav')) as file:
        assert file.getframerate() == RATE and file.getsampwidth() == 2 and file.getnframes() > 512


def test_a_prior_over_the_codes_makes_sound(folder, tokenizer, tmp_path):
    config = small(
        'prior',
        folder,
        tokenizer__workdir=str(tokenizer),
        model__class_conditional=True,
        transformer__depth=1,
    )
    config.transformer.width, config.transformer.heads = 32, 2
    metrics = train(config, tmp_path / 'prior')
    assert 0 < metrics['loss'] < np.log(16)
    made = vq_jax.load(tmp_path / 'prior').sample(3, label='low')
    assert made.shape == (3, 512, 1) and made.dtype == np.int16 and made.std() > 100

"""Whole runs of all but VQ-VAEs, as a user starts them: resume, devices, sampling, mistakes."""

import json
import re
import signal

import jax
import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.jaxprs import convolved_in
from tests.runs import (
    DESCENT,
    arrays,
    assert_equal_runs,
    assert_same_descent,
    logged,
    refused,
    run,
)

COMMON = [
    '--config.batch_size=16',
    '--config.log_every=4',
    '--config.eval_every=8',
    '--config.checkpoint_every=4',
    '--config.data.name=digits',
    '--config.data.image_size=16',
    '--config.data.channels=1',
]
GAN = [
    '--config=configs/image/dcgan_mnist.py',
    *COMMON,
    '--config.steps=16',
    '--config.data.pad=4',
    '--config.generator.channels=8',
    '--config.discriminator.channels=8',
    '--config.optimizer.ema_decay=0.9',
]
VQGAN = [
    '--config=configs/image/vqgan_photos.py',
    *COMMON,
    '--config.steps=16',
    '--config.data.image_size=8',
    '--config.data.flip=false',
    '--config.model.channels=8',
    '--config.model.multipliers=(1,)',
    '--config.model.features=8',
    '--config.quantizer.num_codes=16',
    '--config.perceptual.kind=none',
    '--config.discriminator.channels=8',
    '--config.discriminator.stages=1',
    '--config.adversarial.start=8',
    '--config.adversarial.warmup=4',
    '--config.adversarial.ramp=4',
]
VAE = [
    '--config=configs/image/vae_mnist.py',
    *COMMON,
    '--config.steps=16',
    '--config.model.importance_samples=4',
]
DIFFUSION = [
    '--config=configs/image/ddpm_mnist.py',
    *COMMON,
    '--config.steps=16',
    '--config.unet.channels=8',
    '--config.unet.multipliers=(1,)',
    '--config.unet.attention_resolutions=()',
    '--config.unet.head_channels=8',
    '--config.unet.dropout=0.1',
    '--config.sampling.steps=2',
    '--config.optimizer.warmup_steps=0',
    '--config.optimizer.ema_decay=0.9',
]
PRIOR = [
    '--config=configs/image/pixelcnn_mnist.py',
    *COMMON,
    '--config.steps=16',
    '--config.data.image_size=8',
    '--config.tokenizer.levels=4',
    '--config.model.kind=maskgit',
    '--config.transformer.depth=1',
    '--config.transformer.width=16',
    '--config.transformer.heads=2',
    '--config.transformer.dropout=0.1',
    '--config.sampling.steps=2',
    '--config.optimizer.ema_decay=0.9',
]
DISCRIMINATOR_DESCENT = [
    '--config.discriminator_optimizer.name=sgd',
    '--config.discriminator_optimizer.learning_rate=0.1',
]
# What is changed for a few steps of plain gradient descent.
DESCENTS = {
    'gan': [*DESCENT, *DISCRIMINATOR_DESCENT],
    'vqgan': [
        *DESCENT,
        *DISCRIMINATOR_DESCENT,
        '--config.adversarial.start=2',
        '--config.adversarial.warmup=1',
        '--config.adversarial.ramp=2',
    ],
    'vae': [*DESCENT, '--config.optimizer.learning_rate=0.01'],
    'diffusion': DESCENT,
    'prior': DESCENT,
}
ARGUMENTS = {'gan': GAN, 'vqgan': VQGAN, 'vae': VAE, 'diffusion': DIFFUSION, 'prior': PRIOR}


def train(name, workdir, *changes, **options):
    return run([*ARGUMENTS[name], f'--workdir={workdir}', *changes], **options)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Runs that nothing interrupted, each trained when it is first asked for."""
    folder = tmp_path_factory.mktemp('runs')

    def get(name):
        if not (folder / name).exists():
            train(name, folder / name)
        return folder / name

    return get


@pytest.fixture(scope='module')
def descended(tmp_path_factory):
    """The same by a few steps of plain gradient descent, on one device."""
    folder = tmp_path_factory.mktemp('descents')

    def get(name):
        if not (folder / name).exists():
            train(name, folder / name, *DESCENTS[name])
        return folder / name

    return get


@pytest.mark.slow
@pytest.mark.parametrize('name', ['gan', 'diffusion', 'vqgan', 'prior'])
def test_killed_and_resumed_equals_never_interrupted(name, whole, tmp_path):
    """That of the VQGAN is killed before the discriminator has joined, and after."""
    workdir = tmp_path / 'run'
    for step in (4, 12) if name == 'vqgan' else (8,):
        train(
            name,
            workdir,
            signalled=(workdir / 'checkpoints' / str(step), signal.SIGKILL),
            status=-signal.SIGKILL,
        )
    train(name, workdir)
    assert_equal_runs(whole(name), workdir)


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['pmap', 'jit'])
@pytest.mark.parametrize('name', ['vae', 'gan', 'vqgan', 'diffusion', 'prior'])
def test_four_devices_equal_one(name, engine, descended, tmp_path):
    four = tmp_path / 'four'
    train(name, four, *DESCENTS[name], f'--config.parallel.engine={engine}', devices=4)
    assert_same_descent(descended(name), four)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['gan', 'vqgan'])
def test_bfloat16_trains(name, tmp_path):
    sections = ['discriminator', 'generator' if name == 'gan' else 'model']
    changes = [f'--config.{s}.dtype=bfloat16' for s in sections] + ['--config.steps=8']
    if name == 'vqgan':  # both networks from the first step on
        changes += ['--config.adversarial.start=0', '--config.adversarial.warmup=0']
    train(name, tmp_path / 'run', *changes)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(arrays(tmp_path / 'run')))
    opened = vq_jax.load(tmp_path / 'run')
    batch = next(iter(vq_jax.data.eval_batches(opened.dataset('test'), batch_size=4)))
    assert convolved_in(opened.task.train_step, opened.state, batch) == {'bfloat16'}


@pytest.mark.slow
def test_the_log_of_a_vqgan_holds_both_networks(whole):
    lines = [line for line in logged(whole('vqgan')) if line['split'] == 'train']
    players = {
        'generator_loss',
        'discriminator_loss',
        'logits_real',
        'logits_fake',
        'discriminator_gradient_norm',
    }
    assert [players <= line.keys() for line in lines] == [False, True, True, True]
    assert [line['adversarial_weight'] > 0 for line in lines] == [False, False, True, True]
    assert all('gradient_norm' in line and 'perplexity' in line for line in lines)


@pytest.mark.slow
def test_sampling_draws_the_same_from_the_command_and_in_a_notebook(whole, tmp_path):
    arguments = [f'--workdir={whole("gan")}', '--num=20', '--seed=3']
    run([*arguments, '--label=2', f'--output={tmp_path / "a.npz"}'], module='vq_jax.sample')
    opened = vq_jax.load(whole('gan'))
    with np.load(tmp_path / 'a.npz') as file:
        drawn = file['images']
        assert drawn.shape == (20, 16, 16, 1) and (file['labels'] == 2).all()
        again = np.asarray(opened.sample(20, label=2, seed=3))
        np.testing.assert_allclose(drawn.astype(int), again.astype(int), atol=1)
        few = np.asarray(opened.sample(3, label=2, seed=3))
        np.testing.assert_allclose(few.astype(int), again[:3].astype(int), atol=1)
    assert np.abs(again.astype(int) - np.asarray(opened.sample(20, label=2, seed=4))).max() > 1
    run([*arguments, f'--output={tmp_path / "a.png"}'], module='vq_jax.sample')
    with Image.open(tmp_path / 'a.png') as sheet:
        assert sheet.width > 5 * 16 and sheet.height > 4 * 16
    with pytest.raises(vq_jax.UserError, match='from 0 to 9'):
        opened.sample(2, label=10)


@pytest.mark.slow
def test_a_vae_in_a_notebook(whole):
    opened = vq_jax.load(whole('vae'))
    images = next(iter(vq_jax.data.eval_batches(opened.dataset('test'), batch_size=4)))['x']
    latents = opened.encode(images)
    assert latents.shape == (4, 50) and opened.decode(latents).shape == images.shape
    between = np.asarray(opened.interpolate(images[0], images[1], 5))
    ends = np.asarray(opened.reconstruct(images[:2]))
    np.testing.assert_allclose(between[[0, -1]].astype(int), ends.astype(int), atol=1)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    assert opened.anomaly_score(noise).min() > opened.anomaly_score(images).max()
    assert opened.sample(3).shape == (3, 16, 16, 1)
    with pytest.raises(vq_jax.UserError, match='not conditioned'):
        opened.sample(3, label=1)
    more = vq_jax.load(whole('vae'), overrides={'model.importance_samples': 64}).evaluate().metrics
    assert more['iwae'] > opened.evaluate().metrics['iwae']


@pytest.mark.slow
def test_a_vqgan_in_a_notebook(whole):
    opened = vq_jax.load(whole('vqgan'))
    images = next(iter(vq_jax.data.eval_batches(opened.dataset('test'), batch_size=4)))['x']
    codes = opened.encode(images)
    assert codes.shape == (4, 8, 8) and codes.dtype == np.int32
    assert opened.decode(codes).shape == images.shape
    with pytest.raises(vq_jax.UserError, match='cannot sample images; train a prior'):
        opened.sample(2)
    with pytest.raises(vq_jax.UserError, match='nothing lies'):
        opened.interpolate(images[0], images[1])
    with pytest.raises(vq_jax.UserError, match='no likelihood of images'):
        opened.anomaly_score(images)


def test_evaluate_gives_the_numbers_of_the_log(whole, tmp_path):
    output = tmp_path / 'numbers.json'
    run([f'--workdir={whole("gan")}', f'--output={output}'], module='vq_jax.evaluate')
    numbers = json.loads(output.read_text())
    for name, value in logged(whole('gan'))[-1].items():
        if name not in ('step', 'split'):
            assert numbers[name] == pytest.approx(value, rel=1e-3), name


def test_weights_that_cannot_be_had_stop_the_run_before_it_begins(tmp_path):
    weights = '--config.perceptual.weights=("/nonexistent.npz",)'
    changes = ['--config.perceptual.kind=lpips', weights, '--config.data.image_size=16']
    _, errors = train('vqgan', tmp_path / 'run', *changes, status=2)
    assert errors.startswith('error: ') and '/nonexistent.npz' in errors and errors.count('\n') == 1
    assert not (tmp_path / 'run' / 'config.json').exists()


@pytest.mark.slow
def test_a_discriminator_that_diverges_is_told(tmp_path):
    output, _ = train('gan', tmp_path / 'run', '--config.discriminator_optimizer.learning_rate=30')
    ((step, text),) = re.findall(r'step (\d+)/16  warning: (.*)', output)
    assert text.startswith('the discriminator has diverged: its loss is ')
    assert 'Lower config.discriminator_optimizer.learning_rate' in text
    warnings = [line for line in logged(tmp_path / 'run') if line['split'] == 'warning']
    assert (int(step), text) == (warnings[0]['step'], warnings[0]['text'])
    assert [line['step'] for line in warnings] == [4, 8, 12, 16]  # the log has it each time


def test_a_discriminator_that_overflows_stops_the_run(tmp_path):
    changes = ['--config.discriminator_optimizer.learning_rate=1e38']
    changes += ['--config.discriminator_optimizer.name=sgd']
    _, errors = train('gan', tmp_path / 'run', *changes, status=2)
    assert 'not finite at step' in errors and 'discriminator_loss' in errors
    assert 'Lower config.discriminator_optimizer.learning_rate or set' in errors


@pytest.mark.parametrize(
    'module, mistakes',
    [
        (
            'vq_jax.sample',
            {
                ('--output=x.jpg',): '.png or .gif or .mp4 or .wav or .txt or .npz',
                ('--output=x.png', '--num=-1'): '-1 images cannot be sampled; ask for 1 or more',
                ('--output=x.png', '--label=11'): 'from 0 to 9',
                ('--output=README.md/x.png',): 'choose another --output',
            },
        ),
        ('vq_jax.edit', {('--input=experiments/ddpm_2020/samples.png', '--output=x.png'): 'give --mask'}),
        (
            'vq_jax.evaluate',
            {
                ('--output=vq_jax',): 'ends in .json',
                ('--step=last',): 'or best',
                ('--seed=1',): '--seed is given without --features',
                ('--step=best',): 'none was evaluated by config.best_metric',
                ('--override=model.nosuch=1',): 'config.model.nosuch',
                ('--override=generator.channels=4',): 'checkpoint',
            },
        ),
    ],
)
def test_mistakes_are_one_sentence(module, mistakes, whole):
    commands = [[f'--workdir={whole("gan")}', *arguments] for arguments in mistakes]
    for errors, words in zip(refused(module, *commands), mistakes.values(), strict=True):
        assert errors.startswith('error: ') and words in errors and 'Traceback' not in errors


@pytest.mark.slow
def test_a_run_goes_on_after_a_signal(tmp_path, whole):
    workdir = tmp_path / 'run'
    train('vqgan', workdir, signalled=(workdir / 'checkpoints' / '8', signal.SIGTERM))
    assert arrays(workdir).step < 16
    train('vqgan', workdir)
    assert_equal_runs(whole('vqgan'), workdir)

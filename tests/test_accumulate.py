"""Whole runs whose steps are computed in parts, as a user starts them."""

import json

import pytest

from tests.runs import DESCENT, assert_same_descent, run

COMMON = [
    *DESCENT,
    '--config.data.name=digits',
    '--config.data.image_size=16',
    '--config.data.channels=1',
    '--config.optimizer.ema_decay=0.9',
]
VQVAE = [
    '--config=tests/digits.py',
    *COMMON,
    '--config.model.channels=8',
    '--config.model.residual_channels=8',
    '--config.quantizer.num_codes=16',
    '--config.quantizer.revive_below=0.9',
    '--config.quantizer.decay=0.5',
]
VQGAN = [
    '--config=configs/image/vqgan_photos.py',
    *COMMON,
    '--config.data.flip=false',
    '--config.model.channels=8',
    '--config.model.multipliers=(1,2)',
    '--config.model.features=8',
    '--config.quantizer.num_codes=16',
    '--config.discriminator.channels=8',
    '--config.discriminator.stages=2',
    '--config.discriminator.norm=none',
    '--config.discriminator_optimizer.name=sgd',
    '--config.discriminator_optimizer.learning_rate=0.1',
    '--config.adversarial.start=2',
    '--config.adversarial.warmup=1',
]
# Of the first batch of an evaluation, which is smaller where steps are computed in parts.
OF_A_BATCH = ('gradient_ratio',)
WHOLE, PARTS = ['--config.batch_size=64'], ['--config.batch_size=16', '--config.accumulate=4']


def images_a_step(workdir):
    """How many the log says that each step read."""
    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    speeds = [line for line in lines if line['split'] == 'speed']
    assert speeds
    return [line['examples_per_second'] * line['seconds_per_step'] for line in speeds]


@pytest.mark.slow
def test_a_run_in_parts_is_the_run_of_whole_batches(tmp_path):
    """From the start of the codebook by k-means to the numbers of the last evaluation."""
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    run([*VQVAE, *WHOLE, f'--workdir={whole}'])
    run([*VQVAE, *PARTS, f'--workdir={parts}'])
    assert_same_descent(whole, parts, but_for=OF_A_BATCH)
    for workdir in (whole, parts):
        assert images_a_step(workdir) == pytest.approx([64] * len(images_a_step(workdir)))


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['pmap', 'jit'])
@pytest.mark.parametrize('arguments', [VQVAE, VQGAN], ids=['vqvae', 'vqgan'])
def test_parts_on_four_devices_are_the_run_of_whole_batches_on_one(arguments, engine, tmp_path):
    """That of the VQGAN goes through all phases of the discriminator."""
    run([*arguments, *WHOLE, f'--workdir={tmp_path / "whole"}'])
    changes = [*PARTS, f'--config.parallel.engine={engine}']
    run([*arguments, *changes, f'--workdir={tmp_path / "parts"}'], devices=4)
    assert_same_descent(tmp_path / 'whole', tmp_path / 'parts', but_for=OF_A_BATCH)


def test_a_discriminator_that_normalises_batches_is_refused_in_parts(tmp_path):
    arguments = [*VQGAN, *PARTS, '--config.discriminator.norm=batch', f'--workdir={tmp_path / "run"}']
    _, errors = run(arguments, status=2)
    assert (
        errors.startswith('error: config.accumulate is 4, but the discriminator') and errors.count('\n') == 1
    )
    assert 'set config.accumulate=1, or config.discriminator.norm=none' in errors
    assert not (tmp_path / 'run').exists()

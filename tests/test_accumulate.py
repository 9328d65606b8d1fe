"""Whole runs whose steps are computed in parts, as a user starts them."""

import json

import pytest

from tests.runs import assert_close, logged, run

COMMON = [
    '--config.steps=6',
    '--config.log_every=2',
    '--config.eval_every=6',
    '--config.data.name=digits',
    '--config.data.image_size=16',
    '--config.data.channels=1',
    '--config.optimizer.name=sgd',
    '--config.optimizer.schedule=constant',
    '--config.optimizer.ema_decay=0.9',
]
VQVAE = [
    '--config=configs/quickstart.py',
    *COMMON,
    '--config.model.channels=8',
    '--config.model.residual_channels=8',
    '--config.quantizer.num_codes=16',
    '--config.quantizer.revive_below=0.9',
    '--config.quantizer.decay=0.5',
    '--config.optimizer.learning_rate=0.1',
]
VQGAN = [
    '--config=configs/vqgan_photos.py',
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
    '--config.adversarial.start=4',
    '--config.adversarial.warmup=2',
    '--config.optimizer.learning_rate=0.01',
]
WHOLE, PARTS = ['--config.batch_size=64'], ['--config.batch_size=16', '--config.accumulate=4']


def assert_same(whole, parts):
    """States and logs but for the rounding of sums; the same number of images was counted."""
    assert_close(whole, parts, rtol=1e-3, atol=1e-5)
    for a, b in zip(logged(whole), logged(parts), strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert b[key] == (
                value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-4)
            ), key
    for workdir in (whole, parts):
        lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
        for line in lines:
            if line['split'] == 'speed':
                assert line['images_per_second'] * line['seconds_per_step'] == pytest.approx(64)


def test_a_run_in_parts_is_the_run_of_whole_batches(tmp_path):
    """From the start of the codebook by k-means to the pictures of the last evaluation."""
    for name, size in (('whole', WHOLE), ('parts', PARTS)):
        run([*VQVAE, *size, f'--workdir={tmp_path / name}'])
    assert_same(tmp_path / 'whole', tmp_path / 'parts')


@pytest.mark.slow
@pytest.mark.parametrize('engine', ['pmap', 'jit'])
@pytest.mark.parametrize('arguments', [VQVAE, VQGAN], ids=['vqvae', 'vqgan'])
def test_parts_on_four_devices_are_the_run_of_whole_batches_on_one(arguments, engine, tmp_path):
    """That of the VQGAN goes through all phases of the discriminator."""
    run([*arguments, *WHOLE, f'--workdir={tmp_path / "whole"}'])
    changes = [*PARTS, f'--config.parallel.engine={engine}']
    run([*arguments, *changes, f'--workdir={tmp_path / "parts"}'], devices=4)
    assert_same(tmp_path / 'whole', tmp_path / 'parts')


def test_a_discriminator_that_normalises_batches_is_refused_in_parts(tmp_path):
    arguments = [*VQGAN, *PARTS, '--config.discriminator.norm=batch', f'--workdir={tmp_path / "run"}']
    _, errors = run(arguments, status=2)
    assert (
        errors.startswith('error: config.accumulate is 4, but the discriminator') and errors.count('\n') == 1
    )
    assert 'set config.accumulate=1, or config.discriminator.norm=none' in errors
    assert not (tmp_path / 'run').exists()

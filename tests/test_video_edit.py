"""Frames of a video that are sampled anew or that follow it, by the command."""

import json

import numpy as np
import pytest
from PIL import Image

import vq_jax
from tests.films import FRAMES, SIZE, film
from tests.runs import refused, run
from vq_jax.tasks import default_config
from vq_jax.train import train

OWN = 'tests.films'


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    config = default_config('diffusion')
    config.steps = config.eval_every = 2
    config.batch_size = config.num_shown = 2
    config.data.name = f'class:{OWN}:Films'
    config.unet.channels, config.unet.multipliers, config.unet.residual_blocks = 8, (1,), 1
    config.unet.attention_resolutions, config.unet.head_channels = (), 8
    config.sampling.steps = 2
    config.evaluation.times = 1
    workdir = tmp_path_factory.mktemp('runs') / 'diffusion'
    train(config, workdir)
    return workdir


@pytest.mark.slow
def test_frames_between_others_and_those_that_follow(workdir, tmp_path):
    """Of a folder of more frames than the model was trained on."""
    frames = film(32, FRAMES + 2)
    folder, output = tmp_path / 'frames', tmp_path / 'out.npz'
    folder.mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f'{i}.png')
    opened = vq_jax.load(workdir, allow=(OWN,))
    words = [f'--workdir={workdir}', f'--allow_import={OWN}', f'--input={folder}', f'--output={output}']
    for flag, start, stop in (('--gap=1,4', 1, 4), ('--continue=3', 7, 10)):
        run([*words, '--num=2', flag], module='vq_jax.edit')
        made = np.load(output)['videos']
        assert made.shape == (2, max(7, stop), SIZE, SIZE, 3)
        np.testing.assert_array_equal(made, opened.infill(np.stack([frames] * 2), start, stop))
        assert (made[0, start:stop] != made[1, start:stop]).any()
    mask = np.zeros((SIZE, SIZE), bool)
    mask[4:9, 2:7] = True
    Image.fromarray(mask).save(tmp_path / 'mask.png')
    for flags, start, stop in (([], 0, 7), (['--gap=1,4'], 1, 4)):
        run([*words, f'--mask={tmp_path}/mask.png', *flags], module='vq_jax.edit')
        made = np.load(output)['videos']
        expected = opened.infill(frames[None], start, stop, mask=np.stack([mask] * 7))
        np.testing.assert_array_equal(made, expected)
        np.testing.assert_array_equal((made[0] != frames).any((0, 3)) & ~mask, False)
        assert (made[0, start:stop] != frames[start:stop]).any()
    (tmp_path / 'empty').mkdir()
    mistakes = {
        f'--mask={tmp_path}/empty': f'{tmp_path}/empty cannot be taken (it has no frames)',
        '--gap=0.5,2': '--gap counts frames, and this run is of videos; give whole numbers.',
        '--continue=1.5': '--continue counts frames, and this run is of videos; give whole numbers.',
        '--gap=2,8': f'--gap ends at 8, and {folder} at 7; give an earlier end, or --continue',
    }
    commands = [[*words, flag] for flag in mistakes]
    for errors, told in zip(refused('vq_jax.edit', *commands), mistakes.values(), strict=True):
        assert errors.splitlines()[-1].startswith(f'error: {told}')


@pytest.mark.slow
def test_frames_that_are_predicted_are_measured_by_the_command(workdir, tmp_path):
    output = tmp_path / 'measured.json'
    words = [f'--workdir={workdir}', f'--allow_import={OWN}', '--video']
    printed, _ = run([*words, '--given=2,1', '--seed=3', f'--output={output}'], module='vq_jax.evaluate')
    measured = json.loads(output.read_text())
    assert measured == vq_jax.load(workdir, allow=(OWN,)).measure_video('test', given=(2, 1), seed=3)
    lines = [line.split() for line in printed.splitlines()]
    at = next(i for i, line in enumerate(lines) if line[:1] == ['interpolations:'])
    assert ' '.join(lines[at]) == f'interpolations: 8 videos of class:{OWN}:Films test, step 2'
    mean, of_frame = (next(x for x in lines[at + 1 :] if head in x) for head in ('mean', '2'))
    values = measured['interpolations']
    assert float(mean[3]) == pytest.approx(values['metrics']['psnr'], rel=1e-5)
    assert float(of_frame[3]) == pytest.approx(values['curves']['psnr'][0], rel=1e-5)
    mistakes = {
        '--given=5': 'given is (5,), of videos of 5 frames; give how many of the first, 1 or more',
        '--sound': '--sound and --video are two evaluations; give one of them.',
        '--real=train': '--real is given without --features; give both, or leave it out.',
    }
    commands = [[*words, flag] for flag in mistakes]
    for errors, told in zip(refused('vq_jax.evaluate', *commands), mistakes.values(), strict=True):
        assert errors.splitlines()[-1].startswith(f'error: {told}')

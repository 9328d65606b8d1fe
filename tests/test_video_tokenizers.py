"""Tokenizers of video the whole way: trained, evaluated, and used."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import vq_jax
from tests.films import FRAMES, SIZE, Films, film
from tests.initialised import initialised
from tests.runs import refused
from vq_jax.run import Run
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.restore import Restored
from vq_jax.train import train
from vq_jax.training.state import abstract_batch

OWN = 'tests.films'
STEPS = 80
GREY = 12.0  # PSNR of the mean colour of the test set, in decibels, to within one


def small(task):
    config = default_config(task)
    config.batch_size = 8
    config.steps = config.eval_every = config.checkpoint_every = STEPS
    config.data.name = f'class:{OWN}:Films'
    config.model.channels, config.quantizer.num_codes = 8, 16
    config.optimizer.learning_rate = 3e-3
    return config


def opened(workdir):
    return vq_jax.load(workdir, allow=(OWN,))


@pytest.fixture(scope='module')
def vqvae(tmp_path_factory):
    config = small('vqvae')
    config.model.strides, config.model.stages = (1, 2, 2), 2
    config.model.residual_blocks, config.model.residual_channels, config.quantizer.dim = 1, 8, 4
    workdir = tmp_path_factory.mktemp('runs') / 'vqvae'
    metrics = train(config, workdir)
    assert metrics['psnr'] > GREY + 1
    return workdir


def test_videos_of_any_size_are_encoded_and_come_back(vqvae):
    run = opened(vqvae)
    assert str(run.spec) == f'video of {FRAMES}x{SIZE}x{SIZE}x3' and run.spec.rate == 8
    video = film(32, 7)[None]
    wide = np.concatenate([video, video], axis=3)
    codes = run.encode(wide)
    assert codes.shape == (1, 7, 4, 8) and codes.dtype == np.int32
    assert run.decode(codes).shape == wide.shape
    error, of_grey = (np.abs(np.float32(video) - x).mean() for x in (run.reconstruct(video), 127.5))
    assert error < 0.9 * of_grey
    with pytest.raises(vq_jax.UserError, match=r'videos must be uint8 \[b t h w c\], .* give videos\[None\]'):
        run.encode(video[0])
    with pytest.raises(vq_jax.UserError, match='7x16x15 cannot be divided by 1x4x4'):
        run.encode(video[:, :, :, :15])


def test_an_evaluation_of_videos_is_looked_at(vqvae):
    names = {path.name for path in (vqvae / 'images').iterdir()}
    assert {f'{name}_{STEPS:07}.png' for name in ('reconstructions', 'code_usage', 'codebook')} <= names
    lines = map(json.loads, (vqvae / 'metrics.jsonl').read_text().splitlines())
    metrics = next(line for line in lines if line['split'] == 'eval')
    assert metrics['psnr'] == pytest.approx(opened(vqvae).evaluate('test').metrics['psnr'], rel=1e-5)


def test_reconstructions_are_measured_frame_by_frame(vqvae):
    run = opened(vqvae)
    found = run.measure_video('test')
    videos = np.stack([record.stored for record in Films(None, 'test').read(range(8))])
    squares = np.square(np.float64(run.reconstruct(videos)) - videos).mean((2, 3, 4))
    curve = (10 * np.log10(255**2 / squares)).mean(0)
    np.testing.assert_allclose(found['reconstructions']['curves']['psnr'], curve, rtol=1e-3)
    metrics = run.evaluate('test').metrics
    for name in ('psnr', 'ssim'):
        assert found['reconstructions']['metrics'][name] == pytest.approx(metrics[name], rel=1e-5)
    assert found['frames'] == list(range(FRAMES)) and 'given' not in found
    with pytest.raises(vq_jax.UserError, match='vqvae predicts no frames; leave given out'):
        run.measure_video('test', given=2)


@pytest.fixture(scope='module')
def causal(tmp_path_factory):
    """A causal VQGAN, as yet without its discriminator, of two frames a position but for the first."""
    config = small('vqgan')
    config.model.temporal, config.model.multipliers = 'causal', (1, 1)
    config.model.attention_resolutions, config.model.residual_blocks = (), 1
    config.quantizer.kind, config.fsq.levels, config.model.features = 'fsq', (4, 4, 4), 8
    config.perceptual.kind = 'ms_ssim'
    config.discriminator.strides, config.discriminator.stages = (1, 2, 2), 1
    config.adversarial.start = STEPS
    workdir = tmp_path_factory.mktemp('runs') / 'causal'
    metrics = train(config, workdir)
    assert metrics['psnr'] > GREY + 1 and metrics['codebook_usage'] > 0.2
    return workdir


@pytest.mark.slow
def test_a_causal_tokenizer_serves_clips_images_and_streams(causal):
    run = opened(causal)
    video = np.stack([film(i, 9) for i in (32, 33)])
    codes = np.asarray(run.encode(video))
    assert codes.shape == (2, 5, 8, 8)
    np.testing.assert_array_equal(run.encode(video[:, :1]), codes[:, :1])
    rebuilt = np.asarray(run.decode(codes))
    assert rebuilt.shape == video.shape
    stream, parts = run.stream(), []
    assert (stream.hop, stream.latency_ms) == (2, 250)
    for start, end in ((0, 1), (1, 5), (5, 9)):
        found = stream.encode(video[:, start:end])
        np.testing.assert_array_equal(found, codes[:, (start + 1) // 2 : (end + 1) // 2])
        parts.append(stream.decode(found))
    assert np.abs(np.concatenate(parts, 1) - np.float32(rebuilt)).max() <= 1
    with pytest.raises(vq_jax.UserError, match=r'8x16x16 cannot .* use a multiple of 2 and one frame more'):
        run.encode(video[:, :8])
    with pytest.raises(
        vq_jax.UserError, match=r'has 3 frames .* multiple of 2, with the last one again after'
    ):
        stream.encode(video[:, :3])
    with pytest.raises(vq_jax.UserError, match=r'has 2 frames .* give a multiple of 2 and one more'):
        run.stream().encode(video[:, :2])
    with pytest.raises(vq_jax.UserError, match='3x16x15 cannot be divided by 2'):
        stream.encode(video[:, :2, :, :15])


@pytest.mark.slow
def test_a_seed_is_refused_where_nothing_is_sampled(vqvae):
    words = [f'--workdir={vqvae}', f'--allow_import={OWN}', '--seed=1']
    told = 'error: --seed changes nothing here, where nothing is sampled; leave it out.'
    for errors in refused('vq_jax.evaluate', [*words, '--video'], [*words, '--features=runs/classifier']):
        assert errors.splitlines()[-1] == told


@pytest.mark.slow
def test_what_is_shown_of_a_causal_tokenizer(causal):
    names = {path.name for path in (causal / 'images').iterdir()}
    assert {f'{name}_{STEPS:07}.png' for name in ('reconstructions', 'code_usage', 'codebook')} <= names


@pytest.mark.parametrize(
    'kind, shape, changes, words',
    [
        ('image', (16, 16, 3), {'temporal': 'causal'}, r'temporal is causal .* is for video, and these are'),
        ('audio', (16, 1), {'time_strides': (2,)}, r'time_strides \(2,\), .* and these are sounds'),
        (
            'video',
            (4, 16, 16, 3),
            {'temporal': 'none'},
            r'temporal is none, and the strides divide the frames',
        ),
        ('video', (4, 16, 16, 3), {'temporal': 'causal'}, r'4x16x16 cannot be divided by 2 without'),
        ('video', (4, 16, 16, 3), {}, r'too small .* lower config.discriminator.stages or strides, or'),
    ],
)
def test_sizes_that_do_not_fit_the_data(kind, shape, changes, words):
    config = small('vqgan')
    config.model.multipliers, config.model.attention_resolutions = (1, 1), ()
    config.model.update(changes)
    with pytest.raises(vq_jax.UserError, match=words):
        make_task(config, Spec(kind, shape))


def test_a_causal_vae_has_a_position_of_the_first_frame_and_streams():
    config = default_config('vae')
    config.model.backbone, config.model.latent_dim = 'residual', 3
    config.residual.multipliers, config.residual.attention_resolutions = (1, 1), ()
    config.residual.channels, config.residual.features, config.residual.residual_blocks = 4, 4, 1
    config.residual.temporal, config.model.likelihood = 'causal', 'discretised_logistic'
    spec = Spec('video', (FRAMES, SIZE, SIZE, 3))
    task = make_task(config, spec)
    assert task.first_apart and task.latent_shape == (3, 8, 8, 3)
    with pytest.raises(vq_jax.UserError, match='4x16x16 cannot be divided by 2 without their first frame'):
        task.check_spec(Spec('video', (4, SIZE, SIZE, 3)))
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_batch(1, spec, {}))
    run = Run(Restored(config, task, initialised(task.init, jax.random.key(0), batch), spec, 0, Path()))
    video, stream = film(0, FRAMES)[None], run.stream()
    latents = run.encode(video)
    first, rest = stream.encode(video[:, :1]), stream.encode(video[:, 1:])
    np.testing.assert_allclose(np.concatenate([first, rest], 1), latents, atol=1e-5)
    decoded = np.concatenate([stream.decode(first), stream.decode(rest)], 1)
    assert np.abs(decoded - np.float32(run.decode(latents))).max() <= 1

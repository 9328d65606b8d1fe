"""Diffusion of the latents of an autoencoder."""

import jax
import numpy as np
import pytest

import vq_jax
from tests.tasks.test_diffusion import keys, small, started
from vq_jax.errors import UserError
from vq_jax.tasks import default_config
from vq_jax.tasks.diffusion_sampling import LATENT
from vq_jax.train import train
from vq_jax.training.parallel import ParallelConfig, make_engine


@pytest.fixture(
    scope='module',
    params=['vqvae', *(pytest.param(task, marks=pytest.mark.slow) for task in ('vae', 'vqgan'))],
)
def autoencoder(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp(request.param) / 'run'
    config = default_config(request.param)
    config.steps = config.eval_every = config.log_every = 20
    config.data.name = 'digits'
    config.data.channels = 1
    if request.param == 'vqvae':
        config.model.channels = 16
        config.model.stages = 1
        config.quantizer.num_codes = 16
        config.quantizer.dim = 8
    elif request.param == 'vqgan':  # the KL autoencoder; its discriminator stays absent
        config.variant.bottleneck = 'gaussian'
        config.gaussian.latent_dim = 2
        config.perceptual.kind = 'none'
        config.adversarial.start = 1000
        config.discriminator.stages = 1
        config.discriminator.channels = 8
        config.model.channels = 8
        config.model.multipliers = (1, 2)
        config.model.residual_blocks = 1
        config.model.attention_resolutions = ()
        config.model.features = 8
    else:
        config.model.backbone = 'residual'
        config.model.latent_dim = 2
        config.model.importance_samples = 1
        config.residual.channels = 8
        config.residual.multipliers = (1, 1)
        config.residual.residual_blocks = 1
        config.residual.attention_resolutions = ()
        config.residual.features = 8
    train(config, workdir)
    return workdir


@pytest.fixture(scope='module')
def run(autoencoder, tmp_path_factory):
    config = small(latent__workdir=str(autoencoder), model__class_conditional=True)
    config.steps = config.eval_every = config.log_every = 10
    config.data.name = 'digits'
    config.data.channels = 1
    workdir = tmp_path_factory.mktemp('latent') / 'run'
    assert set(train(config, workdir)) == {'loss', 'examples'}  # no bound of bytes
    return vq_jax.load(workdir)


def images_of(run, n):
    return next(iter(vq_jax.data.eval_batches(run.dataset('train'), batch_size=n)))['x']


def test_latents_of_a_run_are_scaled_and_come_back(autoencoder):
    """As below, without a diffusion model that has learned anything."""
    opened = vq_jax.load(autoencoder)
    task, state = started(small(latent__workdir=str(autoencoder), model__class_conditional=True))
    batches = list(vq_jax.data.eval_batches(opened.dataset('train'), batch_size=128))[:4]
    state = task.init_from_data(jax.random.key(0), state, batches, make_engine(ParallelConfig(), 128))
    state, images = state.replace(frozen=task.pretrained()), batches[0]['x']
    encoded, decoded = jax.jit(task.encoded), jax.jit(task.decoded)
    latents = np.concatenate([encoded(state, batch['x']) for batch in batches])
    np.testing.assert_allclose(latents.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(latents.std((0, 1, 2)), 1, atol=1e-3)
    assert set(state.variables) == {LATENT}
    back = decoded(state, latents[:8], np.zeros(8, np.int32))
    wanted = np.asarray(opened.reconstruct(images[:8])).astype(int)
    assert np.mean(np.abs(np.asarray(back).astype(int) - wanted) <= 1) > 0.98
    unused = task.unused(task.sampling, 'sample')
    assert unused['threshold'] == unused['percentile'] == 'latents have no range'
    with pytest.raises(UserError, match='cannot take noise out of pixels'):
        task.denoise(state, keys(8), images[:8], 10.0, np.zeros(8, np.int32))


@pytest.mark.slow
def test_latents_are_measured_and_drawn(autoencoder, run):
    images = images_of(run, 512)
    encoded, decoded = jax.jit(run.task.encoded), jax.jit(run.task.decoded)
    latents = np.asarray(encoded(run.state, images))
    np.testing.assert_allclose(latents.mean((0, 1, 2)), 0, atol=0.1)
    np.testing.assert_allclose(latents.std((0, 1, 2)), 1, atol=0.1)
    assert set(run.state.variables) == {LATENT}
    # Encoded and decoded, images are what the autoencoder makes of them.
    back = decoded(run.state, encoded(run.state, images)[:8], np.zeros(8, np.int32))
    wanted = np.asarray(vq_jax.load(autoencoder).reconstruct(images[:8])).astype(int)
    assert np.mean(np.abs(np.asarray(back).astype(int) - wanted) <= 1) > 0.98
    assert run.sample(2, sampler='dpm_solver', steps=4, guidance=2.0, rescale=0.5).shape == (2, 8, 8, 1)
    for changes in ({'threshold': 'static'}, {'threshold': 'dynamic', 'percentile': 0.9}):
        with pytest.raises(UserError, match='changes nothing here: latents have no range'):
            run.sample(2, **changes)
    with pytest.raises(UserError, match='cannot take noise out of pixels'):
        run.task.denoise(run.state, keys(8), images[:8], 10.0, np.zeros(8, np.int32))
    with pytest.raises(UserError, match='evaluate the bound of a diffusion model of pixels'):
        run.anomaly_score(images[:8])


@pytest.mark.slow
def test_images_are_changed_through_their_latents(run):
    some, encoded, decoded = images_of(run, 2), jax.jit(run.task.encoded), jax.jit(run.task.decoded)
    back = decoded(run.state, encoded(run.state, some), np.zeros(2, np.int32))
    near = np.abs(run.image_to_image(some, 0.0, 0).astype(int) - np.asarray(back))
    assert np.mean(near <= 1) > 0.95
    way = run.interpolate(*some, 3, label=0, steps=4)
    assert way.shape == (3, 8, 8, 1)
    mask = np.zeros((2, 8, 8), bool)
    mask[:, 2:6, 2:6] = True
    drawn = run.inpaint(some, mask, 0, steps=4)
    np.testing.assert_array_equal(drawn[~mask], some[~mask])
    holes = np.where(mask[..., None], 255 - some, some)  # what is in the hole does not count
    np.testing.assert_array_equal(run.inpaint(holes, mask, 0, steps=4), drawn)

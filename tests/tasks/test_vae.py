"""The bounds of the VAE against integration, and its other promises."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.ops.images import to_float
from vq_jax.ops.keys import content_keys
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8, 1), np.uint8)
BATCH = {'x': IMAGES, 'label': np.zeros(6, np.int32), 'mask': np.ones(6, bool)}


def make(**changes):
    config = default_config('vae')
    config.model.latent_dim = 1
    config.mlp.hidden = (16,)
    with config.unlocked():
        for name, value in changes.items():
            section, key = name.split('__')
            config[section][key] = value
    task = make_task(config, Spec('image', (8, 8, 1)))
    return task, initialised(task.init, jax.random.key(0), BATCH)


@pytest.mark.parametrize('likelihood', ['bernoulli', 'gaussian', 'discretised_logistic'])
def test_bounds_are_below_the_likelihood_and_the_better_one_comes_near(likelihood):
    task, state = make(model__likelihood=likelihood, model__importance_samples=2000)
    values = jax.jit(task.eval_step)(state, BATCH)
    # log p(x) by integration over z; the observed images are drawn from their bytes.
    variables = state.eval_variables()
    observed = task.model.head.observe(content_keys(IMAGES), to_float(IMAGES))
    z = np.linspace(-8, 8, 4001, dtype=np.float32)
    log_p = jax.vmap(
        lambda v: task.model.apply(variables, (jnp.full((6, 1), v),), method='outputs').log_probability(
            observed
        )
    )(z)
    joint = np.float64(log_p) + (-0.5 * z**2 - 0.5 * np.log(2 * np.pi))[:, None]
    top = joint.max(0)
    exact = top + np.log(np.trapezoid(np.exp(joint - top), z, axis=0))
    assert (values['elbo'] < exact + 0.1).all()
    assert (values['elbo'] < values['iwae']).all()
    np.testing.assert_allclose(values['iwae'], exact, atol=0.5)
    np.testing.assert_allclose(values['elbo'], values['reconstruction'] - values['kl'], rtol=1e-6)


def test_a_likelihood_of_sound_is_one_of_its_own_integers():
    config = default_config('vae')
    config.model.likelihood = 'gaussian'
    assert make_task(config, Spec('audio', (64, 1), 8000)).model.head.dtype == np.int16


def test_evaluation_of_a_image_does_not_depend_on_its_batch():
    task, state = make()
    whole = task.eval_step(state, BATCH)
    part = task.eval_step(state, {k: v[3:5] for k, v in BATCH.items()})
    for name, values in part.items():
        np.testing.assert_allclose(values, whole[name][3:5], rtol=1e-5, atol=1e-5)


def test_samples_do_not_depend_on_the_noise_that_an_example_is_observed_with():
    task, state = make()
    shown = task.predict(state, BATCH)['samples']
    of_the_same_noise = task.sample(state, content_keys(BATCH['x']), BATCH['label'])
    assert not np.array_equal(shown, of_the_same_noise)


def test_active_units_are_those_whose_means_vary():
    task, _ = make()
    mean = np.array([0.5, 0.0, -2.0])
    moments = {'latent_mean': mean, 'latent_square': mean**2 + np.array([0.2, 0.005, 1.0])}
    assert task.summarize({'elbo': np.float64(-100.0), **moments})['active_units'] == 2


def test_means_far_from_zero_are_no_more_active():
    task, state = make()
    found = []
    for offset in (0.0, 3000.0):
        params = jax.tree.map(jnp.asarray, state.params)
        bias = params['bottleneck']['project_in']['bias']
        params['bottleneck']['project_in']['bias'] = bias.at[0].add(offset)
        values = task.eval_step(state.replace(params=params), BATCH)
        moments = {name: np.float64(values[name]).mean(0) for name in ('latent_mean', 'latent_square')}
        found.append(moments['latent_square'] - moments['latent_mean'] ** 2)
    np.testing.assert_allclose(found[1], found[0], rtol=0.01)


def test_bits_per_dimension_are_of_the_images_that_are_evaluated():
    """A grid of latents takes larger ones than it was trained on."""
    changes = {
        'channels': 4,
        'multipliers': (1, 1),
        'residual_blocks': 1,
        'attention_resolutions': (),
        'features': 4,
    }
    task, state = make(model__backbone='residual', **{f'residual__{k}': v for k, v in changes.items()})
    for images in (IMAGES, np.tile(IMAGES, (1, 2, 2, 1))):
        values = jax.jit(task.eval_step)(state, {**BATCH, 'x': images})
        for name, nats in (('', 'elbo'), ('iwae_', 'iwae')):
            bits = values[f'{name}bits_per_dimension']
            np.testing.assert_allclose(bits, -values[nats] / (images[0].size * math.log(2)), rtol=1e-6)


def test_free_bits():
    """Kingma et al. 2016, equation 15: each dimension costs what is free, or its mean over the batch."""
    changes = {'model__latent_dim': 2, 'model__likelihood': 'discretised_logistic'}
    sgd = {'optimizer__name': 'sgd', 'optimizer__b1': 0.0, 'optimizer__learning_rate': 1.0}
    free = 0.1
    task, state = make(loss__free_bits=free, **changes, **sgd)
    params = jax.tree.map(lambda p: p, state.params)
    # A decoder that ignores the latent, so that the divergence alone pulls at the encoder.
    first = params['decoder']['trunk']['Dense_0']
    first['kernel'] = jnp.zeros_like(first['kernel'])
    # The first dimension is far from the prior, the second, on average, near.
    into = params['bottleneck']['project_in']
    into['bias'] = jnp.array([2.0, 0.0, 0.0, 0.0])
    state = state.replace(params=params)
    posterior = task.model.apply({'params': params}, to_float(IMAGES), method='posterior')
    each = np.asarray(posterior.kl())
    assert each[:, 0].mean() > free > each[:, 1].mean()
    assert (each[:, 1] > free).any()  # of one image

    after, metrics = jax.jit(task.train_step)(state, BATCH)
    divergence = np.maximum(each.mean(0), free).sum()
    assert metrics['loss'] == pytest.approx(float(divergence - metrics['reconstruction']), rel=1e-5)
    assert metrics['kl'] == pytest.approx(float(each.mean(0).sum()), rel=1e-5)
    change = np.abs(after.params['bottleneck']['project_in']['kernel'] - into['kernel']).max(0)
    assert (change[[0, 2]] > 1e-3).all() and (change[[1, 3]] == 0).all()
    assert int(after.step) == 1


def test_warm_up():
    """A weight of 0 leaves the decoder alone to learn."""
    task, state = make(loss__beta_warmup=10)
    _, metrics = jax.jit(task.train_step)(state, BATCH)
    assert metrics['loss'] == pytest.approx(float(-metrics['reconstruction']), rel=1e-5)
    _, metrics = jax.jit(task.train_step)(state.replace(step=jnp.int32(5)), BATCH)
    assert metrics['loss'] == pytest.approx(float(0.5 * metrics['kl'] - metrics['reconstruction']), rel=1e-5)


@pytest.mark.parametrize(
    'backbone, latent', [('convolutional', (1,)), pytest.param('residual', (4, 4, 1), marks=pytest.mark.slow)]
)
def test_other_backbones_train_and_sample(backbone, latent):
    changes = {
        'convolutional__stages': 1,
        'convolutional__channels': 8,
        'residual__channels': 8,
        'residual__multipliers': (1, 1),
        'residual__attention_resolutions': (),
        'residual__features': 4,
    }
    task, state = make(model__backbone=backbone, model__likelihood='gaussian', **changes)
    assert task.latent_shape == latent
    after, metrics = jax.jit(task.train_step)(state, BATCH)
    assert np.isfinite(list(metrics.values())).all()
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, after.params)
    assert all(jax.tree.leaves(moved))
    samples = task.sample(after, jax.random.split(jax.random.key(0), 3), np.zeros(3, int))
    assert samples.shape == (3, 8, 8, 1) and samples.dtype == np.uint8


def test_a_size_that_does_not_fit():
    task, _ = make()
    with pytest.raises(UserError, match='made for'):
        task.check_spec(Spec('image', (16, 16, 1)))
    with pytest.raises(UserError, match='importance_samples'):
        make(model__importance_samples=0)


def test_sizes_that_make_no_decoder():
    with pytest.raises(UserError, match='give 1 or more'):
        make(model__backbone='convolutional', convolutional__stages=0)
    with pytest.raises(UserError, match='give 1 or more units to each layer'):
        make(mlp__hidden=(20, 0))


@pytest.mark.parametrize(
    'key, value', [('beta', -1.0), ('beta', math.nan), ('beta_warmup', -1), ('free_bits', -1.0)]
)
def test_losses_that_make_no_sense(key, value):
    with pytest.raises(UserError, match=f'config.loss.{key} is {value}; give (0 or more|a finite number)'):
        make(**{f'loss__{key}': value})

"""VQ-VAEs with a likelihood (its bound, what it observes, that it learns) and with two levels of codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.ops.images import to_float
from vq_jax.ops.usage import CodeCounts
from vq_jax.quantizers.quantizer import STATISTICS
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.training.parallel import ParallelConfig, make_engine

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8, 3), np.uint8)
LIKELIHOODS = ['bernoulli', pytest.param('gaussian', marks=pytest.mark.slow), 'discretised_logistic']


def batch_of(images):
    return {'x': images, 'label': np.zeros(len(images), np.int32), 'mask': np.ones(len(images), bool)}


def make(reconstruction, images=IMAGES, **changes):
    config = default_config('vqvae')
    config.model.channels = 16
    config.model.stages = 1
    config.model.residual_channels = 8
    config.quantizer.num_codes = 8
    config.quantizer.dim = 4
    config.loss.reconstruction = reconstruction
    with config.unlocked():
        for name, value in changes.items():
            section, key = name.split('__')
            config[section][key] = value
    task = make_task(config, Spec('image', images.shape[1:]))
    return task, initialised(task.init, jax.random.key(0), batch_of(images))


def test_the_bound_is_that_of_numpy():
    """log p(x | z) - n log k, in bits a value, of bytes under logistics with a scale for each channel."""
    task, state = make('discretised_logistic')
    log_scale = np.float32([-1.0, -2.0, 0.3])
    params = {**state.params, 'head': {'log_scale': jnp.asarray(log_scale)}}
    state = state.replace(params=params)
    values = jax.jit(task.eval_step)(state, batch_of(IMAGES))

    # The means of the logistics are the images before they are clipped.
    codes = task.encode(state, IMAGES)
    mean = np.float64(task.model.apply(state.eval_variables(), codes, method='outputs').outputs)
    logistic, x = stats.logistic(mean, np.exp(log_scale)), np.float64(IMAGES) * 2 / 255 - 1
    upper = np.where(IMAGES == 255, 1, logistic.cdf(x + 1 / 255))
    lower = np.where(IMAGES == 0, 0, logistic.cdf(x - 1 / 255))
    nats = np.log(upper - lower).sum((1, 2, 3))
    np.testing.assert_allclose(values['reconstruction'], nats, rtol=1e-4)
    np.testing.assert_allclose(values['kl_uniform_prior'], 4 * 4 * np.log(8), rtol=1e-6)
    bits = -(nats - 4 * 4 * np.log(8)) / (8 * 8 * 3) / np.log(2)
    np.testing.assert_allclose(values['bits_per_dimension_uniform_prior'], bits, rtol=1e-4)
    np.testing.assert_allclose(task.log_likelihood(state, IMAGES, codes), nats, rtol=1e-4)


@pytest.mark.parametrize('likelihood', LIKELIHOODS)
def test_codes_and_likelihood_are_of_one_drawn_image(likelihood):
    """An image's numbers depend on its bytes alone, and `encode` and `log_likelihood` see the same draw."""
    task, state = make(likelihood)
    whole = jax.jit(task.eval_step)(state, batch_of(IMAGES))
    part = jax.jit(task.eval_step)(state, batch_of(IMAGES[3:5]))
    for name, values in part.items():
        np.testing.assert_allclose(values, whole[name][3:5], rtol=1e-4, atol=1e-5)
    codes = task.encode(state, IMAGES)
    nats = task.log_likelihood(state, IMAGES, codes)
    np.testing.assert_allclose(nats, whole['reconstruction'], rtol=1e-4)
    if likelihood == 'bernoulli':
        observed = np.asarray(task.seen(to_float(IMAGES)))
        assert set(np.unique(observed)) == {-1, 1}
        seen_codes = task.model.apply(state.eval_variables(), observed, method='encode')
        np.testing.assert_array_equal(codes, seen_codes)


def test_training_draws_anew_each_step():
    task, state = make('bernoulli')
    step = jax.jit(task.train_step)
    losses = [
        float(step(state.replace(step=jnp.int32(i)), batch_of(IMAGES))[1]['reconstruction_loss'])
        for i in range(2)
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize('likelihood', LIKELIHOODS)
def test_training_lowers_the_bits(likelihood):
    """Images that one code each can tell apart, so that nearly all of their bits can be saved."""
    flat = np.uint8([[0, 0, 0], [255, 0, 0], [0, 255, 0], [255, 255, 255]])
    images = np.broadcast_to(flat[:, None, None], (4, 4, 4, 3))
    changes = {'optimizer__learning_rate': 1e-2, 'quantizer__revive_below': 0.5, 'quantizer__decay': 0.8}
    task, state = make(likelihood, images, **changes)
    step, evaluate = jax.jit(task.train_step), jax.jit(task.eval_step)

    def bits():
        return np.mean(evaluate(state, batch_of(images))['bits_per_dimension_uniform_prior'])

    before = bits()
    for _ in range(150):
        state, metrics = step(state, batch_of(images))
    assert bits() < 0.5 * before
    assert np.isfinite(metrics['loss'])
    if likelihood != 'bernoulli':
        assert (np.abs(state.params['head']['log_scale'] - np.log(0.2)) > 0.05).all()


def test_without_a_likelihood_there_is_no_bound():
    task, state = make('mse')
    assert not task.has_likelihood
    assert 'bits_per_dimension_uniform_prior' not in task.eval_step(state, batch_of(IMAGES))
    assert make('bernoulli')[0].has_likelihood


def test_the_codes_of_both_levels_cost():
    task, state = make('discretised_logistic', model__top_stages=1)
    values = jax.jit(task.eval_step)(state, batch_of(IMAGES))
    np.testing.assert_allclose(values['kl_uniform_prior'], (2 * 2 + 4 * 4) * np.log(8), rtol=1e-6)
    codes = task.encode(state, IMAGES)
    nats = task.log_likelihood(state, IMAGES, codes)
    np.testing.assert_allclose(nats, values['reconstruction'], rtol=1e-4)
    counts = {}
    for i, scale in enumerate(codes):
        np.testing.assert_array_equal(values[f'codes_scale_{i}'], scale)
        counts[f'codes_scale_{i}'] = (CodeCounts.of(values.pop(f'codes_scale_{i}')),)
    metrics = task.summarize({name: np.mean(np.float64(v), axis=0) for name, v in values.items()} | counts)
    p = np.bincount(np.asarray(codes[0]).reshape(-1), minlength=8) / codes[0].size
    assert metrics['perplexity_scale_0'] == pytest.approx(
        np.exp(-np.sum(p[p > 0] * np.log(p[p > 0]))), rel=1e-4
    )
    assert metrics['codebook_usage_scale_1'] == np.mean(
        np.bincount(np.asarray(codes[1]).reshape(-1), minlength=8) > 0
    )


def test_kmeans_places_the_top_and_then_the_bottom_given_it():
    """The bottom's codes are means of the vectors that the placed top leads to."""
    task, state = make('mse', model__top_stages=1, quantizer__kmeans_batches=1)
    engine = make_engine(ParallelConfig(), len(IMAGES))
    batches = iter([batch_of(IMAGES)] * 2)
    state = task.init_from_data(jax.random.key(1), state, batches, engine)
    for scale in (0, 1):
        z = task.model.apply(state.eval_variables(), to_float(IMAGES), scale, method='vectors')
        placed = state.variables[STATISTICS]['bottleneck'][f'quantizers_{scale}']
        z = np.float64(z).reshape(-1, 4)
        codebook = np.float64(placed['codebook'])
        nearest = np.square(z[:, None] - codebook).sum(-1).argmin(1)
        shares = np.bincount(nearest, minlength=8) / len(z)
        np.testing.assert_allclose(placed['shares'], shares, atol=1e-6)
        error = np.square(z - codebook[nearest]).sum()
        assert error < 0.8 * np.square(z - z.mean(0)).sum()


@pytest.mark.parametrize('learning', [pytest.param('gradient', marks=pytest.mark.slow), 'moving_average'])
def test_dead_codes_of_both_levels_are_revived(learning):
    task, state = make('mse', model__top_stages=1, quantizer__learning=learning, quantizer__revive_below=0.5)
    scales = state.variables[STATISTICS]['bottleneck'].items()
    dead = {name: {**scale, 'shares': jnp.zeros(8).at[0].set(1.0)} for name, scale in scales}
    statistics = {'bottleneck': dead}
    state = state.replace(variables={**state.variables, STATISTICS: statistics})
    after, metrics = jax.jit(task.train_step)(state, batch_of(IMAGES))
    for scale in (0, 1):
        assert metrics[f'codes_revived_scale_{scale}'] > 0
        before, now = (
            (s.params if learning == 'gradient' else s.variables[STATISTICS])['bottleneck'][
                f'quantizers_{scale}'
            ]['codebook']
            for s in (state, after)
        )
        z = task.model.apply(state.eval_variables(), to_float(IMAGES), scale, method='vectors')
        distances = np.linalg.norm(np.reshape(z, (-1, 1, 4)) - now, axis=-1).min(0)
        replaced = np.flatnonzero((before != now).all(1) & (distances < 1e-5))
        assert len(replaced) == metrics[f'codes_revived_scale_{scale}'] and 0 not in replaced


@pytest.mark.parametrize('name', ['stages', 'channels', 'residual_channels'])
def test_sizes_that_make_no_model(name):
    with pytest.raises(UserError, match=f'config.model.{name} is 0'):
        make('mse', **{f'model__{name}': 0})


def test_a_weight_that_makes_no_sense():
    with pytest.raises(UserError, match=r'config\.loss\.reconstruction_weight is -1'):
        make('mse', loss__reconstruction_weight=-1.0)


def test_dead_codes_are_replaced_in_the_average_too():
    """So that evaluation can choose them; those that live go on as an average."""
    changes = {'quantizer__learning': 'gradient', 'quantizer__revive_below': 0.5, 'optimizer__ema_decay': 0.9}
    task, state = make('mse', **changes)
    statistics = {'bottleneck': {'shares': jnp.full(8, 0.5).at[2:].set(0.0)}}
    state = state.replace(variables={**state.variables, STATISTICS: statistics})
    after, metrics = jax.jit(task.train_step)(state, batch_of(IMAGES))
    before, now, average = (
        np.asarray(tree['bottleneck']['codebook']) for tree in (state.params, after.params, after.ema_params)
    )
    assert metrics['codes_revived'] == 6
    np.testing.assert_allclose(average[2:], now[2:], rtol=1e-6)
    # The average of the first step has the decay 1/10.
    np.testing.assert_allclose(average[:2], (0.9 * now + 0.1 * before)[:2], rtol=1e-5, atol=1e-8)


def test_the_decoder_is_given_the_class_and_the_encoder_is_not():
    config = default_config('vqvae')
    config.model.update({'channels': 16, 'stages': 1, 'residual_channels': 8, 'class_conditional': True})
    config.quantizer.update({'num_codes': 8, 'dim': 4})
    task = make_task(config, Spec('image', IMAGES.shape[1:]), num_classes=3)
    batch = {**batch_of(IMAGES), 'label': np.arange(6, dtype=np.int32) % 3}
    other = {**batch, 'label': (batch['label'] + 1) % 3}
    state = initialised(task.init, jax.random.key(0), batch)
    predict = jax.jit(task.predict)
    seen, exchanged = (predict(state, one) for one in (batch, other))
    np.testing.assert_array_equal(seen['codes'], exchanged['codes'])
    assert (seen['reconstructions'] != exchanged['reconstructions']).any(axis=(1, 2, 3)).all()
    # The same codes, as of one class and another, in a batch of its size.
    codes = tuple(jnp.repeat(scale[:1], 6, axis=0) for scale in task.encode(state, IMAGES))
    decoded = np.asarray(task.decode(state, codes, batch['label']))
    np.testing.assert_array_equal(decoded[:3], decoded[3:])
    assert all((decoded[0] != one).any() for one in decoded[1:3])


def test_a_decoder_that_takes_no_class_or_has_none_to_take():
    config = default_config('vqvae')
    config.model.class_conditional = True
    with pytest.raises(UserError, match=r'config.model.class_conditional needs data with labels; set it to'):
        make_task(config, Spec('image', (8, 8, 3)))
    config.model.top_stages = 1
    with pytest.raises(UserError, match=r'config.model.class_conditional is true and top_stages is 1'):
        make_task(config, Spec('image', (8, 8, 3)), num_classes=3)

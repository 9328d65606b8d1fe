"""Diffusion tasks whose network is the best there is of normal pixels, so that results are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from tests.initialised import initialised
from tests.tasks.test_diffusion import BATCH, LABELS, keys, small, started
from vq_jax.errors import UserError
from vq_jax.ops import diffusion as ops
from vq_jax.ops.images import to_float
from vq_jax.ops.likelihoods import LEVEL
from vq_jax.spec import Spec
from vq_jax.tasks import make_task
from vq_jax.tasks.diffusion import Sampling

MEAN, VARIANCE = 0.1, 0.04
PIXELS = np.random.default_rng(0).normal(MEAN, np.sqrt(VARIANCE), (64, 8, 8, 1))
IMAGES = np.clip(np.round((PIXELS + 1) * 127.5), 0, 255).astype(np.uint8)


class Exact(nn.Module):
    """Predicts x0."""

    process: ops.Process

    def __call__(self, x, t, context, keys=None):
        alpha, sigma = self.process.scales(ops.spread(t / 1000, x))  # it is told thousandths
        return (sigma**2 * MEAN + alpha * VARIANCE * x) / (alpha**2 * VARIANCE + sigma**2)


def exact(**changes):
    task, state = started(small(model__prediction='x0', **changes))
    return dataclasses.replace(task, model=Exact(task.process)), state


def test_the_likelihood_of_the_flow_is_that_of_the_bytes():
    task, state = exact(evaluation__flow_steps=50, model__schedule='log_linear')
    batch = {'x': IMAGES, 'label': np.zeros(64, np.int32), 'mask': np.ones(64, bool)}
    values = jax.jit(task.eval_step)(state, batch)
    found = task.summarize({name: np.mean(value, 0) for name, value in values.items()})['bits_flow']
    # The density of bytes that are spread over their level, and a little noise.
    alpha, sigma = (float(scale) for scale in task.process.scales(jnp.zeros(())))
    model = stats.norm(alpha * MEAN, np.sqrt(alpha**2 * VARIANCE + sigma**2))
    within = LEVEL * (np.arange(20) + 0.5) / 20 - LEVEL / 2
    density = model.logpdf(alpha * (np.asarray(to_float(IMAGES))[..., None] + within)) + np.log(alpha * LEVEL)
    assert found == pytest.approx(-density.mean() / np.log(2), rel=1e-3)


def test_noise_is_taken_out_from_the_time_that_has_as_much():
    """The best guess of a number and its noisy value is between the mean and that value."""
    task, state = exact()
    sigma = 40.0
    noisy = to_float(IMAGES) + sigma / 127.5 * jax.random.normal(jax.random.key(0), IMAGES.shape)
    task = dataclasses.replace(task, sampling=Sampling(steps=1))
    cleaned = jax.jit(task.denoise)(state, keys(64), noisy, sigma, np.zeros(64, np.int32))
    variance = (sigma / 127.5) ** 2
    wanted = (variance * MEAN + VARIANCE * noisy) / (variance + VARIANCE)
    assert np.abs(np.asarray(cleaned) - (wanted + 1) * 127.5).max() < 1.5


def test_the_threshold_and_the_grid_are_those_asked_for():
    task, state = exact()
    x = 15 * jax.random.normal(jax.random.key(0), (4, 8, 8, 1))

    def drawn(steps=1, **changes):
        sampling = Sampling(steps=steps, **changes)
        visit = jax.jit(
            lambda x: task.visit(
                state, keys(4), task.context(state.eval_variables(), LABELS[:4]), sampling, start=0.5, x=x
            )[0]
        )
        return np.asarray(visit(x))

    plain = drawn(threshold='none')
    assert np.abs(plain).max() > 1.8
    np.testing.assert_allclose(drawn(threshold='static'), np.clip(plain, -1, 1), atol=0.12)
    times = {grid: drawn(steps=3, grid=grid) for grid in ('uniform', 'karras')}
    assert np.abs(times['uniform'] - times['karras']).max() > 1e-3


class OfClasses(nn.Module):
    """Answers with a number for each class and one for none."""

    @nn.compact
    def __call__(self, x, t, context, keys=None):
        numbers = self.param('numbers', nn.initializers.ones, (3,))
        return jnp.zeros_like(x) + ops.spread(context.vector @ numbers, x)


@pytest.mark.parametrize('dropout, seen', [(0.0, [1, 1, 0]), (1 - 1e-6, [0, 0, 1]), (0.5, [1, 1, 1])])
def test_classes_are_kept_from_the_network_as_often_as_asked(dropout, seen):
    config = small(model__class_conditional=True, model__label_dropout=dropout)
    config.optimizer.name, config.optimizer.b1 = 'sgd', 0.0
    task = make_task(config, Spec('image', (8, 8, 1)), 2)
    task = dataclasses.replace(task, model=OfClasses())
    state = initialised(task.init, jax.random.key(0), BATCH)
    after, _ = jax.jit(task.train_step)(state, BATCH)
    changed = np.asarray(after.params['numbers'] != state.params['numbers'])
    np.testing.assert_array_equal(changed, np.asarray(seen, bool))


@pytest.mark.parametrize('times', [4, 6, 7, 999])
def test_quarters_of_the_noise_are_quarters(times):
    """Of a term that rises evenly, whatever the number of parts: 1, 3, 5 and 7 sixteenths."""
    task, _ = started(small())
    edges = np.linspace(0, 1, times + 1) ** 2
    means = {'loss': 0.0, 'prior': 0.0, 'decoder': 0.0, 'diffusion': np.diff(edges) * 64 * np.log(2)}
    numbers = task.summarize(means)
    quarters = [numbers[f'bits_diffusion_{i}_of_4'] for i in range(1, 5)]
    assert sum(quarters) == pytest.approx(1) == numbers['bits_diffusion']
    np.testing.assert_allclose(quarters, np.arange(1, 8, 2) / 16, atol=0.25 / times**2 + 1e-6)


def test_the_first_step_teaches_its_width():
    """A network sure of what is wrong learns to be less so, from the decoder's part of the bound."""
    task, _ = started(small(model__timesteps=20, model__learned_variance=True))
    x0, t = to_float(IMAGES[:4]), jnp.array([0.05, 0.05, 0.5, 1.0])

    def variational(share, off):
        def network(x, t):
            told = ops.from_x0('v', task.process, x0 + off, x, t)
            return jnp.concatenate([told, jnp.full_like(x, 2 * share - 1)], -1)

        return task._losses(network, x0, keys(4), t)['variational_loss']

    slopes = {off: np.asarray(jax.jacobian(variational)(0.3, off)) for off in (0.0, 0.5, 100.0)}
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    assert (slopes[0.0] > 0).all() and (slopes[0.5][:2] < 0).all()


@pytest.mark.parametrize(
    'changes, words',
    [
        ({'model__shift': float('nan')}, 'give a finite number'),
        ({'model__shift': 1e9}, 'noise has a scale of 1.00 at the start instead of 0'),
        ({'model__min_snr_gamma': float('nan')}, 'min_snr_gamma is nan'),
        ({'model__variational_weight': -1.0}, 'variational_weight is -1.0; give 0 or more'),
        ({'model__label_dropout': 1.0}, 'label_dropout is 1.0; give a number from 0 to below 1'),
        ({'latent__step': 5}, 'config.latent.step is of the run in workdir'),
    ],
)
def test_numbers_without_meaning_are_refused(changes, words):
    with pytest.raises(UserError) as error:
        make_task(small(**changes), Spec('image', (8, 8, 1)))
    assert words in str(error.value)

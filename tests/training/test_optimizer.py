"""Optimizers, schedules, and the moving average of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.training.optimizer import OptimizerConfig, make_optimizer
from vq_jax.training.state import TrainState

PARAMS = {
    'kernel': jnp.ones((2, 2)),
    'bias': jnp.ones(2),
    **{table: jnp.ones((2, 2)) for table in ('codebook', 'embedding', 'position')},
}


def train(grads, steps=100, **config):
    """The states after each of a list of gradients, and the metrics."""
    optimizer = make_optimizer(OptimizerConfig(**config), steps)
    state = TrainState.create(jax.random.key(0), {'params': PARAMS}, optimizer)
    states, metrics = [state], []
    for g in grads:
        state, m = state.apply_gradients(jax.tree.map(lambda p, g=g: jnp.full_like(p, g), PARAMS), optimizer)
        state = state.finish_step(optimizer)
        states.append(state)
        metrics.append(m)
    return states, metrics


def test_clipping_and_the_norm_that_is_logged():
    states, metrics = train([3.0], name='sgd', b1=0.0, learning_rate=1.0, clip_norm=1.0)
    norm = 3 * np.sqrt(sum(x.size for x in PARAMS.values()))
    np.testing.assert_allclose(metrics[0]['gradient_norm'], norm, rtol=1e-6)
    np.testing.assert_allclose(states[1].params['bias'], 1 - 3 / norm, rtol=1e-6)


@pytest.mark.parametrize('name', ['adamw', 'lion', 'sgd'])
def test_only_kernels_decay(name):
    """By the learning rate times the weight, of what they are, in each step: no momentum adds to it."""
    states, _ = train([0.0] * 4, name=name, learning_rate=0.1, weight_decay=0.5)
    for step, state in enumerate(states):
        np.testing.assert_allclose(state.params['kernel'], 0.95**step, rtol=1e-5)
        np.testing.assert_array_equal(state.params['bias'], 1)
        for name in ('codebook', 'embedding', 'position'):
            np.testing.assert_array_equal(state.params[name], 1)


@pytest.mark.parametrize(
    'config, rates',
    [
        ({'schedule': 'constant'}, {0: 1, 99: 1}),
        ({'schedule': 'constant', 'warmup_steps': 10}, {0: 0, 5: 0.5, 10: 1, 50: 1}),
        ({'schedule': 'linear'}, {0: 1, 50: 0.5, 100: 0}),
        ({'schedule': 'cosine', 'warmup_steps': 20}, {10: 0.5, 20: 1, 60: 0.5, 100: 0}),
        ({'schedule': 'cosine', 'final_share': 0.2}, {0: 1, 50: 0.6, 100: 0.2}),
    ],
)
def test_schedules(config, rates):
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1.0, **config), 100)
    for step, rate in rates.items():
        np.testing.assert_allclose(optimizer.learning_rate(jnp.asarray(step)), rate, atol=1e-6)


def test_moving_average_of_the_parameters():
    states, _ = train([1.0, 1.0, 1.0], name='sgd', b1=0.0, learning_rate=0.1, ema_decay=0.15)
    average = 1.0
    for step, state in enumerate(states[1:]):
        decay = min(0.15, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * float(state.params['bias'][0])
        np.testing.assert_allclose(state.ema_params['bias'], average, rtol=1e-5)
        assert state.eval_variables()['params'] is state.ema_params


def test_momentum_and_decay_by_hand():
    grads, p, momentum = [1.0, -2.0, 0.5], 1.0, 0.0
    states, _ = train(grads, name='sgd', b1=0.8, learning_rate=0.1, weight_decay=0.5)
    for g, state in zip(grads, states[1:], strict=True):
        momentum = 0.8 * momentum + g
        p -= 0.1 * (momentum + 0.5 * p)
        np.testing.assert_allclose(state.params['kernel'], p, rtol=1e-5)


@pytest.mark.parametrize(
    'config, words',
    [
        ({'ema_decay': 1.0}, 'ema_decay is 1.0; give a number from 0 to below 1'),
        ({'b2': 1.5}, 'b2 is 1.5'),
        ({'final_share': 2.0}, 'final_share is 2.0; give a number from 0 to 1'),
        ({'warmup_steps': -1}, 'warmup_steps is -1; give 0 or more'),
        ({'learning_rate': -1e-3}, 'learning_rate is -0.001; give 0 or more'),
        ({'clip_norm': -1.0}, 'clip_norm is -1.0; give a number above 0'),
        ({'name': 'adam', 'weight_decay': 0.1}, 'choose adamw'),
    ],
)
def test_settings_that_make_no_sense(config, words):
    with pytest.raises(UserError, match=words):
        OptimizerConfig(**config)

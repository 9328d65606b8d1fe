"""The losses of sound in the task of all autoencoders: spectra, a discriminator, and their balance."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.ops import adversarial_losses
from vq_jax.ops.images import to_float
from vq_jax.ops.losses import mean_absolute
from vq_jax.ops.spectral_distances import DAC_MEL, STFT_DISTANCE
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.balancer import BALANCE, BalancerConfig

SPEC = Spec('audio', (2048, 1), 8000)  # no shorter than a window: mirrored, its spectrum would have holes


def sounds(b=4):
    x = np.random.RandomState(0).standard_normal((b, *SPEC.shape)) * 2**12
    return {'x': x.round().astype(np.int16), 'label': np.zeros(b, np.int32), 'mask': np.ones(b, bool)}


def config_of(**changes):
    """A small autoencoder of sounds with all their losses; names of keys have '__' for a dot."""
    config = default_config('vqgan')
    config.perceptual.kind = 'none'
    config.model.channels = config.model.features = 4
    config.model.multipliers, config.model.residual_blocks = (1,), 1
    config.model.attention_resolutions = ()
    config.quantizer.num_codes, config.quantizer.codebook_init = 16, 'random'
    config.variant.discriminator = 'sound'
    config.sound_discriminator.periods, config.sound_discriminator.period_channels = (2,), 1
    config.sound_discriminator.band_windows, config.sound_discriminator.stft_windows = (), (32,)
    config.sound_discriminator.spectrum_channels = 1
    config.spectral.stft_weight = 2.0
    config.adversarial.loss, config.adversarial.adaptive = 'least_squares', False
    config.adversarial.weight, config.adversarial.feature_weight = 0.5, 3.0
    config.optimizer.name, config.optimizer.b1, config.optimizer.learning_rate = 'sgd', 0.0, 1.0
    for name, value in changes.items():
        section, key = name.split('__')
        config[section][key] = value
    return config


def test_gradients_are_balanced_as_by_the_published_code():
    """audiocraft's `Balancer` (commit 896ec7c) over three steps with a decay of 0.9, for sums over examples.

    The weighted losses have gradients of 1, 10 and 100 times a normal number.
    """
    published = json.loads((Path(__file__).parent.parent / 'published_sound.json').read_text())['balancer']
    weights, balancer = {'a': 1.0, 'b': 4.0, 'c': 0.1}, BalancerConfig(True, 1.0, 0.9)
    averages = balancer.init((*weights, 'not_there_yet'))
    for step, expected in enumerate(published):
        gradients = {
            name: jnp.float32(
                10.0**i * np.random.RandomState(100 + 10 * step + i).standard_normal((3, 5)) / 3
            )
            for i, name in enumerate(weights)
        }
        found, averages, metrics = balancer.balance(
            averages, gradients, {**weights, 'not_there_yet': 9.0}, None
        )
        np.testing.assert_allclose(3 * found, expected, rtol=1e-5)
    assert averages['not_there_yet']['weight'] == 0 and {'a_factor', 'c_gradient_norm'} <= set(metrics)


def test_losses_without_a_gradient_are_balanced_too():
    balancer = BalancerConfig(True)
    gradients = {'a': jnp.zeros((2, 3)), 'b': jnp.ones((2, 3))}
    found = balancer.balance(balancer.init('ab'), gradients, {'a': 1.0, 'b': 1.0}, None)[0]
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1) * 2, 0.5, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('balanced', [False, True])
def test_the_step_is_the_gradient_of_the_whole(balanced):
    """Of the reconstruction, its spectrum, the discriminator's logits and features, weighed or balanced."""
    task = make_task(config_of(balancer__enabled=balanced), SPEC)
    data = sounds()
    state = initialised(task.init, jax.random.key(0), data)
    after, metrics = jax.jit(task.train_step)(state, data)
    x, discriminator = to_float(data['x']), state.discriminator

    def outputs(params):
        variables = {'params': params, **state.generator.variables}
        keys = dict.fromkeys(('codebook', 'latent'), state.generator.step_key())
        return task.model.apply(variables, x, train=True, mutable=['batch_means'], rngs=keys)[0]

    def losses(made):
        params = {'params': discriminator.params}
        fake, real = (task.adversary.discriminator.apply(params, sounds) for sounds in (made, x))
        return {
            'reconstruction_loss': mean_absolute(made, x),
            'stft_loss': STFT_DISTANCE(made, x, None),
            'adversarial': adversarial_losses.generator_loss('least_squares', fake.logits),
            'feature_matching': adversarial_losses.feature_matching(fake.features, real.features),
        }

    weights = {'reconstruction_loss': 1.0, 'stft_loss': 2.0, 'adversarial': 0.5, 'feature_matching': 3.0}
    made = jax.jit(outputs)(state.generator.params)[0]
    each = jax.jit(lambda made: {k: jax.grad(lambda m, k=k: jnp.sum(losses(m)[k]))(made) for k in weights})(
        made
    )
    factors = dict(weights)
    if balanced:
        norms = {k: jnp.mean(jnp.linalg.norm(g.reshape(4, -1), axis=1)) for k, g in each.items()}
        factors = {k: weights[k] / sum(weights.values()) / norms[k] for k in weights}
        np.testing.assert_allclose(metrics['stft_loss_factor'], factors['stft_loss'], rtol=1e-3)
        average = after.generator.variables[BALANCE]['adversarial']
        np.testing.assert_allclose(average['sum'], norms['adversarial'], rtol=1e-3)
    at_outputs = sum(factors[k] * each[k] for k in weights) / len(x)

    def total(params):
        made, quantized = outputs(params)
        return jnp.vdot(at_outputs, made) + jnp.mean(quantized.loss)

    expected = jax.jit(jax.grad(total))(state.generator.params)
    stepped = jax.tree.map(lambda old, new: old - new, state.generator.params, after.generator.params)
    # Of biases before a normalisation there is nothing but rounding, of gradients as large as others.
    rounding = 1e-5 * max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
    for a, b in zip(jax.tree.leaves(stepped), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3 * float(jnp.abs(b).max()) + rounding)
    assert {'feature_matching_loss', 'generator_loss', 'mel_loss'} - set(metrics) == {'mel_loss'}
    evaluated = jax.jit(task.eval_step)(after, data)
    assert {'snr', 'si_sdr', 'mel_distance', 'stft_distance'} <= set(evaluated)


@pytest.mark.slow
def test_devices_balance_as_one():
    """By steps over an axis, which `vmap` stands in for."""
    task = make_task(config_of(balancer__enabled=True), SPEC)
    data = sounds()
    state = initialised(task.init, jax.random.key(0), data)
    one, metrics = jax.jit(task.train_step)(state, data)
    parts = {name: value.reshape(2, 2, *value.shape[1:]) for name, value in data.items()}
    split = jax.vmap(functools.partial(task.train_step, axis_name='data'), (None, 0), 0, axis_name='data')
    two, others = jax.jit(split)(state, parts)
    for name in ('stft_loss_factor', 'adversarial_gradient_norm', 'feature_matching_loss', 'gradient_norm'):
        np.testing.assert_allclose(others[name], float(metrics[name]), rtol=1e-3)
    averages = (run.generator.variables[BALANCE]['adversarial']['sum'] for run in (one, two))
    np.testing.assert_allclose(*averages, rtol=1e-3)


def test_losses_are_chosen_by_name():
    config = config_of(spectral__mel='dac', spectral__mel_weight=7.0)
    task = make_task(config, SPEC)
    assert [(loss.name, loss.weight) for loss in task.losses] == [
        ('reconstruction_loss', 1.0), ('mel_loss', 7.0), ('stft_loss', 2.0)
    ]  # fmt: skip
    x, y = (to_float(sounds(1)['x']) * scale for scale in (1.0, 0.5))
    both = jax.jit(lambda x, y: (task.losses[1].difference(x, y, None), DAC_MEL(x, y, 8000)))
    found, expected = both(x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    'spec, changes, words',
    [
        (
            Spec('image', (8, 8, 1)),
            {},
            'discriminator=sound takes sounds and no classes, and examples are',
        ),
        (
            Spec('image', (8, 8, 1)),
            {'variant__discriminator': 'patches'},
            'spectral compares sounds, .* are images',
        ),
        (
            Spec('audio', (128, 1)),
            {'spectral__mel': 'dac'},
            'samples a second has, .*config.data.sample_rate',
        ),
        (SPEC, {'balancer__enabled': True, 'adversarial__adaptive': True}, 'set one of them to false'),
        (
            SPEC,
            {'sound_discriminator__stft_windows': (4096,)},
            'lower config.sound_discriminator.stft_windows',
        ),
        (SPEC, {'adversarial__loss': 'wasserstein'}, 'bounded; set config.adversarial.gradient_penalty=10'),
        (SPEC, {'balancer__decay': 1.0}, 'config.balancer.decay is 1'),
    ],
)
def test_what_does_not_go_together_is_told(spec, changes, words):
    with pytest.raises(UserError, match=words):
        make_task(config_of(**changes), spec)


def test_a_balance_needs_the_whole_batch():
    config = config_of(balancer__enabled=True)
    config.accumulate = 2
    with pytest.raises(
        UserError, match=r'config.accumulate is 2, but config.balancer.enabled=true depends on'
    ):
        make_task(config, SPEC)

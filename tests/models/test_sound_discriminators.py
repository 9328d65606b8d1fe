"""Discriminators of sound, beside the published code of codecs.

`tests/published_sound.json` has what that code gave in float64 (PyTorch 2.13.0, CPU) for the sounds and
weights of `normal`: logits, and the mean absolute value of each layer's features.

- period, bands, dac: `MPD`, `MRD` and `Discriminator` of descript-audio-codec 1.0.0, with a sixteenth of the
  channels, over the methods of `AudioSignal` of descript-audiotools 0.7.2; the losses and gradients are those
  of `GANLoss`.
- stft, encodec: `DiscriminatorSTFT` and `MultiScaleSTFTDiscriminator` of encodec 0.1.1, with two channels;
  the losses are those of audiocraft (commit 896ec7c), 'hinge' and `FeatureMatchingLoss`. torchaudio's
  `Spectrogram` was written out around `torch.stft`.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.models.sound_discriminators import SoundDiscriminator
from vq_jax.ops import adversarial_losses

PUBLISHED = json.loads((Path(__file__).parent.parent / 'published_sound.json').read_text())
PERIOD = [*(f'conv_{i}' for i in range(5)), 'last']
BANDS = [*(f'band_{i}_conv_{j}' for i in range(5) for j in range(5)), 'last']
STFT = [*(f'band_0_conv_{j}' for j in range(5)), 'last']


def normal(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape)


def sound(seed):
    return jnp.float32(0.1 * normal(seed, 2, 800, 1))


def made(discriminator, x):
    """A discriminator's parameters, those of each layer from seeds of its own."""
    params = jax.eval_shape(discriminator.init, jax.random.key(0), x)['params']
    orders = {'period': PERIOD, 'bands': BANDS, 'stft': STFT}

    def layer(n, shapes):
        return {
            'kernel': jnp.float32(normal(10 * n, *shapes['kernel'].shape)),
            'scale': jnp.float32(0.6 * np.exp(0.1 * normal(10 * n + 1, *shapes['scale'].shape))),
            'bias': jnp.float32(0.1 * normal(10 * n + 2, *shapes['bias'].shape)),
        }

    return {
        'params': {
            name: {one: layer(n, layers[one]) for n, one in enumerate(orders[name.partition('_')[0]])}
            for name, layers in params.items()
        }
    }


def compare(output, name):
    (logits,), published = output.logits, PUBLISHED[name]
    np.testing.assert_allclose(logits, published['logits'], atol=1e-5)
    features = [jnp.mean(jnp.abs(layer), (1, 2, 3)) for layer in output.features]
    np.testing.assert_allclose(features, published['features'], rtol=1e-4)


@pytest.mark.parametrize('name', ['period_7', 'bands_128', 'stft_64'])
def test_each_is_that_of_the_published_code(name):
    kind, _, size = name.partition('_')
    chosen = {'periods': (), 'band_windows': (), f'{kind}s' if kind == 'period' else kind: (int(size),)}
    names = {'bands': 'band_windows', 'stft': 'stft_windows'}
    chosen = {names.get(key, key): value for key, value in chosen.items()}
    model = SoundDiscriminator(**chosen, period_channels=2, spectrum_channels=2, normalise=False)
    compare(jax.jit(model.apply)(made(model, sound(7)), sound(7)), name)


@pytest.mark.slow
def test_losses_and_gradients_are_those_of_descript_audio_codec():
    """Its sums are over discriminators and layers, of which there are means here."""
    model, published = SoundDiscriminator((2, 3), 2, (128,), (), 2), PUBLISHED['dac']
    x, y = sound(7), sound(8)
    variables = made(model, x)
    n, layers = published['discriminators'], published['features']

    @jax.jit
    def losses(x):
        real, fake = (model.apply(variables, sounds) for sounds in (y, x))
        assert len(fake.logits) == n and len(fake.features) == layers
        learned = adversarial_losses.discriminator_loss('least_squares', real.logits, fake.logits)
        found = (
            adversarial_losses.generator_loss('least_squares', fake.logits),
            adversarial_losses.feature_matching(fake.features, real.features),
        )
        return tuple(jnp.mean(loss) for loss in found), jnp.mean(learned)

    (generator, features), pull, learned = jax.vjp(losses, x, has_aux=True)
    np.testing.assert_allclose(n * learned, published['discriminator_loss'], rtol=1e-5)
    np.testing.assert_allclose(n * generator, published['generator_loss'], rtol=1e-5)
    np.testing.assert_allclose(layers * features, published['feature_loss'], rtol=1e-5)
    for name, factor, at in (('generator', n, (1.0, 0.0)), ('feature', layers, (0.0, 1.0))):
        (gradient,) = pull(tuple(jnp.float32(one) for one in at))
        expected = np.array(published[f'{name}_gradient'])
        np.testing.assert_allclose(
            factor * gradient[:, ::40, 0], expected, atol=1e-4 * np.abs(expected).max()
        )


@pytest.mark.slow
def test_losses_are_those_of_encodec():
    model = SoundDiscriminator((), 2, (), (64, 128), 2, normalise=False)
    variables, published = made(model, sound(7)), PUBLISHED['encodec']
    fake, real = (jax.jit(model.apply)(variables, sound(seed)) for seed in (7, 8))
    found = {
        'generator_loss': adversarial_losses.generator_loss('hinge', fake.logits),
        'discriminator_loss': adversarial_losses.discriminator_loss('hinge', real.logits, fake.logits),
        'feature_loss': adversarial_losses.feature_matching(fake.features, real.features),
    }
    for name, loss in found.items():
        np.testing.assert_allclose(jnp.mean(loss), published[name], rtol=1e-5, atol=1e-6)


def test_published_sizes():
    """EnCodec's first convolutions are without weight normalisation there: 32 lengths each more here."""

    def count(model):
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4000, 1)))
        return sum(x.size for x in jax.tree.leaves(shapes))

    windows = (1024, 2048, 512, 256, 128)
    encodec = SoundDiscriminator((), band_windows=(), stft_windows=windows, normalise=False)
    assert count(SoundDiscriminator()) == PUBLISHED['parameters']['dac']
    assert count(encodec) == PUBLISHED['parameters']['encodec'] + 5 * 32


def test_gradients_of_silence_are_finite():
    """Of two channels, one of them silent, in half precision."""
    model = SoundDiscriminator((), 1, (), (32,), 1, dtype='bfloat16')
    x = jnp.zeros((1, 64, 2)).at[0, 20, 1].set(0.5)
    variables = made(model, x)

    def total(variables, x):
        return sum(jnp.sum(logits) for logits in model.apply(variables, x).logits)

    value, gradients = jax.jit(jax.value_and_grad(total, (0, 1)))(variables, x)
    assert value.dtype == jnp.float32
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_what_it_is_not_made_of():
    for given, words in (
        ({'periods': (0,)}, r'periods is \(0,\); give 1 or more'),
        ({'band_windows': (30,)}, r'band_windows is \(30,\); give multiples of 4, of 32 or more'),
        ({'periods': (), 'band_windows': ()}, 'are empty; give one of them numbers'),
    ):
        with pytest.raises(UserError, match=words):
            SoundDiscriminator(**given)
    with pytest.raises(UserError, match=r'takes \[b t c\], and was given 4 axes'):
        jax.eval_shape(SoundDiscriminator().init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))

"""SEANet's encoder and decoder beside the published networks of DAC and EnCodec, and chunk by chunk.

`seanet.json` has what `Encoder` and `Decoder` of descript-audio-codec 1.0.0 and `SEANetEncoder` and
`SEANetDecoder` of encodec 0.1.1 gave in float64 (PyTorch 2.13.0, CPU), rounded to 7 decimals:

- dac, dac_odd: `Encoder(4, strides, 6)` of `normal(7, 1, 9 * factor, 1)` and
  `Decoder(6, 24, strides[::-1])` of `normal(8, 1, 9, 6)`, with the strides [2, 4]; with [2, 5] and 24
  positions instead of the decoder's 9.
- encodec, encodec_zeros, encodec_both_sides: both with `dimension=6, n_filters=4, ratios=[5, 2]` and
  `causal=True`; with `pad_mode='constant'` too; with `causal=False`; of `normal(7, 1, 80, 1)` and
  `normal(8, 1, 8, 6)`.

Their parameters were those of `layer_parameters`, the number of a layer being its place among
`network.modules()`, with `gain` 0.4 for DAC; of the two biases of an LSTM the second was 0.3. 'parameters'
has how many those of the published sizes have, encoder and decoder.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.models.seanet import (
    LSTM,
    SEANetEncoder,
    SEANetSizes,
    Snake,
    TimeConv,
    TimeConvTranspose,
    seanet_decoder,
)
from vq_jax.models.streams import STREAM
from vq_jax.training.state import count_parameters

PUBLISHED = json.loads(Path(__file__).with_name('seanet.json').read_text())
DAC = SEANetSizes(
    channels=64,
    decoder_channels=96,
    features=1024,
    latent_kernel=3,
    dilations=(1, 3, 9),
    residual_kernel=7,
    compress=1,
    shortcut=False,
    activation='snake',
    lstm=0,
    tanh=True,
    causal=False,
)
SMALL_DAC = dataclasses.replace(DAC, channels=4, decoder_channels=6, features=6, strides=(2, 4))
SMALL = SEANetSizes(channels=4, features=6, strides=(2, 5))


def normal(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def layers(network, x):
    """Path, type and shapes of the parameters of each layer, in the order in which they are called."""
    called = {}

    def record(call, args, kwargs, context):
        if isinstance(context.module, TimeConv | TimeConvTranspose | Snake | LSTM):
            called[context.module.path] = type(context.module)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        shapes = jax.eval_shape(network.init, jax.random.key(0), x)['params']
    for path in called:
        of_layer = shapes
        for name in path:
            of_layer = of_layer[name]
        yield path, called[path], {name: value.shape for name, value in of_layer.items()}


def layer_parameters(number, kind, shapes, gain):
    if kind is Snake:
        return {'alpha': np.exp(0.3 * normal(10 * number, *shapes['alpha']))}
    if kind is LSTM:
        return {
            'kernel': 0.5 * normal(10 * number, *shapes['kernel']),
            'recurrent_kernel': 0.5 * normal(10 * number + 1, *shapes['recurrent_kernel']),
            'bias': 0.1 * normal(10 * number + 2, *shapes['bias']),
        }
    return {
        'kernel': normal(10 * number, *shapes['kernel']),
        'scale': gain * np.exp(0.1 * normal(10 * number + 1, *shapes['scale'])),
        'bias': 0.1 * normal(10 * number + 2, *shapes['bias']),
    }


def filled(network, x, gain=1.0):
    """The network as a function, with the parameters of the published ones."""
    params = {
        path: layer_parameters(number, kind, shapes, gain)
        for number, (path, kind, shapes) in enumerate(layers(network, x))
    }
    return lambda x: jax.jit(network.apply)({'params': unflatten_dict(params)}, x)[0]


OTHERS = (
    ('dac_odd', dataclasses.replace(SMALL_DAC, strides=(2, 5)), 0.4),
    ('encodec_zeros', SMALL, 1.0),
    ('encodec_both_sides', dataclasses.replace(SMALL, causal=False, padding='reflect'), 1.0),
)


@pytest.mark.parametrize(
    'name, sizes, gain',
    [
        ('dac', SMALL_DAC, 0.4),
        ('encodec', dataclasses.replace(SMALL, padding='reflect'), 1.0),
        *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS),
    ],
)
def test_published_networks(name, sizes, gain):
    frames = 9 if 'dac' in name else 8
    x, z = normal(7, 1, frames * sizes.factors[0], 1), normal(8, 1, 24 if 'odd' in name else frames, 6)
    encoder, decoder = SEANetEncoder(sizes, 6), seanet_decoder(sizes)
    np.testing.assert_allclose(filled(encoder, x, gain)(x), PUBLISHED[name]['encoder'], atol=1e-5)
    decoded, expected = filled(decoder, z, gain)(z), np.array(PUBLISHED[name]['decoder'])
    if 'odd' in name:  # theirs loses a sample at the end with an odd stride, which is seen from afar
        assert len(expected) == len(decoded) - 2
        decoded, expected = decoded[:60], expected[:60]
    np.testing.assert_allclose(decoded, expected, atol=1e-5)


@pytest.mark.parametrize(
    'name, sizes',
    [
        ('dac_16khz', DAC),
        ('dac_24khz', DAC),
        ('dac_44khz', dataclasses.replace(DAC, strides=(2, 4, 8, 8))),
        ('encodec_24khz', SEANetSizes()),
    ],
)
def test_published_numbers_of_parameters(name, sizes):
    encoder, decoder = SEANetEncoder(sizes, sizes.features), seanet_decoder(sizes)
    x, z = jnp.zeros((1, sizes.factors[0], 1)), jnp.zeros((1, 1, sizes.features))
    counts = [
        count_parameters(jax.eval_shape(network.init, jax.random.key(0), given))
        for network, given in ((encoder, x), (decoder, z))
    ]
    channels = [
        s * 2 ** len(sizes.strides) for s in (sizes.channels, sizes.decoder_channels or sizes.channels)
    ]
    twice = [sizes.lstm * 4 * c for c in channels]  # PyTorch adds two biases in a layer of an LSTM
    assert [count + more for count, more in zip(counts, twice, strict=True)] == PUBLISHED['parameters'][name]


@pytest.mark.parametrize(
    'sizes',
    [
        dataclasses.replace(SMALL, strides=(3,), lstm=1, dilations=(1, 3)),
        pytest.param(dataclasses.replace(SMALL_DAC, causal=True), marks=pytest.mark.slow),
    ],
)
def test_chunks_are_as_the_whole(sizes):
    """So that nothing depends on what comes later, either."""
    chunk = 2 * sizes.factors[0]
    network, x = nn.Sequential([SEANetEncoder(sizes, 6), seanet_decoder(sizes)]), normal(0, 2, 3 * chunk, 1)
    variables = initialised(network.init, jax.random.key(0), x)
    assert set(variables) == {'params'}

    def step(past, x):
        return network.apply({**variables, **past}, x, mutable=[STREAM])

    _, shapes = jax.eval_shape(step, {}, x[:, :chunk])
    past, parts = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes), []
    step = jax.jit(step)
    for start in range(0, 3 * chunk, chunk):
        part, past = step(past, x[:, start : start + chunk])
        parts.append(part)
    whole = jax.jit(network.apply)(variables, x)
    largest = np.abs(whole).max()
    assert largest > 1e-4
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5 * largest)


def test_impossible_sizes_are_a_mistake():
    for changes, words in (
        ({'strides': ()}, r'strides is \(\); give numbers from 1 to 32'),
        ({'strides': (2, 64)}, 'one for each stage'),
        ({'dilations': (0,)}, r'dilations is \(0,\)'),
        ({'compress': 64}, 'compress is 64, more than there are channels'),
    ):
        with pytest.raises(UserError, match=words):
            SEANetSizes(**changes)
    with pytest.raises(UserError, match=r'sounds \[b t c\], and this has 4 axes'):
        SEANetEncoder(SMALL, 6).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))

"""A neural codec of sound: from its config to codes and back, whole and in chunks."""

from pathlib import Path

import jax
import numpy as np
import pytest

import vq_jax
from tests.initialised import initialised
from vq_jax.run import Run
from vq_jax.spec import CodeSpec, Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.codec import FrozenRun
from vq_jax.tasks.restore import Restored
from vq_jax.training.state import abstract_batch

RATE = 8000
SPEC = Spec('audio', (80, 1), RATE)
SOUNDS = np.round(8000 * np.random.default_rng(0).normal(size=(2, 80, 1))).astype(np.int16)


def codec_config(**changes):
    config = default_config('vqgan')
    config.variant.backbone = 'seanet'
    config.seanet.channels, config.seanet.features, config.seanet.strides = 4, 8, (10,)
    config.seanet.lstm = 1
    config.quantizer.kind, config.residual.depth, config.quantizer.num_codes = 'residual', 3, 16
    config.quantizer.code_dim = 4
    config.discriminator.channels, config.discriminator.stages = 4, 1
    config.perceptual.kind = 'none'
    for name, value in changes.items():
        section, key = name.split('__')
        config[section][key] = value
    return config


def opened(spec=SPEC, **changes):
    """A run of the parameters that training begins with."""
    config = codec_config(**changes)
    task = make_task(config, spec)
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_batch(1, spec, {}))
    state = initialised(task.init, jax.random.key(0), batch)
    return Run(Restored(config, task, state, spec, 0, Path()))


def test_a_stream_is_as_the_whole():
    run = opened()
    whole = run.encode(SOUNDS)
    assert whole.shape == (2, 8, 3)
    stream = run.stream()
    assert (stream.hop, stream.latency, stream.latency_ms) == (10, 10, 1.25)
    codes = [stream.encode(SOUNDS[:, start : start + 20]) for start in range(0, 80, 20)]
    np.testing.assert_array_equal(np.concatenate(codes, 1), whole)
    sounds = np.concatenate([stream.decode(part, depths=2) for part in codes], 1)
    expected = np.asarray(run.decode(whole, depths=2))
    assert sounds.dtype == np.int16 and np.abs(sounds.astype(int) - expected).max() <= 1
    assert np.ptp(expected) > 20
    with pytest.raises(
        vq_jax.UserError, match=r'has 15 samples in 1 channel; give a multiple of 10, .* in 1\.'
    ):
        stream.encode(SOUNDS[:, :15])
    with pytest.raises(vq_jax.UserError, match='this chunk is of 1, and those before were of 2; begin'):
        stream.encode(SOUNDS[:1, :20])


def test_the_first_codes_of_a_position_are_a_codec_of_their_own():
    run = opened()
    codec = FrozenRun(run._restored, SPEC, depths=2)
    assert codec.written_spec == CodeSpec(((8,),), ((16,) * 3,))
    assert codec.code_spec == CodeSpec(((8,),), ((16,) * 2,))
    whole = run.encode(SOUNDS)
    (codes,) = codec.encode(codec.state(), SOUNDS)
    np.testing.assert_array_equal(codes, whole[..., :2])
    rows = np.asarray(whole).reshape(2, -1)
    np.testing.assert_array_equal(codec.code_spec.cut(codec.written_spec.split(rows))[0], codes)
    decoded = codec.decode(codec.state(), (codes,), np.zeros(2, int))
    np.testing.assert_array_equal(decoded, run.decode(whole, depths=2))


def test_what_cannot_be_streamed_or_is_no_sound():
    task = make_task(codec_config(seanet__causal=False), SPEC)
    run = Run(Restored(codec_config(), task, None, SPEC, 0, Path()))
    with pytest.raises(vq_jax.UserError, match=r'cannot be streamed; one .* config.seanet.causal is true'):
        run.stream()
    with pytest.raises(vq_jax.UserError, match='backbone is seanet, which is of sound, and these are images'):
        make_task(codec_config(), Spec('image', (8, 8, 3)))
    with pytest.raises(vq_jax.UserError, match=r'81 cannot be divided by 10 \(config.seanet.strides\)'):
        make_task(codec_config(), Spec('audio', (81, 1), RATE))


@pytest.mark.parametrize(
    'changes',
    [
        {'discriminator__stages': 2},
        {
            'variant__discriminator': 'sound',
            'sound_discriminator__periods': (),
            'sound_discriminator__band_windows': (),
            'sound_discriminator__stft_windows': (64,),
        },
    ],
)
def test_what_is_too_short_for_the_discriminator_is_encoded(changes):
    """A discriminator is asked by training, and not by what uses the codec."""
    run, short = opened(**changes), SOUNDS[:, :10]
    codes = run.encode(short)
    np.testing.assert_array_equal(codes, run.encode(SOUNDS)[:, :1])  # a causal network
    assert run.decode(codes).shape == short.shape
    run.task.check_spec(Spec('audio', (10, 1), RATE))  # as a prior over it does
    with pytest.raises(vq_jax.UserError, match='examples of 10 are too small for the discriminator; lower'):
        make_task(codec_config(**changes), Spec('audio', (10, 1), RATE))


@pytest.mark.slow
@pytest.mark.parametrize('bottleneck', ['residual', 'fsq', 'gaussian'])
def test_a_codec_learns(bottleneck):
    """With a discriminator, its own last kernel for the adaptive weight, and dropped depths."""
    config = codec_config(residual__dropout=0.5, seanet__activation='snake', optimizer__learning_rate=3e-3)
    if bottleneck == 'gaussian':
        config.variant.bottleneck = 'gaussian'
    else:
        config.quantizer.kind = bottleneck
    task = make_task(config, SPEC)
    t = np.arange(80) / RATE
    tones = np.sin(2 * np.pi * np.array([300, 500, 700, 900])[:, None] * t)
    batch = {'x': np.round(12_000 * tones[..., None]).astype(np.int16), 'label': np.zeros(4, np.int32)}
    state, step = initialised(task.init, jax.random.key(0), batch), jax.jit(task.train_step)
    losses = []
    for _ in range(60):
        state, metrics = step(state, batch)
        losses.append(float(metrics['reconstruction_loss']))
    assert losses[-1] < 0.8 * losses[0] and np.isfinite(metrics['adversarial_weight'])

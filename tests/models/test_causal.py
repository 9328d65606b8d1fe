"""Causal networks of video: beside plain convolutions, without later frames, as images, and in chunks."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from vq_jax.errors import UserError
from vq_jax.models.causal import CausalConv
from vq_jax.models.residual import Downsample, ResidualEncoder, ResidualSizes, Upsample, residual_decoder
from vq_jax.models.streams import STREAM

RNG = np.random.default_rng(0)
SIZES = ResidualSizes(4, (1, 1, 1), 0, (), 3, time_strides=(1, 2), temporal='causal', remat=True)
FRAMES, FIRST = 9, 3  # of a clip, and of the first chunk of a stream


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def parameters(module, x):
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    assert set(shapes) == {'params'}
    return jax.tree.map(lambda p: 0.5 * normal(*p.shape), shapes)


def after_copies(x, n):
    """Videos after so many copies of their first frame."""
    return np.pad(x, [(0, 0), (n, 0), *[(0, 0)] * 3], mode='edge')


@pytest.mark.parametrize('kernel, strides', [((3, 3, 3), (1, 1, 1)), ((4, 3, 1), (3, 2, 1))])
def test_a_convolution_sees_copies_before_the_first_frame(kernel, strides):
    x = normal(2, 7, 6, 5, 3)
    module = CausalConv(4, kernel, strides)
    variables = parameters(module, x)
    padding = [(0, 0), *jax.lax.padtype_to_pads(x.shape[2:4], kernel[1:], strides[1:], 'SAME')]
    plain = nn.Conv(4, kernel, strides, padding=padding)
    expected = plain.apply(variables, after_copies(x, kernel[0] - 1))
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-4)


@pytest.mark.parametrize('stride', [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_resolutions_change_as_published(stride):
    """Strided convolutions; and repeated frames, of which the first `stride - 1` are dropped."""
    x, strides = normal(2, 1 + 2 * stride, 4, 4, 3), (stride, 2, 2)
    down, size = Downsample(strides=strides, temporal='causal'), max(3, stride + 1)
    variables = parameters(down, x)
    plain = nn.Conv(3, (size, 3, 3), strides, padding=[(0, 0), (0, 1), (0, 1)])
    small = down.apply(variables, x)
    expected = plain.apply({'params': variables['params']['CausalConv_0']}, after_copies(x, size - 1))
    assert small.shape == (2, 3, 2, 2, 3)
    np.testing.assert_allclose(small, expected, atol=1e-4)

    up = Upsample(strides=strides, temporal='causal')
    variables = parameters(up, small)
    repeated = np.asarray(small)
    for axis, times in enumerate(strides, 1):
        repeated = repeated.repeat(times, axis)
    plain = nn.Conv(3, (3, 3, 3), padding=[(0, 0), (1, 1), (1, 1)])
    expected = plain.apply(variables, after_copies(repeated[:, stride - 1 :], 2))
    assert expected.shape == x.shape
    np.testing.assert_allclose(up.apply(variables, small), expected, atol=1e-4)


@pytest.fixture(scope='module')
def network():
    """Encoder and decoder as one, a clip, and what becomes of it."""
    module, x = (
        nn.Sequential([ResidualEncoder(SIZES, 3), residual_decoder(SIZES, 3)]),
        normal(2, FRAMES, 8, 8, 3),
    )
    variables = parameters(module, x)
    apply = jax.jit(module.apply)
    return module, variables, apply, x, apply(variables, x)


def test_nothing_is_seen_of_later_frames(network):
    _, variables, apply, x, whole = network
    for frame in (1, 4, FRAMES - 1):
        changed = x.copy()
        changed[:, frame:] += normal(*changed[:, frame:].shape)
        found = apply(variables, changed)
        # A position of codes stands for two frames, of which it sees both.
        known = frame - (frame + 1) % 2
        np.testing.assert_array_equal(found[:, :known], whole[:, :known])
        assert (found[:, frame] != whole[:, frame]).any(axis=(1, 2, 3)).all()


def test_an_image_is_a_clip_of_one_frame(network):
    _, variables, _, x, whole = network
    encode = jax.jit(ResidualEncoder(SIZES, 3).apply)
    own = {'params': variables['params']['layers_0']}
    clip, image = encode(own, x), encode(own, x[:, :1])
    assert clip.shape == (2, 5, 2, 2, 3) and image.shape == (2, 1, 2, 2, 3)
    np.testing.assert_allclose(image, clip[:, :1], atol=1e-5 * np.abs(clip).max())
    decode = jax.jit(residual_decoder(SIZES, 3).apply)
    decoded = decode({'params': variables['params']['layers_1']}, image)
    np.testing.assert_allclose(decoded, whole[:, :1], atol=1e-5 * np.abs(whole).max())


def test_chunks_are_as_the_whole(network):
    module, variables, _, x, whole = network
    step = jax.jit(lambda past, x: module.apply({**variables, **past}, x, mutable=[STREAM]))
    past, parts = {}, []
    for start, end in ((0, FIRST), *((i, i + 2) for i in range(FIRST, FRAMES, 2))):
        part, past = step(past, x[:, start:end])
        parts.append(part)
        kept = sum(p.size for p in jax.tree.leaves(past))
    assert kept == sum(
        p.size for p in jax.tree.leaves(step({}, x[:, :FIRST])[1])
    )  # however long the video is
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-5 * np.abs(whole).max())


def test_frames_by_themselves_are_images():
    """A network without time is that of images with the same parameters."""
    sizes = ResidualSizes(4, (1, 2), 1, (), 3)
    alone = dataclasses.replace(sizes, strides=(1, 2, 2), temporal='none')
    x = normal(2, 3, 8, 8, 3)
    for images, frames, given in (
        (ResidualEncoder(sizes, 3), ResidualEncoder(alone, 3), x),
        (residual_decoder(sizes, 3), residual_decoder(alone, 3), x),
    ):
        variables = parameters(images, given[:, 0])
        shapes = jax.eval_shape(frames.init, jax.random.key(0), given)
        inflated = jax.tree.map(lambda p, like: p.reshape(like.shape), variables, shapes)
        expected = jax.jit(images.apply)(variables, given.reshape(6, 8, 8, 3))
        found = jax.jit(frames.apply)(inflated, given)
        np.testing.assert_allclose(
            found.reshape(expected.shape), expected, atol=1e-4 * np.abs(expected).max()
        )


def test_impossible_strides_are_a_mistake():
    for strides, words in (
        ((2,), r'time_strides is \(2,\), and multipliers \(1, 1, 1\) have 2 resolutions below the finest'),
        ((2, 0), r'time_strides is \(2, 0\); give numbers from 1 to 16'),
    ):
        with pytest.raises(UserError, match=words):
            dataclasses.replace(SIZES, time_strides=strides)
    assert SIZES.factors == (2, 4, 4)

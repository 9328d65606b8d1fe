"""Axial attention in the encoder and decoder of the VQ-VAE, beside VideoGPT's, and what each position sees.

`videogpt.json` has what `Encoder(16, 1, (4, 4, 4))` and `Decoder(16, 1, (4, 4, 4))` of github.com/wilson1yan/
VideoGPT at commit 733d2b1 gave in float64 (PyTorch 2.13.0, CPU), rounded to 6 decimals, of the inputs and
parameters of `NETWORKS` and `filled`; of the decoder's outputs every third one along each axis. In the place
of `BatchNorm3d(c)` was `GroupNorm(c // 4, c, eps=1e-6)`; a `SamePadConv3d(16, 6, 1)` came after the encoder,
and before the decoder a `SamePadConv3d(6, 16, 3)`, of size 1 in VideoGPT.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from vq_jax.errors import UserError
from vq_jax.models.attention import AxialAttention
from vq_jax.models.strided import StridedEncoder, StridedSizes, strided_decoder

PUBLISHED = json.loads(Path(__file__).with_name('videogpt.json').read_text())
SIZES = StridedSizes(channels=16, stages=2, residual_blocks=1, residual_channels=8, axial_heads=2)


def normal(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


NETWORKS = {
    'encoder': (StridedEncoder(SIZES, 6), normal(1, 1, 8, 8, 12, 3)),
    'decoder': (strided_decoder(SIZES), normal(2, 1, 2, 2, 3, 6)),
}


def filled(network, x):
    """Random parameters, each with a seed of its own, in the order of their paths."""
    shapes = flatten_dict(jax.eval_shape(network.init, jax.random.key(0), x)['params'])
    params = {}
    for seed, (path, of) in enumerate(sorted(shapes.items())):
        values = normal(10 + seed, *of.shape)
        if path[-1] == 'kernel':
            values = values / np.sqrt(np.prod(of.shape[:-1]))
        params[path] = 1 + 0.3 * values if path[-1] == 'scale' else values
    return {'params': unflatten_dict(params)}


@pytest.mark.parametrize('name', NETWORKS)
def test_axial_blocks_are_those_of_videogpt(name):
    network, x = NETWORKS[name]
    found = jax.jit(network.apply)(filled(network, x), x)
    if name == 'decoder':
        found = found[:, ::3, ::3, ::3]
    np.testing.assert_allclose(found, PUBLISHED[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('grid', [(5,), (2, 3)])
def test_a_position_sees_those_that_are_elsewhere_along_one_axis(grid):
    layer, x, number = AxialAttention(heads=2), normal(3, 1, *grid, 4), int(np.prod(grid))
    others = np.repeat(x, number, 0)
    others.reshape(number, number, 4)[np.arange(number), np.arange(number)] += 1  # one position in each
    seen = jax.jit(layer.apply)(filled(layer, x), np.concatenate([x, others]))
    moved = np.abs(seen[1:] - seen[0]).max(-1).reshape(number, number) > 1e-6
    places = np.stack(np.unravel_index(np.arange(number), grid), -1)
    np.testing.assert_array_equal(moved, np.sum(places[:, None] != places, axis=-1) <= 1)


def test_heads_divide_the_channels():
    with pytest.raises(UserError, match='axial_heads is 3 and channels 32; give heads that divide'):
        StridedSizes(channels=32, axial_heads=3)

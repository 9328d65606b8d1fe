"""Quantizers are told the number of the training step, whatever model they are in."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from tests.autoencoders import vqgan, vqvae, vqvae2
from vq_jax.models.residual import ResidualSizes
from vq_jax.quantizers.quantizer import Quantized


class Told(nn.Module):
    """Passes its input on, and says which step it was told of."""

    dim: int = 8

    def __call__(self, z, train=False, part=None, step=None):
        told = jnp.float32(-1 if step is None else step)
        return Quantized(values=z, codes=z[..., :1], loss=jnp.zeros(len(z)), metrics={'told': told})


SIZES = ResidualSizes(channels=8, multipliers=(1,), residual_blocks=1, attention_resolutions=(), features=8)


@pytest.mark.parametrize(
    'model, names',
    [
        (vqvae(Told(), channels=8, stages=1, residual_blocks=0), {'told'}),
        (vqvae2(Told(), Told(), channels=8, stages=1, residual_blocks=0), {'told_scale_0', 'told_scale_1'}),
        (vqgan(Told(), SIZES), {'told'}),
    ],
    ids=['vqvae', 'vqvae2', 'vqgan'],
)
def test_every_quantizer_is_told_the_step(model, names):
    images = jnp.zeros((1, 16, 16, 3))

    def told(**training):
        _, quantized = model.init_with_output(jax.random.key(0), images, **training)[0]
        return {name: float(step) for name, step in quantized.metrics.items()}

    assert told(train=True, step=jnp.int32(7)) == dict.fromkeys(names, 7)
    assert told() == dict.fromkeys(names, -1)

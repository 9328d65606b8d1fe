import jax
import jax.numpy as jnp
import pytest

from vq_jax.errors import UserError
from vq_jax.training.flops import count_flops


def test_a_product():
    shape = jax.ShapeDtypeStruct((4, 8), jnp.float32)
    assert count_flops(lambda x, y: x @ y.T, shape, jnp.ones((16, 8))) == 2 * 4 * 8 * 16


def test_without_cpus(monkeypatch):
    def devices(backend):
        raise RuntimeError(f'Unknown backend {backend}')

    monkeypatch.setattr(jax, 'devices', devices)
    with pytest.raises(UserError, match='add cpu to JAX_PLATFORMS'):
        count_flops(jnp.sin, jnp.ones(3))

"""Prints how a state lies on eight devices, for some numbers of replicas, and what each has of a batch."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.ops.sharding import per_device, split_batch
from vq_jax.spec import Spec
from vq_jax.training.parallel import ParallelConfig, make_engine
from vq_jax.training.state import init_state

SPEC = Spec('image', (4, 4, 1))


def init(key, batch):
    return {'kernel': jax.random.normal(key, (256, 512)), 'bias': jnp.zeros(512), 'key': key}


def shapes_of(config):
    """The shapes that each device has of the kernel, before and after a step, and of what a step computes.

    The last are those that a Fourier transform is given: of the batch, and of seven of its examples.
    """
    engine, seen, local = make_engine(config, 8), [], set()

    def fourier(x):
        local.add(x.shape)
        return jnp.fft.rfft(x).real

    def step(state, batch, axis_name=None):
        hidden = split_batch(batch['x'] @ state['kernel'] + state['bias'])
        jax.debug.inspect_array_sharding(hidden, callback=lambda x: seen.append(x.shard_shape((8, 512))))
        changed = {**state, 'kernel': state['kernel'] + 1}
        slope = jax.grad(lambda x: jnp.sum(jnp.square(per_device(fourier, x))))(hidden)
        assert per_device(fourier, hidden[:7]).shape == (7, 257)
        return changed, {'loss': jnp.mean(hidden), 'slope': jnp.mean(slope)}

    state = engine.init_state(init, jax.random.key(0), SPEC)
    on_one = init_state(init, jax.random.key(0), SPEC)
    np.testing.assert_array_max_ulp(np.asarray(state['kernel']), np.asarray(on_one['kernel']), 4)
    batch = engine.put_batch({'x': np.ones((8, 256), np.float32)})
    after, metrics = engine.train_step(step)(jax.tree.map(jnp.copy, state), batch)
    whole = jnp.ones((8, 256)) @ on_one['kernel'] + on_one['bias']
    expected = jax.grad(lambda x: jnp.sum(jnp.square(jnp.fft.rfft(x).real)))(whole)
    np.testing.assert_allclose(metrics['slope'], jnp.mean(expected), rtol=1e-3)
    shards = [x['kernel'].addressable_shards[0].data for x in (state, after)]
    assert all(x.nbytes == x.size * 4 for x in shards)
    assert after['bias'].sharding.is_fully_replicated
    return [list(x.shape) for x in shards], [list(shape) for shape in seen], sorted(local)


if __name__ == '__main__':
    configs = [ParallelConfig('jit', True), ParallelConfig('jit', True, 2), ParallelConfig('jit')]
    print(json.dumps([shapes_of(config) for config in configs]))

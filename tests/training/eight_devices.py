"""Prints how a state lies on eight devices, for some numbers of replicas, and what each has of a batch."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.ops.sharding import split_batch
from vq_jax.spec import Spec
from vq_jax.training.parallel import ParallelConfig, make_engine
from vq_jax.training.state import init_state

SPEC = Spec('image', (4, 4, 1))


def init(key, batch):
    return {'kernel': jax.random.normal(key, (256, 512)), 'bias': jnp.zeros(512), 'key': key}


def shapes_of(config):
    """The shapes that each device has of the kernel, before and after a step, and of what a step computes."""
    engine, seen = make_engine(config, 8), []

    def step(state, batch, axis_name=None):
        hidden = split_batch(batch['x'] @ state['kernel'] + state['bias'])
        jax.debug.inspect_array_sharding(hidden, callback=lambda x: seen.append(x.shard_shape((8, 512))))
        changed = {**state, 'kernel': state['kernel'] + 1}
        return changed, {'loss': jnp.mean(hidden)}

    state = engine.init_state(init, jax.random.key(0), SPEC)
    on_one = init_state(init, jax.random.key(0), SPEC)
    np.testing.assert_array_max_ulp(np.asarray(state['kernel']), np.asarray(on_one['kernel']), 4)
    batch = engine.put_batch({'x': np.ones((8, 256), np.float32)})
    after, _ = engine.train_step(step)(jax.tree.map(jnp.copy, state), batch)
    shards = [x['kernel'].addressable_shards[0].data for x in (state, after)]
    assert all(x.nbytes == x.size * 4 for x in shards)
    assert after['bias'].sharding.is_fully_replicated
    return [list(x.shape) for x in shards], [list(shape) for shape in seen]


if __name__ == '__main__':
    configs = [ParallelConfig('jit', True), ParallelConfig('jit', True, 2), ParallelConfig('jit')]
    print(json.dumps([shapes_of(config) for config in configs]))

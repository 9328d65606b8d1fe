"""How states lie on devices, and what is said when a device cannot hold them."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import run
from vq_jax.errors import UserError
from vq_jax.ops.barrier import cpu_barrier
from vq_jax.ops.sharding import split_batch
from vq_jax.spec import Spec
from vq_jax.training import parallel
from vq_jax.training.parallel import JitEngine, ParallelConfig, PmapEngine, make_engine


def test_states_and_batches_are_split_over_eight_devices():
    """With one replica of the state, two, and one on each device; without `split_batch` columns are split."""
    found = json.loads(run([], module='tests.training.eight_devices', devices=8)[0])
    for (before, after), hidden, given in found:
        assert before == after
        assert hidden == [[1, 512]] and given == [[1, 512], [7, 512]]
    assert [before for (before, _), *_ in found] == [[256, 64], [256, 128], [256, 512]]


def test_outside_of_a_mesh_a_batch_is_left_as_it_is():
    x = jnp.ones((4, 2))
    assert split_batch(x) is x
    assert 'sharding_constraint' not in str(jax.make_jaxpr(jax.pmap(split_batch))(x[None]))


def init(key, batch):
    """2^20 numbers, 4 MiB."""
    return {'kernel': jnp.zeros((2**10, 2**10))}


@pytest.mark.parametrize('engine', [JitEngine, PmapEngine])
def test_a_state_is_traced_once(engine):
    """Tracing is much of the time that a run takes to start."""
    keys = []

    def counted(key, batch):
        keys.append(key)
        return init(key, batch)

    engine().init_state(counted, jax.random.key(0), Spec('image', (4, 4, 1)))
    assert len(keys) == 1


@pytest.mark.parametrize('mib, says', [(None, ''), (8, ''), (6, 'shard_parameters=true'), (3, 'error')])
def test_pmap_says_when_a_state_is_too_large_for_a_device(mib, says, monkeypatch, caplog):
    monkeypatch.setattr(parallel, 'device_memory', lambda: mib and mib * 2**20)
    arguments = init, jax.random.key(0), Spec('image', (2, 2, 1))
    if says == 'error':
        with pytest.raises(UserError, match=r'engine=jit and config\.parallel\.shard_parameters=true'):
            PmapEngine().init_state(*arguments)
        with pytest.raises(UserError, match='use more devices'):
            make_engine(ParallelConfig('jit', True), 1).init_state(*arguments)
        return
    state = PmapEngine().init_state(*arguments)
    np.testing.assert_array_equal(state['kernel'], 0)
    assert says in caplog.text and bool(caplog.text) == bool(says)


@pytest.mark.parametrize(
    'config, says',
    [
        (ParallelConfig('pmap', True), 'needs config.parallel.engine=jit'),
        (ParallelConfig('jit', False, 2), 'means nothing without config.parallel.shard_parameters=true'),
        (ParallelConfig('jit', True, 3), 'does not divide 1 devices'),
    ],
)
def test_keys_that_contradict_each_other_are_refused(config, says):
    with pytest.raises(UserError, match=says):
        make_engine(config, 4)


def test_what_a_barrier_returns_is_computed_once_in_a_training_step():
    """Else loops that read it compute it again, each for itself."""

    def step(state, batch, axis_name):
        (x,) = cpu_barrier(batch['x'] + state)
        return state + jnp.sum(x.T * 3), {'rows': jnp.sum(x + 1)}

    engine = make_engine(ParallelConfig(), 8, jax.devices()[:1])
    arguments = engine.abstract(jnp.zeros(()), {'x': jnp.zeros((8, 4))})
    compiled = engine.lower_train_step(step, *arguments).compile()
    state, metrics = compiled(*jax.tree.map(lambda x: jnp.ones(x.shape), arguments))
    assert (float(state), float(metrics['rows'])) == (193.0, 96.0)
    fused = re.findall(r'(\S+) = f32\[8,4\]\S* (?:fusion|add)\(', compiled.as_text().split('ENTRY')[1])
    assert len(fused) == 1, compiled.as_text()

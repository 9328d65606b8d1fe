"""Compares priors in each order of codes of several depths, as one device and eight train and sample them."""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np

from tests.initialised import initialised
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.training.parallel import JitEngine, PmapEngine

SPEC = Spec('image', (2, 2, 3))  # four positions of three codes
STEPS = 3


def task_of(pattern):
    """A prior with dropout, and with classes of which some are hidden, that learns by plain descent."""
    config = default_config('prior')
    config.batch_size = 16
    config.tokenizer.levels = 4
    config.model.pattern, config.model.class_conditional = pattern, True
    for section in (config.transformer, config.depth_transformer):
        section.update({'depth': 1, 'width': 8, 'heads': 2, 'dropout': 0.3})
    config.optimizer.update({'name': 'sgd', 'learning_rate': 0.1, 'schedule': 'constant', 'warmup_steps': 0})
    return make_task(config, SPEC, num_classes=2)


def learned(task, state, engine):
    """The parameters before and after some steps, and the metrics of each step."""
    rng, step = np.random.default_rng(0), engine.train_step(task.train_step)
    state, metrics = engine.put_state(jax.tree.map(jnp.copy, state)), []
    for _ in range(STEPS):
        images = rng.integers(0, 256, (16, *SPEC.shape)).astype(np.uint8)
        labels = rng.integers(0, 2, 16).astype(np.int32)
        batch = {'x': images, 'label': labels, 'mask': np.ones(16, bool)}
        state, found = step(state, engine.put_batch(batch))
        metrics.append(jax.device_get(found))
    return jax.device_get(state.params), metrics


def sampled(task, state, engine):
    """Images of sixteen random keys, guided."""

    def sample(state, batch):
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(1), i))(batch['number'])
        return task.sample(state, keys, batch['label'])

    batch = {'number': np.arange(16), 'label': np.arange(16, dtype=np.int32) % 2}
    return engine.per_example(sample)(engine.put_state(state), batch)


def compare(pattern):
    """Raises `AssertionError` where the devices make another difference than the order of sums."""
    task, batch = task_of(pattern), {'x': np.zeros((1, *SPEC.shape), np.uint8)}
    state = initialised(task.init, jax.random.key(0), batch).replace(frozen=task.pretrained())
    one, eight = jax.devices()[:1], jax.devices()
    assert len(eight) == 8
    params, metrics = learned(task, state, PmapEngine(one))
    for engine in (PmapEngine(eight), JitEngine(devices=eight)):
        others, found = learned(task, state, engine)
        for a, b in zip(metrics, found, strict=True):
            jax.tree.map(lambda x, y: np.testing.assert_allclose(y, x, rtol=1e-3, atol=1e-5), a, b)

        def check(before, alone, together):
            changed = np.abs(alone - before).max()
            np.testing.assert_allclose(together, alone, rtol=0, atol=1e-3 * changed + 1e-7)

        jax.tree.map(check, jax.device_get(state.params), params, others)
        np.testing.assert_array_equal(sampled(task, state, engine), sampled(task, state, PmapEngine(one)))


if __name__ == '__main__':
    os.environ.setdefault('NPROC', '64')  # threads, as commands have them (see `vq_jax.cli`)
    for pattern in sys.argv[1:]:
        compare(pattern)
        print(pattern)

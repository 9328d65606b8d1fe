"""Run directories as training leaves them, without training."""

import numpy as np

from vq_jax.media import Animation, Sheet, Sound, Texts
from vq_jax.spec import Spec
from vq_jax.training.run_dir import DataFacts, write_config, write_data_facts
from vq_jax.training.writers import MetricWriter

RATE = 8000
CONFIG = {
    'task': 'vqvae',
    'steps': 40,
    'best_metric': 'loss',
    'best_mode': 'min',
    'data': {'name': 'digits'},
    'quantizer': {'num_codes': 16, 'sizes': [1, 2]},
}


def image(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 12, 3), np.uint8)


def sound(seed):
    return np.random.default_rng(seed).integers(-(2**15), 2**15, (100, 1), np.int16)


def record(workdir, log=(), images=(), sounds=(), warnings=(), animations=(), texts=(), **config):
    """Writes a run.

    `log` has (step, split, numbers), `images` (step, name, image), `sounds` (step, name, recording, or a
    `Sound`), `warnings` (step, text), `animations` (step, name, frames), `texts` (step, name, text).
    """
    writer = MetricWriter(workdir, resume_step=0)
    for step, split, numbers in log:
        writer.scalars(step, split, numbers)
    for step, name, image in images:
        writer.media(step, name, Sheet(image))
    for step, name, sound in sounds:
        writer.media(step, name, sound if isinstance(sound, Sound) else Sound(sound[None], RATE))
    for step, name, frames in animations:
        writer.media(step, name, Animation(tuple(map(Sheet, frames))))
    for step, name, text in texts:
        writer.media(step, name, Texts((('samples', (text,)),)))
    for step, text in warnings:
        writer.warning(step, text)
    writer.close()
    write_data_facts(workdir, DataFacts(Spec('image', (8, 8, 1)), 10, {}))
    write_config(workdir, CONFIG | config)
    return workdir


def trained(workdir, *, factor=1.0, **config):
    """A run of 40 steps: 8 lines of training, evaluations at 20 and 40 of which the first is the best."""
    log = []
    for step in range(5, 41, 5):
        log.append((step, 'train', {'loss': factor / step, 'rate': 0.1 + 0.2}))
        log.append((step, 'speed', {'examples_per_second': 100.0 + step}))
        if step % 20 == 0:
            log.append((step, 'eval', {'loss': factor * step / 100, 'psnr': 20.0 + step, 'examples': 359}))
    images = [(s, n, image(s)) for s in (20, 40) for n in ('reconstructions', 'code_usage')]
    return record(workdir, log, images, **config)

"""A class-conditional transformer over the 6x6 codes of the quickstart's VQ-VAE.

    make train

trains `quickstart.py`, then this, and makes four samples of each letter and digit.

Results: 78.43 nats for the 36 codes of a test image, 3.143 bits per code; most samples are of the requested
class, and nearly all in one pair of colours. It took 148 seconds on two cores of a shared x86-64 machine
under much other load (jax 0.10.2), 167 seconds of processor time; all of `make train`, without the
installation, 248 and 264.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small enough for a laptop's CPU."""
    config = default_config('prior')
    config.steps = 1000
    config.batch_size = 32
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'glyphs'
    config.data.image_size = 24
    config.data.channels = 3
    config.tokenizer.workdir = 'runs/quickstart'
    config.model.class_conditional = True
    config.model.label_dropout = 0.0  # samples need no guidance
    config.transformer.depth = 3
    config.transformer.width = 96
    config.transformer.heads = 4
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 50
    config.optimizer.ema_decay = 0.99
    config.sampling.temperature = 0.5
    return config

"""x"""
from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """x."""
    config = default_config('vae')
    config.steps = 3000
    config.batch_size = 100
    config.eval_every = 3000
    config.checkpoint_every = 3000
    config.data.name = 'mnist'
    config.data.channels = 1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    return config

"""A VQ-VAE on scikit-learn's digits, 8x8 grey images to 4x4 codes, which tests train in seconds."""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    config = default_config('vqvae')
    config.steps = 1500
    config.batch_size = 64
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'digits'
    config.data.image_size = 8
    config.data.channels = 1
    config.model.channels = 64
    config.model.stages = 1
    config.quantizer.num_codes = 64
    config.quantizer.dim = 16
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    return config

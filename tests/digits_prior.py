"""A class-conditional transformer over the codes of `digits.py`."""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    config = default_config('prior')
    config.steps = 700
    config.batch_size = 64
    config.eval_every = 350
    config.checkpoint_every = 350
    config.data.name = 'digits'
    config.data.image_size = 8
    config.data.channels = 1
    config.tokenizer.workdir = 'runs/digits'
    config.model.class_conditional = True
    config.transformer.depth = 3
    config.transformer.width = 96
    config.transformer.heads = 4
    config.transformer.dropout = 0.2
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 50
    config.optimizer.ema_decay = 0.995
    return config

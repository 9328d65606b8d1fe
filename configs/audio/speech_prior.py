"""A class-conditional transformer over the 64 codes of a spoken digit.

    python -m vq_jax.train --config configs/audio/vqvae_speech.py --workdir runs/vqvae_speech
    python -m vq_jax.train --config configs/audio/speech_prior.py --workdir runs/speech_prior

Not run to its end yet. Stopped after 112 steps of a run of 800 (`--config.steps=800`), it had 4.77 bits per
code on the last tenth of the data, and its samples were bursts of noise with pauses.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small enough for a laptop's CPU."""
    config = default_config('prior')
    config.steps = 2_000
    config.batch_size = 32
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'spoken_digit'
    config.data.train_split = 'train[:90%]'
    config.data.eval_split = 'train[90%:]'
    config.data.num_samples = 4096
    config.tokenizer.workdir = 'runs/vqvae_speech'
    config.model.class_conditional = True
    config.transformer.depth = 4
    config.transformer.width = 128
    config.transformer.heads = 4
    config.transformer.dropout = 0.2
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    config.optimizer.ema_decay = 0.995
    return config

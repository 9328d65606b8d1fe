"""A dual encoder of emoji and their names, by which models of emoji from text are measured.

It tells how often the name that an image was made of is found among 100 (docs/text.md).

    python -m vq_jax.train --config configs/text/emoji_retrieval.py --workdir runs/emoji_retrieval
    python -m vq_jax.evaluate --workdir runs/emoji_prior --retrieval runs/emoji_retrieval

Seen on a core of a shared x86-64 machine under other load (Python 3.11, jax 0.10.2), in 24 minutes: for
32.7% of the 398 emoji of the test set the right name is the nearest of those of its batch, 64, many of
which differ in a skin tone alone. The loss is least after 500 steps, 3.53, and 4.41 in the end.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Sizes for two cores of a CPU."""
    config = default_config('dual_encoder')
    config.steps = 1_500
    config.batch_size = 64
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'emoji'
    config.data.caption_length = 96
    config.data.image_size = 32
    config.data.channels = 3
    config.model.channels = 16
    config.model.stages = 3
    config.model.features = 128
    config.text_encoder.depth = 2
    config.text_encoder.width = 128
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    return config

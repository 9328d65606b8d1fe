"""A transformer over the names of emoji, given one of their ten categories: short texts, each an example.

    python -m vq_jax.train --config configs/text/emoji_names.py --workdir runs/emoji_names
    python -m vq_jax.sample --workdir runs/emoji_names --num 20 --output names.txt

`emoji` is no set of tensorflow-datasets' catalogue: any prepared set with a text and a class does, by
`--config.data.name=NAME --config.data.text_key=KEY`.

Not run to its end yet.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Small enough for a laptop's CPU."""
    config = default_config('prior')
    config.steps = 1_000
    config.batch_size = 32
    config.eval_every = 200
    config.checkpoint_every = 200
    config.data.name = 'emoji'
    config.data.num_tokens = 64
    config.model.class_conditional = True
    config.transformer.depth = 4
    config.transformer.width = 128
    config.transformer.heads = 4
    config.transformer.dropout = 0.2
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    return config

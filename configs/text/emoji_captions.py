"""Names of emoji from their images: a transformer over bytes that attends to the codes of a frozen tokenizer.

    python -m vq_jax.train --config configs/text/emoji_tokenizer.py --workdir runs/emoji_tokenizer
    python -m vq_jax.train --config configs/text/emoji_captions.py --workdir runs/emoji_captions
    python -m vq_jax.describe --workdir runs/emoji_captions --input my_emoji --output my_emoji/captions.jsonl

It is `emoji_prior.py` the other way. No name of the test set is in the training set, so that evaluation asks
for names that were never read.

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Sizes for two cores of a CPU; the likeliest byte is taken, one after the other."""
    config = default_config('captioner')
    config.steps = 3_000
    config.batch_size = 32
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'emoji'
    config.data.caption_length = 96
    config.data.image_size = 32
    config.data.channels = 3
    config.tokenizer.workdir = 'runs/emoji_tokenizer'
    config.code_encoder.depth = 3
    config.code_encoder.width = 128
    config.transformer.depth = 4
    config.transformer.width = 128
    config.transformer.heads = 4
    config.transformer.dropout = 0.2
    config.sampling.temperature = 0.0
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 100
    config.optimizer.ema_decay = 0.998
    return config

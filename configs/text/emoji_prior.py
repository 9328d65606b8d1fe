"""Emoji from their names, by a prior over codes: `configs/text/emoji_prior.py:transformer` or `:masked`.

    python -m vq_jax.train --config configs/text/emoji_tokenizer.py --workdir runs/emoji_tokenizer
    python -m vq_jax.train --config configs/text/emoji_prior.py:masked --workdir runs/emoji_prior
    python -m vq_jax.sample --workdir runs/emoji_prior --num 8 --text "red apple" --text "grinning face" \
        --output samples.png

| variant | network | sampled |
| --- | --- | --- |
| transformer | codes one after the other | in 64 steps, with a cache |
| masked | masked codes from all others, as in Muse (Chang et al. 2023, arXiv:2301.00704) | in 12 steps |

The names are read byte by byte by a text encoder that learns with the prior, whose blocks attend to its
tokens. No name of the test set is in the training set.

Not run.
"""

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import default_config

KINDS = {'transformer': 'transformer', 'masked': 'maskgit'}


def get_config(variant: str = 'transformer') -> ConfigDict:
    """Sizes for two cores of a CPU; a tenth of the names is dropped, for guidance."""
    if variant not in KINDS:
        raise UserError(f'emoji_prior.py:{variant} is not there; choose one of {", ".join(KINDS)}.')
    config = default_config('prior', conditioner='text')
    config.steps = 2_000
    config.batch_size = 32
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'emoji'
    config.data.caption_length = 96
    config.data.image_size = 32
    config.data.channels = 3
    config.tokenizer.workdir = 'runs/emoji_tokenizer'
    config.model.kind = KINDS[variant]
    config.text_encoder.depth = 3
    config.text_encoder.width = 128
    config.transformer.depth = 4
    config.transformer.width = 192
    config.transformer.heads = 4
    config.transformer.dropout = 0.1
    config.sampling.guidance = 3.0
    config.sampling.steps = 12
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 200
    config.optimizer.ema_decay = 0.998
    return config

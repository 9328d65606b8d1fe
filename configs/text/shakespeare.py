"""A transformer over the bytes of Shakespeare, in the sizes of nanoGPT: `shakespeare` or `shakespeare:small`.

    python -m vq_jax.prepare tiny_shakespeare
    python -m vq_jax.train --config configs/text/shakespeare.py:small --workdir runs/shakespeare
    python -m vq_jax.sample --workdir runs/shakespeare --num 4 --temperature 0.8 --output samples.txt
    python -m vq_jax.edit --workdir runs/shakespeare --input prompt.txt --continue 500 --output more.txt

Any text does as well: `--config.data.name=text:PATH --config.data.eval_split=test`, of which the last tenth
is held out, as nanoGPT holds it out of Shakespeare. The sizes and rates are those of its
`config/train_shakespeare_char.py`, and of `small` those that its README has for CPUs. It gives losses of
1.4697 (1.88 for CPUs) nats a character, of the 65 that occur; here all 256 bytes are possible, and the first
token of a piece is predicted too, from nothing.

Seen on a core of a shared x86-64 machine under other load (Python 3.11, jax 0.10.2), with `:small` on
nanoGPT's file as `text:PATH`: 1.886 nats a token of the held-out tenth, 2.722 bits per byte, after all
2,000 steps, in under 10 minutes. nanoGPT itself, run beside it with what its README has for CPUs, came to
1.898 nats a character, 2.739 bits, in pieces of the same length. `shakespeare` was not run to its end.
"""

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import default_config

VARIANTS = ('full', 'small')


def get_config(variant: str = 'full') -> ConfigDict:
    """The config of a variant."""
    if variant not in VARIANTS:
        raise UserError(f'shakespeare.py:{variant} is not there; choose one of {", ".join(VARIANTS)}.')
    small = variant == 'small'
    config = default_config('prior')
    config.steps = 2_000 if small else 5_000
    config.batch_size = 12 if small else 64
    config.eval_every = 250
    config.checkpoint_every = 250
    config.num_shown = 4
    config.data.name = 'tiny_shakespeare'
    config.data.eval_split = 'validation+test'
    config.data.num_tokens = 64 if small else 256
    config.data.random_crop = True
    config.transformer.depth = 4 if small else 6
    config.transformer.heads = 4 if small else 6
    config.transformer.width = 128 if small else 384
    config.transformer.dropout = 0.0 if small else 0.2
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.final_share = 0.1
    config.optimizer.warmup_steps = 100
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    return config

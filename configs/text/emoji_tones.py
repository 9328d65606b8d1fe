"""A classifier of the skin tones that names of emoji speak of, to see whether models of emoji listen to them.

    python -m vq_jax.train --config configs/text/emoji_tones.py --workdir runs/emoji_tones
    python -m vq_jax.evaluate --workdir runs/emoji_prior --features runs/emoji_tones --num 398

Its classes are the five tones and `none`. Of samples, its accuracy is how often it sees the tone that the
name has.

Seen on a core of a shared x86-64 machine under other load (Python 3.11, jax 0.10.2), in 36 seconds: 83.7%
of the 398 emoji of the test set are right, of which 218 are of no tone.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Sizes for two cores of a CPU."""
    config = default_config('classifier')
    config.steps = 500
    config.batch_size = 64
    config.eval_every = 250
    config.checkpoint_every = 250
    config.data.name = 'emoji'
    config.data.image_size = 32
    config.data.channels = 3
    config.data.name_key = 'text'
    config.data.name_pattern = '(?P<label>((medium-)?(light|dark)|medium)(?= skin tone)|$)'
    config.model.channels = 16
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = 'cosine'
    return config

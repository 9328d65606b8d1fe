"""A small classifier of sprites, whose features are used to evaluate other models of their videos.

`configs/video/sprites_classifier.py:action` tells whether a character casts a spell, walks or slashes, and
`:direction` which of four ways it looks. Convolutions over time, height and width see a clip as a whole.

`sprites` is not in tensorflow-datasets' catalogue (docs/video.md); of other clips, set the keys of `data`.

    python -m vq_jax.train --config configs/video/sprites_classifier.py:action --workdir runs/action
    python -m vq_jax.train --config configs/video/sprites_classifier.py:direction --workdir runs/direction
    python -m vq_jax.evaluate --workdir runs/vqvae_sprites --features runs/action --real train

It serves only runs whose clips have as many frames. For 7, as vqgan_sprites:causal has them, set
`--config.data.frames=7`.

Results on the test set, 300 clips of characters that are not in the training set: all actions are right
(cross-entropy 1.9e-5 nats) and all directions (1.1e-4 nats), after 90 and 91 seconds of processor time, with
starting up, compiling and evaluating, on one core of a heavily loaded, shared x86-64 machine (Python 3.11,
jax 0.10.2).
"""

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import default_config


def get_config(classes: str = 'action') -> ConfigDict:
    """The config for classes that are the actions, 'action', or the directions, 'direction'."""
    if classes not in ('action', 'direction'):
        raise UserError(f'sprites_classifier.py:{classes} is not there; choose :action or :direction.')
    config = default_config('classifier')
    config.steps = 100
    config.batch_size = 32
    config.eval_every = 50
    config.checkpoint_every = 50
    config.data.name = 'sprites'
    config.data.frames = 8
    config.data.image_size = 64
    config.data.channels = 3
    if classes == 'direction':
        config.data.label_key = 'direction'
    config.model.channels = 8
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = 'cosine'
    return config

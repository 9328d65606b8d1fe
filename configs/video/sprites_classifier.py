"""A small classifier of sprites, whose features are used to evaluate other models of their videos.

`configs/video/sprites_classifier.py:action` tells whether a character casts a spell, walks or slashes,
`:direction` which of four ways it looks, and `:both` the twelve classes of these, on which prior_sprites and
ldm_sprites are conditioned. Convolutions over time, height and width see a clip as a whole.

`sprites` is not in tensorflow-datasets' catalogue (docs/video.md); of other clips, set the keys of `data`.

    python -m vq_jax.train --config configs/video/sprites_classifier.py:action --workdir runs/action
    python -m vq_jax.train --config configs/video/sprites_classifier.py:direction --workdir runs/direction
    python -m vq_jax.evaluate --workdir runs/vqvae_sprites --features runs/action --real train
    python -m vq_jax.train --config configs/video/sprites_classifier.py:both --workdir runs/both \
        --config.data.frames=7
    python -m vq_jax.evaluate --workdir runs/prior_sprites --features runs/both --num 300

It serves only runs whose clips have as many frames: 7 of vqgan_sprites:causal and prior_sprites.

Results on the test set, 300 clips of 8 frames of characters that are not in the training set: all actions are
right (cross-entropy 1.9e-5 nats), all directions (1.1e-4 nats) and all of both (1.3e-4 nats), after 90, 91
and 100 seconds of processor time, with starting up, compiling and evaluating, on one core of a heavily
loaded, shared x86-64 machine (Python 3.11, jax 0.10.2). In features of the actions, the 2,400 clips of the
training set have a classifier_frechet of 1.29 from the test set (`--real train`).
"""

from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import default_config

CLASSES = ('action', 'direction', 'both')


def get_config(classes: str = 'action') -> ConfigDict:
    """The config for classes that are the actions, 'action', the directions, 'direction', or both."""
    if classes not in CLASSES:
        raise UserError(f'sprites_classifier.py:{classes} is not there; choose one of {", ".join(CLASSES)}.')
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
    if classes == 'both':
        config.data.name_key = 'text'
        config.data.name_pattern = r'(?P<label>(casting a spell|walking|slashing), seen from the \w+)$'
    config.model.channels = 8
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = 'cosine'
    return config

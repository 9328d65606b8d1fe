"""What people look at, listen to and read: sheets of images, code maps, animations, sounds, texts.

Media have files (`media.files(name)` gives their contents by their names), a folder of a run directory, and
say to a log what they are (`media.log(log, step, name)`). `show` makes them of examples of any kind.
"""

from vq_jax.media.animations import Animation
from vq_jax.media.examples import Media, as_images, code_images, image_size, show
from vq_jax.media.sheets import Sheet
from vq_jax.media.sounds import Sound
from vq_jax.media.texts import Texts

__all__ = [
    'Animation',
    'Media',
    'Sheet',
    'Sound',
    'Texts',
    'as_images',
    'code_images',
    'image_size',
    'show',
]

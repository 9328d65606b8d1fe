"""What people look at and listen to: sheets of images with captions, code maps, animations, sounds.

Media have files (`media.files(name)` gives their contents by their names), a folder of a run directory, and
say to a log what they are (`media.log(log, step, name)`). `show` makes them of examples of any kind.
"""

from vq_jax.media.animations import Animation
from vq_jax.media.examples import SHOWN, Media, as_images, code_images, image_size, show
from vq_jax.media.sheets import Sheet
from vq_jax.media.sounds import Sound

__all__ = ['SHOWN', 'Animation', 'Media', 'Sheet', 'Sound', 'as_images', 'code_images', 'image_size', 'show']

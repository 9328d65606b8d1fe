"""What an encoder sees of an image, where a model translates one image into another.

Isola et al. 2017 (arXiv:1611.07004).
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from vq_jax.errors import UserError
from vq_jax.spec import Spec

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow has it


@dataclasses.dataclass(frozen=True)
class Source:
    """What the encoder sees.

    Attributes:
        kind: the example itself; its grey values; or a copy reduced to a quarter of height and width.
    """

    kind: Literal['image', 'grey', 'small'] = 'image'

    def __call__(self, x: jax.Array) -> jax.Array:
        """What is seen of examples [b *grid c] in [-1, 1]; of their size, with 1 channel if grey."""
        if self.kind == 'grey':
            return x @ jnp.array(_GREY)[:, None]
        if self.kind == 'small':
            b, h, w, c = x.shape
            means = x.reshape(b, h // 4, 4, w // 4, 4, c).mean((2, 4))
            return means.repeat(4, 1).repeat(4, 2)
        return x

    def condition(self, x: jax.Array) -> jax.Array | None:
        """What a discriminator is shown beside examples: what these are made of, if that is another thing."""
        return None if self.kind == 'image' else self(x)

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` unless this can be made of examples."""
        if self.kind != 'image' and spec.kind != 'image':
            raise UserError(
                f'config.variant.source={self.kind} is made of images, and these are {spec.kind}; set it to '
                'image.'
            )
        if self.kind == 'small' and any(size % 4 for size in spec.grid):
            raise UserError(
                f'config.variant.source=small needs a multiple of 4 pixels, not {spec.size_in_words}.'
            )
        if self.kind == 'grey' and spec.channels != 3:
            raise UserError(
                'config.variant.source=grey needs images in colour, and these are grey already; set '
                'config.data.channels=3 if the data set has colours, or config.variant.source=image.'
            )

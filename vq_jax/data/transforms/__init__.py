"""From what a source stores to the arrays that models are given: one file for each kind of data."""

import dataclasses

from vq_jax.data.config import DataConfig
from vq_jax.data.source import Source
from vq_jax.data.transforms.audio import AudioTransform
from vq_jax.data.transforms.image import ImageTransform
from vq_jax.data.transforms.text import TextTransform
from vq_jax.data.transforms.transform import Transform, Undecodable
from vq_jax.data.transforms.video import VideoTransform
from vq_jax.errors import UserError
from vq_jax.spec import Kind

__all__ = [
    'TRANSFORMS',
    'AudioTransform',
    'ImageTransform',
    'TextTransform',
    'Transform',
    'Undecodable',
    'VideoTransform',
    'make_transform',
]

TRANSFORMS: dict[
    Kind, type[ImageTransform] | type[AudioTransform] | type[VideoTransform] | type[TextTransform]
] = {
    'image': ImageTransform,
    'audio': AudioTransform,
    'video': VideoTransform,
    'text': TextTransform,
}


def make_transform(config: DataConfig, source: Source) -> Transform:
    """Makes the transform for the kind of data that a source has.

    Raises:
      UserError: If a key of the config is set that is not read for this kind of data.
    """
    for field in dataclasses.fields(DataConfig):
        kinds = [kind for kind, transform in TRANSFORMS.items() if field.name in transform.keys]
        value = getattr(config, field.name)
        if kinds and source.kind not in kinds and value != field.default:
            raise UserError(
                f'config.data.{field.name} is {value!r}, which is for {" and ".join(kinds)}, and '
                f'{source.name} holds {source.kind}; leave it out, or set it to '
                f'{field.default!r}.'
            )
    return TRANSFORMS[source.kind](config, source)

"""Videos [b t h w c] as their frames."""

from collections.abc import Callable

import jax


def each_frame(function: Callable[..., jax.Array], *videos: jax.Array) -> jax.Array:
    """What a function of images [n ...] makes of each frame of videos [b t ...]: [b t ...]."""
    b, t = videos[0].shape[:2]
    made = function(*(video.reshape(b * t, *video.shape[2:]) for video in videos))
    return made.reshape(b, t, *made.shape[1:])

"""What a user asks of a trained task and gives to it, checked: methods, pictures, codes and labels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.errors import UserError
from vq_jax.tasks import TASKS
from vq_jax.tasks.task import Task

_ABILITIES = {
    'encode': 'encode pictures',
    'decode': 'decode',
    'sample': 'draw pictures',
    'inpaint': 'draw a part of a picture anew',
    'image_to_image': 'change pictures as a whole',
    'denoise': 'take noise out of pictures',
    'upscale': 'make small pictures large',
    'log_probability': 'tell the likelihood of codes',
    'classify': 'tell classes apart',
}


def check_can(name: str, task: Task, method: str, ability: str | None = None) -> None:
    """Raises `UserError` if a task has no such method, with those that do.

    Args:
        name: of the task.
        task: a trained one.
        method: such as 'encode'.
        ability: what the method is wanted for, if not for itself.
    """
    if hasattr(task, method):
        return
    able = [other for other, cls in TASKS.items() if hasattr(cls, method)]
    if 'prior' in able and getattr(task, 'num_codes', None):
        remedy = 'train a prior on its codes (configs/prior_mnist.py with config.tokenizer.workdir=RUN)'
    elif 'diffusion' in able and name == 'vqgan':
        remedy = (
            'train one on its latents that can (configs/ldm_imagenette.py with config.latent.workdir=RUN)'
        )
    else:
        remedy = f'one of {", ".join(able[:-1])}{" or " if able[1:] else ""}{able[-1]} can'
    raise UserError(f'a run of the task {name} cannot {ability or _ABILITIES[method]}; {remedy}.')


def as_array(values: Any, name: str) -> np.ndarray:
    """What was given as an array; raises `UserError` if its parts are not of one shape.

    Args:
        values: an array, or lists of numbers in each other.
        name: what they are, in the plural.
    """
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UserError(
            f'{name} must be an array, and the parts of these differ in shape; give one.'
        ) from error


def as_bytes(images: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """Pictures [b h w c]; raises `UserError` unless they are bytes."""
    images = as_array(images, 'pictures') if not isinstance(images, jax.Array) else images
    if images.dtype != jnp.uint8 or images.ndim != 4:
        remedy = ' Of one picture, give images[None].' if images.ndim == 3 else ''
        if jnp.issubdtype(images.dtype, jnp.floating):
            remedy += " Of numbers from 0 to 1, give (255 * images).round().astype('uint8')."
        raise UserError(
            f'pictures must be uint8 [b h w c], from 0 to 255; these are {images.dtype} of shape '
            f'{images.shape}.{remedy}'
        )
    if not images.size:
        raise UserError(f'there are no pictures in an array of shape {images.shape}; give one or more.')
    if images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        raise UserError(
            f'pictures must be uint8 [b h w c], and these look like [b c h w], {images.shape}; give '
            'images.transpose(0, 2, 3, 1).'
        )
    return images


def checked_codes(codes: Any, like: Any, num_codes: int | None, per_place: int = 1) -> Any:
    """Latents or codes as `encode` returns them.

    Args:
        codes: of any number of pictures; two levels are a pair, top and bottom.
        like: shapes and types of what `encode` returns for one picture.
        num_codes: how many there are, in each level; None for latents.
        per_place: how many columns of codes are one place.

    Raises:
        UserError: for others.
    """
    if num_codes is None:
        return _checked_latents(as_array(codes, 'latents'), like)
    if not isinstance(like, tuple):
        if isinstance(codes, tuple):
            raise UserError("this model has one level of codes; give one array, int [b h' w'].")
        grid = _checked_grid(as_array(codes, 'codes'), num_codes)
        if grid.shape[2] % per_place:
            raise UserError(
                f'codes of pixels have {per_place} columns for each, its channels side by side; these are of '
                f'shape {grid.shape}.'
            )
        return grid
    if not isinstance(codes, tuple) or len(codes) != 2:
        raise UserError('codes must be a pair, top and bottom, as encode returns them: two levels.')
    top, bottom = (_checked_grid(as_array(level, 'codes'), num_codes) for level in codes)
    factor = like[1].shape[1] // like[0].shape[1]
    b, h, w = top.shape
    if bottom.shape != (b, factor * h, factor * w):
        raise UserError(
            f'codes must be {factor} times as many in height and width at the bottom as at the top; '
            f'these are of shapes {top.shape} (top) and {bottom.shape} (bottom).'
        )
    return top, bottom


def checked_numbers(codes: Any, two_levels: bool, num_codes: int) -> Any:
    """Codes of any shape, int32 [...].

    Args:
        codes: of one level, or a pair, top and bottom.
        two_levels: which it must be.
        num_codes: how many there are, in each level.

    Raises:
        UserError: for others.
    """
    if two_levels != isinstance(codes, tuple) or (two_levels and len(codes) != 2):
        kind = 'a pair, top and bottom: two levels' if two_levels else 'one array: one level'
        raise UserError(f'codes must be {kind}.')
    if two_levels:
        return tuple(_in_range(as_array(level, 'codes'), num_codes) for level in codes)
    return _in_range(as_array(codes, 'codes'), num_codes)


def check_whole_grids(codes: Any, like: Any) -> None:
    """Raises `UserError` unless codes are those of one or more pictures of the size that was learned.

    Args:
        codes: as `checked_codes` returns them.
        like: as for it.
    """
    for level, one in zip(*map(jax.tree.leaves, (codes, like)), strict=True):
        if not len(level) or level.shape[1:] != one.shape[1:]:
            raise UserError(
                f'codes of shape {level.shape} have no likelihood under a prior of grids of '
                f'{one.shape[1:]}; give one grid or more, [b {" ".join(map(str, one.shape[1:]))}].'
            )


def _checked_latents(latents: np.ndarray, like: Any) -> np.ndarray:
    if not np.issubdtype(latents.dtype, np.floating):
        raise UserError(f'latents must be floats, as encode returns them; these are {latents.dtype}.')
    if latents.ndim != len(like.shape) or latents.shape[-1] != like.shape[-1]:
        raise UserError(
            f'latents must be as encode returns them, [b {" ".join(map(str, like.shape[1:]))}]; these are '
            f'of shape {latents.shape}.'
        )
    return latents


def _checked_grid(codes: np.ndarray, num_codes: int) -> np.ndarray:
    if not np.issubdtype(codes.dtype, np.integer) or codes.ndim != 3:
        raise UserError(f"codes must be integers [b h' w']; these are {codes.dtype} of shape {codes.shape}.")
    if not codes.size:
        raise UserError(
            f'there are no codes in an array of shape {codes.shape}; give those of one picture or more.'
        )
    return _in_range(codes, num_codes)


def _in_range(codes: np.ndarray, num_codes: int) -> np.ndarray:
    if not np.issubdtype(codes.dtype, np.integer):
        raise UserError(f'codes must be integers; these are {codes.dtype}.')
    if codes.size and not (codes.min() >= 0 and codes.max() < num_codes):
        raise UserError(
            f'codes must be from 0 to {num_codes - 1}; these are from {codes.min()} to {codes.max()}.'
        )
    return codes.astype(np.int32)

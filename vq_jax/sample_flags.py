"""What the commands that sample images share: flags, and the file that is written."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from vq_jax import cli
from vq_jax.errors import UserError

if TYPE_CHECKING:
    from vq_jax.run import Run

# What to do where sampling needs more memory than there is.
SAVE_MEMORY = 'sample fewer images at once, with a smaller N in --override=batch_size=N'
_MOST_PIXELS, _TILE = 2**28, 64  # of a sheet, and the side that small images are enlarged to

_LABEL = flags.DEFINE_multi_string(
    'label',
    None,
    'The name of a class, or its number, counted from 0, where none is called so. Of several, separated by '
    'commas or given by flags of their own, images are sampled in turn.',
)
SEED = flags.DEFINE_integer('seed', 0, 'The same seed gives the same images.')
OUTPUT = flags.DEFINE_string('output', None, 'A .png file for a grid of images, or .npz for arrays.')
_SAMPLING = {
    'temperature': flags.DEFINE_float(
        'temperature', None, 'Of a prior: logits are divided by it; 0 takes the likeliest.'
    ),
    'top_k': flags.DEFINE_integer('top_k', None, 'Of a prior: sample from the k likeliest tokens.'),
    'top_p': flags.DEFINE_float(
        'top_p', None, 'Of a prior: sample from the fewest tokens whose probabilities reach this sum.'
    ),
    'sampler': flags.DEFINE_string(
        'sampler', None, 'Of a diffusion model, such as ddim; a wrong name is answered with all names.'
    ),
    'eta': flags.DEFINE_float(
        'eta', None, 'Of a diffusion model: the share of noise that ddim adds, from 0 to 1.'
    ),
    'threshold': flags.DEFINE_string(
        'threshold', None, 'Of a diffusion model: how x0 is clipped; static, dynamic or none.'
    ),
    'rescale': flags.DEFINE_float(
        'rescale', None, 'Of a diffusion model: how far guidance is rescaled to keep contrast, from 0 to 1.'
    ),
    'repeats': flags.DEFINE_integer(
        'repeats',
        None,
        'Of a diffusion model, in inpainting: how often each step is made. Holes are filled best with '
        '--sampler=ddpm --repeats=4 --guidance=1; samplers that add no noise gain next to nothing.',
    ),
    'guidance': flags.DEFINE_float(
        'guidance', None, 'Scale of classifier-free guidance: 1 is the model itself, 0 ignores the class.'
    ),
    'steps': flags.DEFINE_integer(
        'steps', None, 'Of a masked prior or a diffusion model: the number of sampling steps.'
    ),
}


def label(run: 'Run', n: int) -> list[str] | None:
    """The classes that the flags name, in turn for n images; None if they name none."""
    if not _LABEL.value:
        return None
    names = []
    for value in _LABEL.value:  # a name may have a comma in it
        known = value in (run.class_names or ())
        names += [value] if known else [part.strip() for part in value.split(',')]
    return [names[i % len(names)] for i in range(n)]


def captions(run: 'Run', labels: np.ndarray | None) -> list[str] | None:
    """What stands under images of classes, int32 [n]: their names; None without classes or names."""
    return None if labels is None or not run.class_names else [run.class_names[i] for i in labels]


def sampling() -> dict[str, Any]:
    """The flags that were given of those that say how to sample."""
    return {name: flag.value for name, flag in _SAMPLING.items() if flag.value is not None}


def output() -> Path:
    """The file to write."""
    return cli.check_output(OUTPUT, '.png', '.npz')


def check_sheet(path: Path, n: int, shape: tuple[int, int, int]) -> None:
    """Raises `UserError` for a sheet of more images than fit on one, before they are made.

    Args:
        path: as `output` returns it; only a .png file is a sheet.
        n: how many images.
        shape: of each [h w c].
    """
    most = _MOST_PIXELS // (max(_TILE, shape[0]) * max(_TILE, shape[1]))
    if path.suffix == '.png' and n > most:
        raise UserError(
            f'{n} images do not fit on a sheet; ask for {most:,} or fewer, or give --{OUTPUT.name} a '
            'name that ends in .npz.'
        )


def write(
    path: Path,
    images: np.ndarray,
    title: str,
    captions: Sequence[str] | None = None,
    **arrays: np.ndarray | None,
) -> None:
    """Writes images as a sheet, or with other arrays as arrays.

    Args:
        path: as `output` returns it.
        images: uint8 [n h w c].
        title: what stands over a sheet of them.
        captions: what stands under each in a sheet, if anything.
        **arrays: what an .npz file also holds; None is left out.

    Raises:
        UserError: if it cannot be written; the images are elsewhere then, if anywhere.
    """
    from PIL import Image

    from vq_jax.media.captions import captioned
    from vq_jax.media.sheets import Sheet, grid

    file = io.BytesIO()
    if path.suffix == '.png':
        shown = images if captions is None else captioned(images, captions)
        Image.fromarray(Sheet(grid(shown), (title,)).captioned()).save(file, 'png')
    else:
        np.savez(file, images=images, **{k: v for k, v in arrays.items() if v is not None})
    cli.write_output(path, file.getvalue(), f'the {len(images)} images that were made')

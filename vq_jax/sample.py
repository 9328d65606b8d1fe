"""Draws pictures from a trained run: `python -m vq_jax.sample --workdir DIR --num 64 --output grid.png`.

A run that is conditioned on classes draws them all in turn, or the one of `--label`.
"""

import io
from pathlib import Path

import numpy as np
from absl import flags

from vq_jax import cli
from vq_jax.errors import UserError

_WORKDIR = flags.DEFINE_string('workdir', None, 'The directory of the run.')
_NUM = flags.DEFINE_integer('num', 64, 'How many pictures.')
_LABEL = flags.DEFINE_integer('label', None, 'The class, counted from 0.')
_SEED = flags.DEFINE_integer('seed', 0, 'The same seed gives the same pictures.')
_STEP = flags.DEFINE_integer('step', None, 'The checkpoint; the newest if none is given.')
_SAMPLING = {
    'temperature': flags.DEFINE_float('temperature', None, 'Of a prior: logits are divided by it.'),
    'top_k': flags.DEFINE_integer('top_k', None, 'Of a prior: draw from the k most likely tokens.'),
    'top_p': flags.DEFINE_float('top_p', None, 'Of a prior: draw from the fewest that reach this share.'),
    'guidance': flags.DEFINE_float('guidance', None, 'Of a prior: towards the class; 1 is none.'),
    'steps': flags.DEFINE_integer('steps', None, 'Of a masked prior: in how many steps to draw.'),
}
_OUTPUT = flags.DEFINE_string('output', None, 'A .png file for a sheet of them, or .npz for arrays.')


def main() -> None:
    """Writes the file."""
    from PIL import Image

    from vq_jax.ops.pictures import grid
    from vq_jax.run import load
    from vq_jax.training.run_dir import write_atomically

    output = Path(_OUTPUT.value)
    if output.suffix not in ('.png', '.npz'):
        raise UserError(f'--output is {output}; give a name that ends in .png or .npz.')
    cli.use_compilation_cache()
    run = load(_WORKDIR.value, _STEP.value)
    labels = run.labels(_NUM.value, _LABEL.value)
    sampling = {name: flag.value for name, flag in _SAMPLING.items() if flag.value is not None}
    images = run.sample(_NUM.value, label=_LABEL.value, seed=_SEED.value, progress=True, **sampling)
    file = io.BytesIO()
    if output.suffix == '.png':
        Image.fromarray(grid(images)).save(file, 'png')
    else:
        np.savez(file, images=images, **({} if labels is None else {'labels': labels}))
    write_atomically(output, file.getvalue())
    print(f'{len(images)} samples written to {output}')


if __name__ == '__main__':
    cli.main(main, required=('workdir', 'output'))

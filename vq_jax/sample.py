"""Draws images from a trained run: `python -m vq_jax.sample --workdir DIR --num 64 --output grid.png`.

A run that is conditioned on classes draws them all in turn, or those of `--label`; the name of its class
stands under each image.
"""

import numpy as np
from absl import flags

from vq_jax import cli, drawing, opening

flags.adopt_module_key_flags(drawing)  # for --help
flags.adopt_module_key_flags(opening)  # for --help
_NUM = flags.DEFINE_integer('num', 64, 'How many images.')


def main() -> None:
    """Writes the file."""
    from vq_jax.run import load

    output, n = drawing.output(), _NUM.value
    cli.use_compilation_cache()
    run = load(**opening.opened())
    drawing.check_sheet(output, n, run.image_shape)
    label = drawing.label(run, n)
    images = run.sample(n, label, drawing.SEED.value, progress=True, **drawing.sampling())
    labels = run.labels(n, label)
    names = None if labels is None or run.class_names is None else np.asarray(run.class_names)
    title = f'{n} samples of {run.name}, step {run.step:,}'
    drawing.write(output, images, title, drawing.captions(run, labels), labels=labels, class_names=names)
    print(f'{n} samples written to {output}')


if __name__ == '__main__':
    cli.main(main, required=('workdir', 'output'), save_memory=drawing.SAVE_MEMORY)

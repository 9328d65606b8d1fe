"""Draws a part of a picture anew, with a trained prior.

    python -m vq_jax.edit --workdir PRIOR --input image.png --mask mask.png --output out.png

What is white in the mask is drawn, the rest stays as it is: a hole for inpainting, all but the middle for
outpainting, and with `--label` a part of another class. A picture that is not of the model's size is
cropped and resized as the model's data were, and its mask with it.
"""

from pathlib import Path

import numpy as np
from absl import flags

from vq_jax import cli, drawing
from vq_jax.errors import UserError

_INPUT = flags.DEFINE_string('input', None, 'The picture.')
_MASK = flags.DEFINE_string('mask', None, 'A picture of the same size, white where it is to be drawn anew.')
_NUM = flags.DEFINE_integer('num', 1, 'How many times to draw it.')


def main() -> None:
    """Writes the file."""
    from vq_jax.run import load

    output, n = drawing.output(), _NUM.value
    if n < 1:
        raise UserError(f'--num is {n}; give 1 or more.')
    cli.use_compilation_cache()
    overrides = cli.parse_overrides(drawing.OVERRIDE.value)
    run = load(drawing.WORKDIR.value, drawing.STEP.value, overrides)
    image, mask = run.prepare(_read(_INPUT.value), _read(_MASK.value))
    images = run.inpaint(
        np.repeat(image[None], n, axis=0),
        mask,
        drawing.LABEL.value,
        drawing.SEED.value,
        progress=True,
        **drawing.sampling(),
    )
    drawing.write(output, images, mask=mask)
    print(f'{n} pictures written to {output}')


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}); give a picture file.') from error


if __name__ == '__main__':
    cli.main(main, required=('workdir', 'input', 'mask', 'output'))

"""Samples from a trained run: `python -m vq_jax.sample --workdir DIR --num 64 --output grid.png`.

A run that is conditioned on classes samples them all in turn, or those of `--label`, and one that is
conditioned on text what `--text` says; on a sheet, class and text stand under each. Sounds can be listened to
(`--output sounds.wav`), videos move (`--output videos.gif` or `.mp4`), and a folder (`--output samples`)
holds a file of each.
"""

import numpy as np
from absl import flags

from vq_jax import cli, run_flags, sample_flags

flags.adopt_module_key_flags(sample_flags)  # for --help
flags.adopt_module_key_flags(run_flags)  # for --help
_NUM = flags.DEFINE_integer('num', 64, 'How many.')


def main() -> None:
    """Writes the file."""
    from vq_jax.run import load

    output, n = sample_flags.output(), _NUM.value
    cli.use_compilation_cache()
    run = load(**run_flags.opened())
    sample_flags.check_fits(output, n, run.spec)
    label = sample_flags.label(run, n)
    options = {**sample_flags.asked(n), 'progress': True, **sample_flags.sampling()}
    samples = run.sample(n, label, sample_flags.SEED.value, **options)
    labels = run.labels(n, label)
    names = None if labels is None or run.class_names is None else np.asarray(run.class_names)
    title = f'{n} samples of {run.name}, step {run.step:,}'
    texts = options['text']
    captions = sample_flags.captions(run, labels, texts)
    arrays = {'labels': labels, 'class_names': names, 'text': None if texts is None else np.asarray(texts)}
    sample_flags.write(output, samples, run.spec, title, captions, **arrays)
    print(f'{n} samples written to {output}')


if __name__ == '__main__':
    cli.main(main, required=('workdir', 'output'), save_memory=sample_flags.SAVE_MEMORY)

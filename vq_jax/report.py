"""Shows runs in a browser: `python -m vq_jax.report RUN... --output FILE.html`.

The page needs no network and no other file: media to step through, configs and in what they
differ, the last and best evaluation, curves of all runs over each other, and what it was made with. The runs
may still be going on, and may be a stranger's: nothing in a run directory is run.

With `--experiment=experiments/NAME` it shows a table too, its plots, and the runs of its rows that are there.
That runs the `table.py` of the folder, which is a program: name folders that you trust.
"""

import itertools
import os
import shlex
import sys
from pathlib import Path

from absl import flags

from vq_jax import cli
from vq_jax.errors import UserError, plural

_OUTPUT = flags.DEFINE_string('output', None, 'The .html file to write.')
_EXPERIMENTS = flags.DEFINE_multi_string(
    'experiment', [], 'A folder of experiments/, whose table.py is run; may be given more than once.'
)
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Where the runs of an experiment are kept; runs/NAME if not given.'
)
_MAX_IMAGES = flags.DEFINE_integer(
    'max_images',
    50,
    'How many images, animations or sounds of a name and run it holds; of more, some evenly spread.',
)


def main(*paths: str) -> None:
    """Writes the page and says where it is."""
    from vq_jax.files import write_atomically
    from vq_jax.reporting import find_environment, make_page, read_runs
    from vq_jax.tables import summarize
    from vq_jax.training.bucket_runs import local_run
    from vq_jax.training.run_dir import is_run

    output = cli.check_output(_OUTPUT, '.html')
    if _MAX_IMAGES.value < 1:
        raise UserError(f'--max_images is {_MAX_IMAGES.value}; give 1 or more.')
    # A run that is going on needs the memory of the device that is named here.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    command = shlex.join(['python', '-m', 'vq_jax.report', *sys.argv[1:]])
    experiments = list(map(Path, _EXPERIMENTS.value))
    if _WORKDIR.value:
        cli.check_local('--workdir', _WORKDIR.value)
    if not paths and not experiments:
        raise UserError('RUN is missing; name runs, or a folder of experiments/ by --experiment.')
    runs = [local_run(path, logs=True) for path in paths]
    for path in runs:
        if not is_run(path) and (path / 'table.py').is_file():
            raise UserError(
                f'{path} is no run, but holds a table.py, which is a program; if you trust it, name the '
                f'folder by --experiment={path}.'
            )
    if _WORKDIR.value and len(experiments) != 1:
        raise UserError(
            f'--workdir is of one experiment, and {len(experiments)} were named; name one, or leave it out.'
        )
    tables = [
        (summarize(folder), Path(_WORKDIR.value or Path('runs') / folder.resolve().name))
        for folder in experiments
    ]
    of_rows = [[workdir / row.name for row in table.rows] for table, workdir in tables]
    runs = read_runs([*runs, *filter(is_run, itertools.chain(*of_rows))])
    page = make_page(runs, find_environment(), command, tables=tables, max_images=_MAX_IMAGES.value)
    write_atomically(output, page)
    counted = [plural(len(tables), 'table')] if tables else []
    print(f'{" and ".join([*counted, plural(len(runs), "run")])} in {output.absolute()}')
    for folder, (_, workdir), rows in zip(experiments, tables, of_rows, strict=True):
        if not any(map(is_run, rows)):
            print(f'{folder}: no runs in {workdir} (--workdir), so no curves and images.')


if __name__ == '__main__':
    cli.main(main, required=('output',), words=('[RUN...]',))

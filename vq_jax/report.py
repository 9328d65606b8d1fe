"""Shows runs in a browser: `python -m vq_jax.report RUN... --output report.html`.

The page needs no network and no other file: configs and in what they differ, the last and best evaluation,
curves of all runs over each other, pictures to step through, and what it was made with. The runs may still
be going on.
"""

import os
import shlex
import sys
from pathlib import Path

from absl import flags

from vq_jax import cli
from vq_jax.errors import UserError

_OUTPUT = flags.DEFINE_string('output', None, 'The HTML file to write.')
_MAX_PICTURES = flags.DEFINE_integer(
    'max_pictures', 50, 'How many pictures of a name and run it holds; of more, some evenly spread.'
)


def main(*workdirs: str) -> None:
    """Writes the page and says where it is."""
    from vq_jax.reporting import find_environment, make_page, read_runs
    from vq_jax.training.run_dir import write_atomically

    output = Path(_OUTPUT.value)
    if output.is_dir():
        raise UserError(f'--output {output} is a directory; name a file in it, such as {output}/report.html.')
    if _MAX_PICTURES.value < 1:
        raise UserError(f'--max_pictures is {_MAX_PICTURES.value}; give 1 or more.')
    # A run that is going on needs the memory of the device that is named here.
    os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    command = shlex.join(['python', '-m', 'vq_jax.report', *sys.argv[1:]])
    runs = read_runs(workdirs)
    page = make_page(runs, find_environment(), command, max_pictures=_MAX_PICTURES.value)
    try:
        write_atomically(output, page)
    except OSError as error:
        raise UserError(
            f'Cannot write {output} ({error.strerror or error}); choose another --output.'
        ) from error
    print(f'{len(runs)} run{"s" if len(runs) > 1 else ""} in {output.absolute()}')


if __name__ == '__main__':
    cli.main(main, required=('output',), words=('RUN...',))

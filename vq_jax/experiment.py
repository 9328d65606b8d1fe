"""Runs the rows of a table: `python -m vq_jax.experiment FOLDER [--rows a,b] [--jobs n] [--rerun]`.

A folder has a `table.py`, whose `get_table()` says what the rows are: the tables of papers in `experiments/`,
or a sweep of your own with a row for each setting (docs/sweeps.md). It may lie anywhere, and be started from
anywhere. The command runs the rows that have no result yet, each after the rows that it builds on, and writes
`table.md`, `table.csv` and plots. Started again after an interruption, it goes on where it was.
Rows that need an accelerator, or data that not everyone has, are run only if they are named. With `--rerun`
rows that have a result are run again: trained, or only evaluated and sampled if their whole run is there.
"""

from pathlib import Path

from absl import flags

from vq_jax import cli
from vq_jax.errors import UserError

_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the runs are kept; runs/NAME if not given.')
_ROWS = flags.DEFINE_list('rows', [], 'The rows to run; all that are not large if none are named.')
_JOBS = flags.DEFINE_integer('jobs', 1, 'How many rows to run at once, each on a GPU of its own.')
_RERUN = flags.DEFINE_bool('rerun', False, 'Run rows again that were run.')
_TABLE_ONLY = flags.DEFINE_bool('table_only', False, 'Run nothing, write the table of what was seen.')


def main(folder: str) -> None:
    """Runs what is missing, and says where the table is."""
    from vq_jax.tables import run_rows, write_table

    if _TABLE_ONLY.value and _RERUN.value:
        raise UserError('--table_only and --rerun do not go together; give one of them.')
    path = Path(folder)
    if _TABLE_ONLY.value:
        write_table(path)
    else:
        workdir = cli.check_local('--workdir', _WORKDIR.value or Path('runs') / path.resolve().name)
        run_rows(path, workdir, _ROWS.value, _JOBS.value, rerun=_RERUN.value)
    print(f'table: {path / "table.md"}')


if __name__ == '__main__':
    cli.main(main, words=('FOLDER',))

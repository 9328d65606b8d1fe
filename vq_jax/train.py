"""Trains the model of a config: `python -m vq_jax.train --config NAME --workdir DIR`.

Every key can be changed by a flag, such as `--config.optimizer.learning_rate=1e-4`. Starting again with
the same directory goes on where the run was.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from absl import flags

from vq_jax import cli
from vq_jax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from vq_jax.training.run_dir import Extension

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Where the run is kept, a directory or gs://BUCKET/FOLDER; resumed if it is there.'
)
_INIT_FROM = flags.DEFINE_string(
    'init_from', None, 'The directory of another run, whose weights a new run begins with.'
)
_INIT_FROM_STEP = flags.DEFINE_string(
    'init_from_step', None, 'The checkpoint of that run, or best; the newest if none is given.'
)
_EXTEND_SCHEDULE = flags.DEFINE_enum(
    'extend_schedule',
    None,
    ['hold', 'stretch'],
    'Makes a run longer whose learning rates depend on its length: hold leaves them where their schedule '
    'ends, stretch makes the schedule for the new length from here on.',
)
_ALLOW_IMPORT = cli.define_allow_import()
_DISTRIBUTED = flags.DEFINE_bool(
    'distributed',
    False,
    'This is one of several processes. On TPU pods, Slurm and the like they find each other; '
    'elsewhere give the next three flags.',
)
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'host:port of process 0.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes there are.')
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')


def main() -> None:
    """Trains, and ends with a table of the final metrics."""
    import jax

    from vq_jax.training.progress import make_console, print_table

    config = cli.read_config(_CONFIG)
    if _DISTRIBUTED.value:
        try:
            jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
        except ValueError as error:
            raise UserError(
                f'the processes cannot find each other ({str(error).rstrip(".")}); where no cluster tells '
                'them, give each --coordinator=HOST:PORT, --num_processes and --process_id, or leave '
                '--distributed out for one process.'
            ) from error
    elif _COORDINATOR.value or _NUM_PROCESSES.value or _PROCESS_ID.value is not None:
        raise UserError('--coordinator, --num_processes and --process_id need --distributed.')
    cli.use_compilation_cache()
    workdir = _WORKDIR.value
    metrics = train(
        config,
        workdir,
        init_from=_INIT_FROM.value,
        init_from_step=cli.checkpoint_step(_INIT_FROM_STEP),
        extend_schedule=_EXTEND_SCHEDULE.value,
        allow=_ALLOW_IMPORT.value,
    )
    console = make_console(quiet=jax.process_index() != 0)
    if metrics is None:
        console.print('stopped and saved; run the same command again to go on.')
        return
    title = f'{config.data.name} {config.data.eval_split} after {config.steps:,} steps'
    print_table(console, title, metrics)
    for name in 'images', 'animations', 'sounds', 'texts':
        folder = os.path.join(workdir, name)
        if os.path.isdir(folder) and os.listdir(folder):
            console.print(f'{name + ":":<12}{folder}', soft_wrap=True)
    console.print(f'{"log:":<12}{os.path.join(workdir, "metrics.jsonl")}', soft_wrap=True)


def train(
    config: 'ConfigDict',
    workdir: str | Path,
    *,
    init_from: str | Path | None = None,
    init_from_step: int | Literal['best'] | None = None,
    extend_schedule: 'Extension | None' = None,
    allow: Sequence[str] = (),
) -> dict[str, float] | None:
    """Builds the experiment of a config and trains it in a directory, showing what is being done.

    Arguments, result and errors are those of `Experiment.build` and `fit` (see `vq_jax.fitting`).
    """
    import jax

    from vq_jax.training.progress import Progress

    # Asking which process this is would start the devices, which takes a while.
    first = not jax.distributed.is_initialized() or jax.process_index() == 0
    with Progress(active=first) as progress:
        progress.doing('reading libraries')
        from vq_jax.fitting import Experiment, fit

        experiment = Experiment.build(
            config, workdir, extend_schedule=extend_schedule, allow=allow, progress=progress
        )
        return fit(experiment, workdir, init_from=init_from, init_from_step=init_from_step, progress=progress)


if __name__ == '__main__':
    cli.main(
        main,
        required=('config', 'workdir'),
        save_memory='set a smaller config.batch_size with a larger config.accumulate, a smaller model or '
        'dtype=bfloat16 in its section, in another --workdir',
    )

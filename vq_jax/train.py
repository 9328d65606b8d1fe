"""Trains the model of a config: `python -m vq_jax.train --config configs/NAME.py --workdir DIR`.

Every key can be changed by a flag, such as `--config.optimizer.learning_rate=1e-4`. Starting again with
the same directory goes on where the run was.
"""

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from vq_jax import cli
from vq_jax.errors import UserError

if TYPE_CHECKING:
    from vq_jax.training.run_dir import Extension

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in configs/.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept; resumed if it is there.')
_EXTEND_SCHEDULE = flags.DEFINE_enum(
    'extend_schedule',
    None,
    ['hold', 'stretch'],
    'Makes a run longer whose learning rates depend on its length: hold leaves them where their schedule '
    'ends, stretch makes the schedule for the new length from here on.',
)
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
    """Trains, and ends with a table of the final numbers."""
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
    workdir = Path(_WORKDIR.value)
    numbers = train(config, workdir, extend_schedule=_EXTEND_SCHEDULE.value)
    console = make_console(quiet=jax.process_index() != 0)
    if numbers is None:
        console.print('stopped and saved; run the same command again to go on.')
        return
    title = f'{config.data.name} {config.data.eval_split} after {config.steps:,} steps'
    print_table(console, title, numbers)
    console.print(f'pictures: {workdir / "images"}', soft_wrap=True)
    console.print(f'log:      {workdir / "metrics.jsonl"}', soft_wrap=True)


def train(
    config: ConfigDict, workdir: str | Path, *, extend_schedule: 'Extension | None' = None
) -> dict[str, float] | None:
    """Trains the model of a full config in a directory, from where the directory stands.

    Args:
        config: complete (see `vq_jax.tasks.complete_config`).
        workdir: made if it is not there.
        extend_schedule: what becomes of the schedules of the learning rates where a run that is there is
            made longer: 'hold' leaves the rates where they end, 'stretch' makes the schedules for the new
            length, from the step on at which the run goes on. None refuses to make a run longer if a
            rate depends on its length.

    Returns:
        The numbers of the last evaluation, or None if a signal stopped the run before its end.

    Raises:
        UserError: for what the user can mend; what the directory holds of a run stays as it was.
    """
    import jax

    from vq_jax.data import DataConfig, open_dataset, train_batches
    from vq_jax.evaluators.means import MeanEvaluator
    from vq_jax.tasks import make_task
    from vq_jax.tasks.restore import config_of
    from vq_jax.training.checkpoints import Checkpoints
    from vq_jax.training.config import build, defaults, to_json
    from vq_jax.training.lock import only_writer
    from vq_jax.training.loop import LoopConfig, run_loop
    from vq_jax.training.manifest import fingerprint
    from vq_jax.training.optimizer import schedule_length
    from vq_jax.training.parallel import ParallelConfig, make_engine
    from vq_jax.training.progress import Progress
    from vq_jax.training.run_dir import (
        DataFacts,
        check_built_on,
        check_published,
        check_same_config,
        is_run,
        keep_schedule,
        pin_built_on,
        write_config,
        write_data_facts,
    )
    from vq_jax.training.state import init_state
    from vq_jax.training.writers import MetricWriter

    cli.check_local('workdir', workdir)
    workdir = Path(workdir)
    new_run = not is_run(workdir)
    if new_run and extend_schedule:
        raise UserError(f'there is no run in {workdir} whose schedule could be extended; leave that out.')
    if not new_run:
        before = to_json(config_of(workdir))
        config = keep_schedule(before, config, extend_schedule)
        check_same_config(workdir, before, to_json(config), extend_schedule)
    plain = to_json(config)

    loop = build(LoopConfig, {k: config[k] for k in defaults(LoopConfig)}, '')
    engine = make_engine(build(ParallelConfig, config.parallel, 'parallel'), loop.batch_size)
    data = build(DataConfig, config.data, 'data')
    train_set = open_dataset(data, data.train_split)
    eval_set = open_dataset(data, data.eval_split)
    pinned = config if new_run else pin_built_on(config, workdir)
    task = make_task(pinned, train_set.image_shape, train_set.num_classes)
    for dataset in (train_set, eval_set):
        task.check_dataset(dataset)
    if not new_run:
        check_built_on(workdir, task.built_on())

    first = jax.process_index() == 0
    batches = functools.partial(
        train_batches,
        train_set,
        batch_size=loop.batch_size,
        seed=loop.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    init_key, start_key = jax.random.split(jax.random.key(loop.seed))
    pretrained = task.pretrained()
    published = fingerprint(pretrained) if task.reads_published else None
    if not new_run:
        check_published(workdir, published)
    pretrained = engine.place(pretrained)
    state = engine.place(init_state(task.init, init_key, train_set.image_shape))
    # From here on the directory is written to.
    with only_writer(workdir) if first else contextlib.nullcontext():
        checkpoints = Checkpoints(
            workdir / 'checkpoints',
            keep=loop.keep_checkpoints,
            best=loop.best_metric,
            best_mode=loop.best_mode,
        )
        restored = checkpoints.restore(state)
        if restored is None:
            start = 0
            state = task.start_from_data(start_key, state, batches(), engine)
        else:
            _, state, position = restored
            start = position['batches']
            state = engine.place(state)
        state = state.replace(frozen=pretrained)

        @functools.cache
        def compiled(phase: str) -> Any:
            step = functools.partial(task.train_step, phase=phase) if phase else task.train_step
            return engine.train_step(step)

        evaluator = MeanEvaluator(task, engine, eval_set, loop.batch_size, loop.num_pictures)
        writer = MetricWriter(
            workdir,
            resume_step=start,
            wandb_project=loop.wandb_project,
            config=plain,
            active=first,
        )
        done = False
        try:
            if new_run and first:
                facts = DataFacts(
                    image_shape=train_set.image_shape,
                    num_classes=train_set.num_classes,
                    built_on=task.built_on(),
                    published=published,
                    class_names=train_set.class_names,
                )
                write_data_facts(workdir, facts)
            if first:
                write_config(workdir, plain)
            with Progress(start, loop.steps, active=first) as progress:
                if start:
                    progress.console.print(f'resumed at step {start}')
                if extend_schedule == 'stretch' and schedule_length(plain) != schedule_length(before):
                    writer.warning(
                        start,
                        f'the schedules of the learning rates are made for {schedule_length(plain)} steps '
                        f'from here on, and were for {schedule_length(before)}.',
                    )
                _, evaluation = run_loop(
                    loop,
                    train_step=lambda step: compiled(task.phase(step)),
                    engine=engine,
                    state=state,
                    batches=batches(start=start),
                    evaluate=evaluator.run,
                    watch=task.watch,
                    checkpoints=checkpoints,
                    writer=writer,
                    progress=progress,
                )
            done = True
        finally:  # what was saved and logged before an error is kept
            try:
                checkpoints.close(failed=not done)
            finally:
                writer.close(failed=not done)
    return None if evaluation is None else evaluation.numbers


if __name__ == '__main__':
    cli.main(main, required=('config', 'workdir'))

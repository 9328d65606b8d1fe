"""Trains the model of a config: `python -m vq_jax.train --config configs/NAME.py --workdir DIR`.

Every key can be changed by a flag, such as `--config.optimizer.learning_rate=1e-4`. Starting again with
the same directory goes on where the run was.
"""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from absl import flags
from ml_collections import ConfigDict

from vq_jax import cli
from vq_jax.errors import UserError

if TYPE_CHECKING:
    from vq_jax.tasks.task import State
    from vq_jax.training.progress import Progress
    from vq_jax.training.run_dir import Extension

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run is kept; resumed if it is there.')
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
    numbers = train(
        config,
        workdir,
        init_from=_INIT_FROM.value,
        init_from_step=cli.checkpoint_step(_INIT_FROM_STEP),
        extend_schedule=_EXTEND_SCHEDULE.value,
        allow=_ALLOW_IMPORT.value,
    )
    console = make_console(quiet=jax.process_index() != 0)
    if numbers is None:
        console.print('stopped and saved; run the same command again to go on.')
        return
    title = f'{config.data.name} {config.data.eval_split} after {config.steps:,} steps'
    print_table(console, title, numbers)
    console.print(f'images:   {workdir / "images"}', soft_wrap=True)
    console.print(f'log:      {workdir / "metrics.jsonl"}', soft_wrap=True)


def train(
    config: ConfigDict,
    workdir: str | Path,
    *,
    init_from: str | Path | None = None,
    init_from_step: int | Literal['best'] | None = None,
    extend_schedule: 'Extension | None' = None,
    allow: Sequence[str] = (),
) -> dict[str, float] | None:
    """Trains the model of a full config in a directory, from where the directory stands.

    Args:
        config: complete (see `vq_jax.tasks.complete_config`).
        workdir: made if it is not there.
        init_from: the directory of another run, whose weights a new run begins with as far as names and
            shapes are the same (see `vq_jax.tasks.init_from`). The run remembers it.
        init_from_step: the checkpoint of that run; None is the newest, 'best' as for `vq_jax.load`.
        extend_schedule: what becomes of the schedules of the learning rates where a run that is there is
            made longer: 'hold' leaves the rates where they end, 'stretch' makes the schedules for the new
            length, from the step on at which the run goes on. None refuses to make a run longer if a
            rate depends on its length.
        allow: modules that runs which this one is built on may import, as for `vq_jax.load`; those that the
            config itself names need not be among them.

    Returns:
        The numbers of the last evaluation, or None if a signal stopped the run before its end.

    Raises:
        UserError: for what the user can mend; what the directory holds of a run stays as it was.
    """
    import jax

    from vq_jax.training.extensions import allowing, named_modules
    from vq_jax.training.progress import Progress

    # Asking which process this is would start the devices, which takes a while.
    first = not jax.distributed.is_initialized() or jax.process_index() == 0
    with allowing([*allow, *named_modules(config)]), Progress(active=first) as progress:
        return _train(config, workdir, progress, init_from, init_from_step, extend_schedule)


def _train(
    config: ConfigDict,
    workdir: str | Path,
    progress: 'Progress',
    init_from: str | Path | None,
    init_from_step: int | Literal['best'] | None,
    extend_schedule: 'Extension | None',
) -> dict[str, float] | None:
    progress.doing('reading libraries')
    import jax

    from vq_jax.data import DataConfig, open_dataset, train_batches
    from vq_jax.evaluators.means import MeanEvaluator
    from vq_jax.tasks import make_task
    from vq_jax.tasks.classes import check_class_names
    from vq_jax.tasks.init_from import arrays_of_other_classes, check_source, reopen_source, take_weights
    from vq_jax.tasks.restore import begun_config, config_of, identities, keep_built_on, restore
    from vq_jax.training.checkpoints import Checkpoints
    from vq_jax.training.config import build, defaults, to_json
    from vq_jax.training.lock import only_writer
    from vq_jax.training.loop import LoopConfig, run_loop
    from vq_jax.training.manifest import fingerprint
    from vq_jax.training.optimizer import schedule_length
    from vq_jax.training.parallel import ParallelConfig, make_engine
    from vq_jax.training.run_dir import (
        CHECKPOINTS,
        DataFacts,
        check_built_on,
        check_published,
        check_same_config,
        facts_to_seal,
        is_run,
        keep_schedule,
        named_anew,
        pin_built_on,
        read_data_facts,
        write_config,
        write_data_facts,
    )
    from vq_jax.training.state import init_state
    from vq_jax.training.writers import MetricWriter

    cli.check_local('workdir', workdir)
    workdir = Path(workdir)
    before = begun_config(workdir)
    new_run = before is None
    if init_from_step is not None and init_from is None:
        raise UserError('--init_from_step is given without --init_from; give both, or leave it out.')
    if new_run and extend_schedule:
        raise UserError(f'there is no run in {workdir} whose schedule could be extended; leave that out.')
    if not new_run:
        config = keep_schedule(before, config, extend_schedule)
        check_same_config(workdir, before, to_json(config), extend_schedule)
        check_source(workdir, init_from, init_from_step)
    plain = to_json(config)

    progress.doing('starting the devices')
    progress.line(f'devices: {jax.device_count()} x {jax.devices()[0].device_kind}')
    loop = build(LoopConfig, {k: config[k] for k in defaults(LoopConfig)}, '')
    engine = make_engine(build(ParallelConfig, config.parallel, 'parallel'), loop.batch_size)
    data = build(DataConfig, config.data, 'data')
    progress.doing(f'reading {data.name}')
    train_set = open_dataset(data, data.train_split, prepare=True)
    eval_set = open_dataset(data, data.eval_split, prepare=True)
    progress.line(
        f'data: {data.name}, {len(train_set):,} examples of {data.train_split} to learn from and '
        f'{len(eval_set):,} of {data.eval_split} to evaluate on'
    )
    progress.doing(f'making the model of the task {config.task}')
    pinned, class_names = config, train_set.class_names
    if not new_run:
        recorded = to_json(config_of(workdir)) if is_run(workdir) else before
        pinned = pin_built_on(config, workdir, named_anew(recorded, config))
        class_names = read_data_facts(workdir).class_names
    task = make_task(pinned, train_set.image_shape, train_set.num_classes, class_names)
    for dataset in (train_set, eval_set):
        if task.classes_read:
            check_class_names(class_names, dataset, train_set.name if new_run else f'the run {workdir}')
        task.check_dataset(dataset)
    if not new_run:
        check_built_on(workdir, identities(task))

    first = jax.process_index() == 0
    batches = functools.partial(
        train_batches,
        train_set,
        batch_size=loop.step_size,
        seed=loop.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    init_key, start_key = jax.random.split(jax.random.key(loop.seed))
    pretrained = task.pretrained()
    published = fingerprint(pretrained) if task.reads_published else None
    if not new_run:
        check_published(workdir, published)
    source = restore(init_from, init_from_step) if new_run and init_from is not None else None
    pretrained = engine.place(pretrained)
    state = engine.place(init_state(task.init, init_key, train_set.image_shape))
    progress.line(f'parameters: {_sizes(state)}')
    if new_run:
        facts = DataFacts(
            image_shape=train_set.image_shape,
            num_classes=train_set.num_classes,
            built_on=identities(task),
            published=published,
            class_names=class_names,
            init_from=source and source.identity(),
        )
    else:
        facts = read_data_facts(workdir)
    leave_out = source and arrays_of_other_classes(source, pinned, task, facts)
    # From here on the directory is written to.
    with only_writer(workdir) if first else contextlib.nullcontext():
        if first and begun_config(workdir) != before:
            raise UserError(
                f'another process has begun or changed the run in {workdir} meanwhile; start again to go on '
                'with it, or choose another --workdir.'
            )
        keep_built_on(task, workdir, anew=new_run)
        checkpoints = Checkpoints(
            workdir / CHECKPOINTS,
            keep=loop.keep_checkpoints,
            best=loop.best_metric,
            best_mode=loop.best_mode,
            sealed={'config': plain, 'data': facts_to_seal(facts)},
        )
        progress.doing('looking for checkpoints')
        restored = checkpoints.restore(state)
        if restored is None:
            start = 0
            if not new_run:
                progress.line(f'{workdir} has no checkpoint to go on from; the run, and its log, begin anew')
                source = reopen_source(workdir)
                leave_out = source and arrays_of_other_classes(source, pinned, task, facts)
            if source is not None:
                state, taken = take_weights(source.state, state, leave_out)
                state = engine.place(state)
                progress.line(f'begins with step {source.step} of {source.workdir}; {"; ".join(taken)}')
            progress.doing('looking at the first batches')
            state = task.start_from_data(start_key, state, batches(), engine)
            if source is not None:  # of what was taken, the data change nothing
                state, _ = take_weights(source.state, state, leave_out)
                state, source = engine.place(state), None
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
            if first and new_run:
                write_data_facts(workdir, facts)
            if first:
                write_config(workdir, plain)
            if start:
                progress.line(f'resumed at step {start}')
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


def _sizes(state: 'State') -> str:
    """How many parameters learn, in words."""
    from vq_jax.training.state import TwoPlayerState, count_parameters

    if not isinstance(state, TwoPlayerState):
        return f'{count_parameters(state.params):,}'
    players = {'generator': state.generator, 'discriminator': state.discriminator}
    return ' and '.join(f'{count_parameters(p.params):,} of the {name}' for name, p in players.items())


if __name__ == '__main__':
    cli.main(
        main,
        required=('config', 'workdir'),
        save_memory='set a smaller config.batch_size with a larger config.accumulate, a smaller model or '
        'dtype=bfloat16 in its section, in another --workdir',
    )

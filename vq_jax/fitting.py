"""An experiment, made of its config, and its training in a run directory.

config = default_config('vqvae')
metrics = vq_jax.fit(vq_jax.Experiment.build(config), 'runs/mine')
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from ml_collections import ConfigDict

from vq_jax.cli import check_local
from vq_jax.data import AnyDataset, DataConfig, open_dataset, train_batches
from vq_jax.errors import UserError
from vq_jax.evaluators.means import MeanEvaluator
from vq_jax.tasks import complete_config, make_task
from vq_jax.tasks.classes import check_class_names
from vq_jax.tasks.init_from import arrays_of_other_classes, open_source, reopen_source, take_weights
from vq_jax.tasks.restore import Restored, identities, keep_built_on
from vq_jax.tasks.resume import Begun
from vq_jax.tasks.task import State, Task
from vq_jax.training.checkpoints import Checkpoints
from vq_jax.training.config import build, defaults, to_json
from vq_jax.training.extensions import allowing, named_modules
from vq_jax.training.lock import only_writer
from vq_jax.training.loop import LoopConfig, run_loop
from vq_jax.training.manifest import fingerprint
from vq_jax.training.optimizer import schedule_length
from vq_jax.training.parallel import Batch, Engine, ParallelConfig, make_engine
from vq_jax.training.progress import Progress
from vq_jax.training.run_dir import (
    CHECKPOINTS,
    DataFacts,
    Extension,
    check_published,
    facts_to_seal,
    write_config,
    write_data_facts,
)
from vq_jax.training.state import count_parameters, init_state
from vq_jax.training.writers import MetricWriter


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a config describes, ready to be trained.

    Attributes:
        config: complete.
        loop: how long training is, and what it leaves behind.
        engine: runs steps on the devices.
        train_set: the examples to learn from.
        eval_set: those to evaluate on.
        task: what is learned.
        workdir: the directory that it was built for; None for one without a run.
        begun: the run there that training goes on with; None for a new one.
        extend_schedule: what becomes of the schedules of that run.
        allow: modules that runs which it is built on may import.
    """

    config: ConfigDict
    loop: LoopConfig
    engine: Engine
    train_set: AnyDataset
    eval_set: AnyDataset
    task: Task
    workdir: Path | None
    begun: Begun | None
    extend_schedule: Extension | None
    allow: frozenset[str]

    @classmethod
    def build(
        cls,
        config: ConfigDict,
        workdir: str | Path | None = None,
        *,
        extend_schedule: Extension | None = None,
        allow: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> 'Experiment':
        """Makes data, task and engine of a config; nothing is trained or written.

        Args:
            config: such as `vq_jax.tasks.default_config` returns; keys that it lacks have their defaults.
            workdir: where it is to be trained. Of a run that was begun there, the copies of what it is built
                on are used, and the lengths of its schedules.
            extend_schedule: what becomes of the schedules of the learning rates where that run is made
                longer: 'hold' leaves the rates where they end, 'stretch' makes the schedules for the new
                length, from the step on at which the run goes on. None refuses to make a run longer if a
                rate depends on its length.
            allow: modules that runs which this one is built on may import, as for `vq_jax.load`; those that
                the config itself names need not be among them.
            progress: shows what is being done; None shows nothing.

        Raises:
            UserError: for what the user can mend.
        """
        progress = progress or Progress(active=False)
        if workdir is not None:
            check_local('workdir', workdir)
            workdir = Path(workdir)
        allow = frozenset(allow) | named_modules(config)
        with allowing(allow):
            begun = workdir and Begun.find(workdir)
            if begun is None and extend_schedule:
                raise UserError(
                    f'there is no run in {workdir} whose schedule could be extended; leave that out.'
                )
            config = complete_config(config)
            config = begun.going_on(config, extend_schedule) if begun else config
            progress.doing('starting the devices')
            progress.line(f'devices: {jax.device_count()} x {jax.devices()[0].device_kind}')
            loop = build(LoopConfig, {key: config[key] for key in defaults(LoopConfig)}, '')
            engine = make_engine(build(ParallelConfig, config.parallel, 'parallel'), loop.batch_size)
            data = build(DataConfig, config.data, 'data')
            progress.doing(f'reading {data.name}')
            train_set, eval_set = (
                open_dataset(data, split, prepare=True) for split in (data.train_split, data.eval_split)
            )
            progress.line(
                f'data: {data.name}, {len(train_set):,} examples of {data.train_split} to learn from and '
                f'{len(eval_set):,} of {data.eval_split} to evaluate on'
            )
            progress.doing(f'making the model of the task {config.task}')
            class_names = begun.facts.class_names if begun else train_set.class_names
            pinned = begun.pinned(config) if begun else config
            task = make_task(pinned, train_set.spec, train_set.num_classes, class_names)
            for dataset in (train_set, eval_set):
                if task.classes_read:
                    learned = f'the run {begun.workdir}' if begun else train_set.name
                    check_class_names(class_names, dataset, learned)
                task.check_dataset(dataset)
            if begun:
                begun.check_task(task)
        return cls(config, loop, engine, train_set, eval_set, task, workdir, begun, extend_schedule, allow)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """This process's share of the training batches, from that of a step on."""
        return train_batches(
            self.train_set,
            batch_size=self.loop.step_size,
            seed=self.loop.seed,
            start=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def train_steps(self) -> Callable[[int], Any]:
        """A function that gives the compiled step for a step counted from 0; one for each of its phases."""

        @functools.cache
        def compiled(phase: str) -> Any:
            named = {'phase': phase} if phase else {}
            return self.engine.train_step(functools.partial(self.task.train_step, **named))

        return lambda step: compiled(self.task.phase(step))

    def facts(self, published: str | None, source: Restored | None) -> DataFacts:
        """What the run directory says of the data and of other weights: of a run that was begun, as it does.

        Args:
            published: checksum of the published weights that are learned with; None if there are none.
            source: the run whose weights a new one begins with, if there is one.

        Raises:
            UserError: the run was begun with other published weights.
        """
        if self.begun:
            check_published(self.begun.workdir, published)
            return self.begun.facts
        return DataFacts(
            spec=self.train_set.spec,
            num_classes=self.train_set.num_classes,
            built_on=identities(self.task),
            published=published,
            class_names=self.train_set.class_names,
            init_from=source and source.identity(),
        )


def fit(
    experiment: Experiment,
    workdir: str | Path,
    *,
    init_from: str | Path | None = None,
    init_from_step: int | Literal['best'] | None = None,
    progress: Progress | None = None,
) -> dict[str, float] | None:
    """Trains in a directory, from where the directory stands.

    Args:
        experiment: what to train.
        workdir: made if it is not there; a run in it is gone on with.
        init_from: the directory of another run, whose weights a new run begins with as far as names and
            shapes are the same (see `vq_jax.tasks.init_from`). The run remembers it.
        init_from_step: the checkpoint of that run; None is the newest, 'best' as for `vq_jax.load`.
        progress: shows how far it is; None makes one.

    Returns:
        The metrics of the last evaluation, or None if a signal stopped the run before its end.

    Raises:
        UserError: for what the user can mend; what the directory holds of a run stays as it was.
    """
    check_local('workdir', workdir)
    workdir, first = Path(workdir), jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(allowing(experiment.allow))
        progress = progress or stack.enter_context(Progress(active=first))
        if experiment.workdir != workdir and (experiment.begun or Begun.find(workdir)):
            allow = tuple(experiment.allow)
            experiment = Experiment.build(experiment.config, workdir, allow=allow, progress=progress)
        task, engine, loop, begun = experiment.task, experiment.engine, experiment.loop, experiment.begun
        source = open_source(workdir, init_from, init_from_step, begun=begun is not None)
        frozen = task.pretrained()
        published = fingerprint(frozen) if task.reads_published else None
        facts, plain = experiment.facts(published, source), to_json(experiment.config)
        others = source and arrays_of_other_classes(source, experiment.config, task, facts)
        frozen = engine.put_state(frozen)
        init_key, start_key = jax.random.split(jax.random.key(loop.seed))
        state = engine.put_state(init_state(task.init, init_key, experiment.train_set.spec))
        progress.line(f'parameters: {_sizes(state)}')

        # From here on the directory is written to.
        if first:
            stack.enter_context(only_writer(workdir))
            _check_nobody_else(experiment, workdir)
        keep_built_on(task, workdir, anew=not begun)
        checkpoints = Checkpoints(
            workdir / CHECKPOINTS,
            keep=loop.keep_checkpoints,
            best=loop.best_metric,
            best_mode=loop.best_mode,
            sealed={'config': plain, 'data': facts_to_seal(facts)},
        )
        state, start = _restore_or_begin(experiment, checkpoints, state, source, others, start_key, progress)
        del source  # whose arrays are not held while the run goes on
        evaluator = MeanEvaluator(task, engine, experiment.eval_set, loop.batch_size, loop.num_shown)
        writer = MetricWriter(
            workdir, resume_step=start, wandb_project=loop.wandb_project, config=plain, active=first
        )
        with writer, checkpoints:  # what was saved and logged before an error is kept
            if first and not begun:
                write_data_facts(workdir, facts)
            if first:
                write_config(workdir, plain)
            if warning := _stretched(experiment):
                writer.warning(start, warning)
            _, evaluation = run_loop(
                loop,
                train_step=experiment.train_steps(),
                engine=engine,
                state=state.replace(frozen=frozen),
                batches=experiment.batches(start),
                evaluate=evaluator.run,
                watch=task.watch,
                checkpoints=checkpoints,
                writer=writer,
                progress=progress,
            )
    return None if evaluation is None else evaluation.metrics


def _check_nobody_else(experiment: Experiment, workdir: Path) -> None:
    """Refuses a directory in which another process has trained since the experiment was built."""
    if Begun.find(workdir) != experiment.begun:
        raise UserError(
            f'another process has begun or changed the run in {workdir} meanwhile; start again to go on '
            'with it, or choose another --workdir.'
        )


def _restore_or_begin(
    experiment: Experiment,
    checkpoints: Checkpoints,
    state: State,
    source: Restored | None,
    others: dict[str, set[str]] | None,
    key: jax.Array,
    progress: Progress,
) -> tuple[State, int]:
    """The state of the newest checkpoint, or else the one before the first step; and its step.

    The latter is a new state with the weights of another run, if there is one, but for arrays of `others`
    (see `arrays_of_other_classes`), and what the data say.
    """
    task, engine, begun = experiment.task, experiment.engine, experiment.begun
    progress.doing('looking for checkpoints')
    if restored := checkpoints.restore(state):
        _, state, position = restored
        progress.line(f'resumed at step {position["batches"]}')
        return engine.put_state(state), position['batches']
    if begun:
        progress.line(f'{begun.workdir} has no checkpoint to go on from; the run, and its log, begin anew')
        source = reopen_source(begun.workdir)
        pinned = begun.pinned(experiment.config)
        others = source and arrays_of_other_classes(source, pinned, task, begun.facts)
    if source is not None:
        state, taken = take_weights(source.state, state, others)
        state = engine.put_state(state)
        progress.line(f'begins with step {source.step} of {source.workdir}; {"; ".join(taken)}')
    progress.doing('looking at the first batches')
    state = task.init_from_data(key, state, experiment.batches(), engine)
    if source is not None:  # of what was taken, the data change nothing
        state = engine.put_state(take_weights(source.state, state, others)[0])
    return state, 0


def _stretched(experiment: Experiment) -> str | None:
    """A warning where the schedules of a run are made for another length from here on."""
    if experiment.extend_schedule != 'stretch':
        return None
    before, now = schedule_length(experiment.begun.config), schedule_length(to_json(experiment.config))
    if before == now:
        return None
    return (
        f'the schedules of the learning rates are made for {now} steps from here on, and were for {before}.'
    )


def _sizes(state: State) -> str:
    """How many parameters learn, in words."""
    sizes = {name: f'{count_parameters(network.params):,}' for name, network in state.networks.items()}
    if len(sizes) == 1:
        return next(iter(sizes.values()))
    return ' and '.join(f'{size} of the {name}' for name, size in sizes.items())

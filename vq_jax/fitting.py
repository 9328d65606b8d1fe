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

from vq_jax.buckets import by_address, is_address
from vq_jax.cli import check_local
from vq_jax.data import DataConfig, Dataset, open_dataset, train_batches
from vq_jax.errors import UserError
from vq_jax.evaluators.means import MeanEvaluator
from vq_jax.extensions import allowing, named_modules
from vq_jax.locks import only_writer
from vq_jax.tasks import complete_config, make_task
from vq_jax.tasks.classes import check_class_names
from vq_jax.tasks.init_from import (
    arrays_of_other_classes,
    check_same_texts,
    open_source,
    reopen_source,
    take_weights,
)
from vq_jax.tasks.restore import Restored, identities, keep_built_on
from vq_jax.tasks.resume import Begun
from vq_jax.tasks.task import State, Task
from vq_jax.training.bucket_runs import fetcher, local_run
from vq_jax.training.checkpoints import Checkpoints
from vq_jax.training.config import build, defaults, to_json
from vq_jax.training.loop import LoopConfig, run_loop
from vq_jax.training.manifest import fingerprint
from vq_jax.training.mirror import Mirror
from vq_jax.training.optimizer import schedule_length
from vq_jax.training.parallel import Batch, Engine, ParallelConfig, TrainStep, make_engine, this_process
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
from vq_jax.training.state import count_parameters
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
    train_set: Dataset
    eval_set: Dataset
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
            workdir: where it is to be trained, as for `fit`. Of a run that was begun there, the copies of
                what it is built on are used, and the lengths of its schedules.
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
            with by_address():
                workdir = local_run(workdir) if is_address(workdir) else check_local('workdir', workdir)
        allow = frozenset(allow) | named_modules(config)
        with allowing(allow):
            begun = Begun.find(workdir) if workdir else None
            if extend_schedule and not begun:
                raise UserError(
                    f'there is no run in {workdir} whose schedule could be extended; leave that out.'
                )
            config = complete_config(config)
            config = begun.going_on(config, extend_schedule) if begun else config
            progress.doing('starting the devices')
            progress.line(f'devices: {jax.device_count()} x {jax.devices()[0].device_kind}')
            loop = build(LoopConfig, {key: config[key] for key in defaults(LoopConfig)}, '')
            engine = make_engine(build(ParallelConfig, config.parallel, 'parallel'), loop.batch_size)
            train_set, eval_set = _open_data(config, progress, begun)
            progress.doing(f'making the model of the task {config.task}')
            task = _make_task(config, train_set, eval_set, begun)
        return cls(config, loop, engine, train_set, eval_set, task, workdir, begun, extend_schedule, allow)

    def built_for(self, workdir: Path, progress: Progress) -> 'Experiment':
        """This experiment, or one of its config that knows the run in a directory it was not built for."""
        if self.workdir == workdir or not (self.begun or Begun.find(workdir)):
            return self
        options = {'extend_schedule': self.extend_schedule, 'allow': tuple(self.allow)}
        return Experiment.build(self.config, workdir, progress=progress, **options)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """This process's share of the training batches, from that of a step on."""
        size, seed = self.loop.step_size, self.loop.seed
        return train_batches(self.train_set, batch_size=size, seed=seed, start=start, **this_process())

    def train_steps(self) -> Callable[[int], TrainStep]:
        """A function that gives the compiled step for a step counted from 0; one for each of its phases."""

        @functools.cache
        def compiled(phase: str) -> TrainStep:
            named = {'phase': phase} if phase else {}
            return self.engine.train_step(functools.partial(self.task.train_step, **named))

        return lambda step: compiled(self.task.phase(step))

    def facts(self, frozen: Any, source: Restored | None) -> DataFacts:
        """What the run directory says of the data and of other weights: of a run that was begun, as it does.

        Args:
            frozen: the task's weights from elsewhere.
            source: the run whose weights a new one begins with, if there is one.

        Raises:
            UserError: the run was begun with other published weights.
        """
        published = fingerprint(frozen) if self.task.reads_published else None
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

    def checkpoints(self, workdir: Path, facts: DataFacts, mirror: Mirror | None = None) -> Checkpoints:
        """Those of a run directory, each of which says what the run is, and of its mirror, if any."""
        return Checkpoints(
            workdir / CHECKPOINTS,
            keep=self.loop.keep_checkpoints,
            best=self.loop.best_metric,
            best_mode=self.loop.best_mode,
            sealed={'config': to_json(self.config), 'data': facts_to_seal(facts)},
            fetch=fetcher(workdir),
            kept_in=mirror,
            shared=mirror is None,
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
        workdir: made if it is not there; a run in it is gone on with. The address of a folder in a bucket
            is one too (see `vq_jax.training.mirror`).
        init_from: the directory of another run, whose weights a new run begins with as far as names and
            shapes are the same (see `vq_jax.tasks.init_from`). The run remembers it.
        init_from_step: the checkpoint of that run; None is the newest, 'best' as for `vq_jax.load`.
        progress: shows how far it is; None makes one.

    Returns:
        The metrics of the last evaluation, or None if a signal stopped the run before its end.

    Raises:
        UserError: for what the user can mend; what the directory holds of a run stays as it was.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(allowing(experiment.allow))
        progress = progress or stack.enter_context(Progress(active=jax.process_index() == 0))
        mirror = None
        if is_address(workdir):
            stack.enter_context(by_address())
            progress.doing(f'copying {workdir}')
            mirror = stack.enter_context(Mirror(workdir).held())
        workdir = mirror.local if mirror else check_local('workdir', workdir)
        experiment = experiment.built_for(workdir, progress)
        task, engine = experiment.task, experiment.engine
        source = open_source(workdir, init_from, init_from_step, begun=experiment.begun is not None)
        frozen = task.pretrained()
        facts = experiment.facts(frozen, source)
        if source:
            check_same_texts(source, task, facts)
        others = source and arrays_of_other_classes(source, experiment.config, task, facts)
        frozen, state = engine.put_state(frozen), _new_state(experiment, progress)
        # From here on the directory is written to.
        stack.enter_context(_only_process(experiment, workdir))
        keep_built_on(task, workdir, anew=not experiment.begun, shared=mirror is None)
        checkpoints = experiment.checkpoints(workdir, facts, mirror)
        state, start = _restore_or_begin(experiment, checkpoints, state, source, others, progress)
        del source  # whose arrays are not held while the run goes on
        state = state.replace(frozen=frozen)
        # What is logged and saved before an error is kept.
        with _open_log(experiment, workdir, facts, start) as log, checkpoints:
            loop, eval_set = experiment.loop, experiment.eval_set
            _, evaluation = run_loop(
                loop,
                train_step=experiment.train_steps(),
                engine=engine,
                state=state,
                batches=experiment.batches(start),
                evaluate=MeanEvaluator(task, engine, eval_set, loop.batch_size, loop.num_shown).run,
                watch=task.watch,
                watch_evaluation=task.watch_evaluation,
                checkpoints=checkpoints,
                writer=log,
                progress=progress,
            )
            return None if evaluation is None else evaluation.metrics


def _open_data(config: ConfigDict, progress: Progress, begun: Begun | None) -> tuple[Dataset, Dataset]:
    """The examples to learn from, and those to evaluate on; of text, both of the tokens of a begun run."""
    data = build(DataConfig, config.data, 'data')
    progress.doing(f'reading {data.name}')
    tokens = begun.facts.spec.tokens if begun else None
    train_set = open_dataset(data, data.train_split, prepare=True, tokens=tokens)
    eval_set = open_dataset(data, data.eval_split, prepare=True, tokens=train_set.spec.tokens)
    progress.line(
        f'data: {data.name}, {len(train_set):,} examples of {data.train_split} to learn from and '
        f'{len(eval_set):,} of {data.eval_split} to evaluate on'
    )
    return train_set, eval_set


def _make_task(config: ConfigDict, train_set: Dataset, eval_set: Dataset, begun: Begun | None) -> Task:
    """The task of a config, whose data and what it is built on are known to fit it and the run."""
    class_names = begun.facts.class_names if begun else train_set.class_names
    pinned = begun.pinned(config) if begun else config
    task = make_task(pinned, train_set.spec, train_set.num_classes, class_names)
    for dataset in (train_set, eval_set):
        if task.classes_read:
            check_class_names(class_names, dataset, f'the run {begun.workdir}' if begun else train_set.name)
        task.check_dataset(dataset)
        task.check_vectors_read(dataset)
    if begun:
        begun.check_task(task)
    return task


def _new_state(experiment: Experiment, progress: Progress) -> State:
    """The state of the run's seed, on the devices."""
    key, _ = _keys(experiment)
    state = experiment.engine.init_state(experiment.task.init, key, experiment.train_set.spec)
    sizes = {name: f'{count_parameters(network.params):,}' for name, network in state.networks.items()}
    one, *more = sizes.values()
    shown = ' and '.join(f'{size} of the {name}' for name, size in sizes.items()) if more else one
    progress.line(f'parameters: {shown}')
    return state


def _keys(experiment: Experiment) -> jax.Array:
    """The random keys [2] that the parameters, and what is learned from the first batches, begin with."""
    return jax.random.split(jax.random.key(experiment.loop.seed))


@contextlib.contextmanager
def _only_process(experiment: Experiment, workdir: Path) -> Iterator[None]:
    """Keeps others out of a directory; refuses one in which they trained since the experiment was built."""
    if jax.process_index() != 0:
        yield
        return
    with only_writer(workdir):
        if Begun.find(workdir) != experiment.begun:
            raise UserError(
                f'another process has begun or changed the run in {workdir} meanwhile; start again to go on '
                'with it, or choose another --workdir.'
            )
        yield


def _restore_or_begin(
    experiment: Experiment,
    checkpoints: Checkpoints,
    state: State,
    source: Restored | None,
    others: dict[str, set[str]] | None,
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
    if source:
        state, taken = take_weights(source.state, state, others)
        state = engine.put_state(state)
        progress.line(f'begins with step {source.step} of {source.workdir}; {"; ".join(taken)}')
    progress.doing('looking at the first batches')
    _, key = _keys(experiment)
    state = task.init_from_data(key, state, experiment.batches(), engine)
    if source:  # of what was taken, the data change nothing
        state = engine.put_state(take_weights(source.state, state, others)[0])
    return state, 0


@contextlib.contextmanager
def _open_log(experiment: Experiment, workdir: Path, facts: DataFacts, start: int) -> Iterator[MetricWriter]:
    """The log of a run as far as a step, in a directory that says what the run is."""
    begun, config, first = experiment.begun, to_json(experiment.config), jax.process_index() == 0
    project = experiment.loop.wandb_project
    with MetricWriter(workdir, resume_step=start, wandb_project=project, config=config, active=first) as log:
        if first and not begun:
            write_data_facts(workdir, facts)
        if first:
            write_config(workdir, config)
        before, now = schedule_length(begun.config if begun else config), schedule_length(config)
        if experiment.extend_schedule == 'stretch' and before != now:
            log.warning(
                start,
                f'the schedules of the learning rates are made for {now} steps from here on, and were for '
                f'{before}.',
            )
        yield log

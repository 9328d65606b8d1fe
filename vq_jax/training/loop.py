"""The one loop: steps, logs, evaluations and checkpoints, for every task."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax

from vq_jax.errors import UserError, check_least
from vq_jax.training.checkpoints import Checkpoints
from vq_jax.training.finite import not_finite, some
from vq_jax.training.manifest import flatten
from vq_jax.training.parallel import Batch, Engine, TrainStep, ahead
from vq_jax.training.progress import Progress, peak_memory
from vq_jax.training.stopping import stop_signal
from vq_jax.training.writers import MetricWriter

# Steps that the devices may have before them: so many that they need not wait for the host, and so few that
# the bar tells the truth and a signal to stop is soon obeyed.
_AHEAD = 4

_OPTIMIZERS = ('optimizer', 'discriminator_optimizer')  # their sections in the config
_OF_DISCRIMINATOR = ('discriminator_loss', 'discriminator_gradient_norm')


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long a run is and what it leaves behind. Counts are of training steps.

    Attributes:
        seed: a run is a function of its config and this number.
        steps: the length of the run.
        schedule_steps: the length that the schedules of learning rates are made for, after which rates stay
            as they are; None is that of the run.
        batch_size: examples that are computed at once, over all devices.
        accumulate: a step's batch is this many times `batch_size`: so many parts, whose gradients are
            computed one after another and averaged, then one update. It learns what the whole batch at once
            would teach it, in the memory of one part.
        log_every: steps between lines of the log.
        eval_every: steps between evaluations; one is always made at the end.
        num_shown: how many examples an evaluation shows.
        checkpoint_every: steps between checkpoints; one is always saved at the end.
        keep_checkpoints: how many of the newest are kept.
        best_metric: the metric of evaluations whose lowest (or highest, see `best_mode`) checkpoint is
            kept as well, or None. Where there is one, each evaluation saves a checkpoint.
        best_mode: 'min' or 'max'.
        wandb_project: a Weights & Biases project to log to, besides the run directory.
    """

    seed: int = 0
    steps: int = 10_000
    schedule_steps: int | None = None
    batch_size: int = 64
    accumulate: int = 1
    log_every: int = 100
    eval_every: int = 1000
    num_shown: int = 8
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    best_metric: str | None = 'loss'
    best_mode: Literal['min', 'max'] = 'min'
    wandb_project: str | None = None

    @property
    def step_size(self) -> int:
        """Examples of a step, over all devices."""
        return self.batch_size * self.accumulate

    def __post_init__(self) -> None:
        check_least(0, self, 'seed')
        check_least(1, self, 'steps', 'schedule_steps', 'batch_size', 'accumulate', 'num_shown')
        check_least(1, self, 'log_every', 'eval_every', 'checkpoint_every', 'keep_checkpoints')


def run_loop(
    config: LoopConfig,
    *,
    train_step: Callable[[int], TrainStep],
    engine: Engine,
    state: Any,
    batches: Iterator[Batch],
    evaluate: Callable[[Any], Any],
    watch: Callable[[dict[str, float]], str | None],
    watch_evaluation: Callable[[dict[str, float]], str | None],
    checkpoints: Checkpoints,
    writer: MetricWriter,
    progress: Progress,
) -> tuple[Any, Any]:
    """Trains from `state.step` to `config.steps`, or to a signal to stop.

    Nothing is fetched from the devices but at steps that log, evaluate or save. Only a state that is all
    finite is evaluated and saved.

    Args:
        config: how long, and how often to do what.
        train_step: gives the function, compiled by `engine`, for a step counted from 0; it donates its
            state.
        engine: puts batches on the devices.
        state: the state to begin with.
        batches: host batches, from the one of this step on.
        evaluate: gives the `Evaluation` of a state.
        watch: gives a warning for the metrics of a step, or None.
        watch_evaluation: gives one for those of an evaluation, or None.
        checkpoints: where states are saved.
        writer: where metrics, warnings and images go.
        progress: shows them to the user.

    Returns:
        The last state, and its evaluation; None instead if a signal stopped the run before the end.

    Raises:
        UserError: if a loss, a gradient or anything in the state is not finite, or the data cannot be read
            on, where what was learned until then is saved.
    """
    step = int(state.step)
    progress.begin(step, config.steps)
    queue = ahead(batches, engine)
    recent: list[dict[str, jax.Array]] = []  # metrics since the last check, on the devices
    compiled = set()
    clock = _Clock()
    saved = step  # nothing was learned since

    def save(metrics: dict[str, float] | None) -> None:
        nonlocal saved
        progress.doing('saving')
        writer.sync()
        checkpoints.save(step, state.replace(frozen=None), {'batches': step}, metrics)
        saved = step

    @contextlib.contextmanager
    def keeping() -> Iterator[None]:
        try:
            yield
        except UserError as error:  # as of a worker that died: what was learned is kept
            if step == saved or jax.process_count() > 1:  # where the others would not save with this one
                raise
            _fetch_finite(recent, state.replace(frozen=None), step, checkpoints)
            save(None)
            checkpoints.wait()
            raise UserError(f'{error} What was learned until step {step} is saved.') from error

    def next_batch() -> Batch:
        with keeping():
            return next(queue)

    def evaluated() -> Any:
        progress.doing('evaluating')
        with keeping():
            return evaluate(state)

    def warn(split: str, warning: str | None) -> None:
        progress.warn(step, split, warning)
        if warning:
            writer.warning(step, warning)

    if step == config.steps:
        return state, evaluated()
    with stop_signal() as stop_after:
        _check_start(state, step)
        while step < config.steps:
            take_step = train_step(step)
            if take_step in compiled:
                with clock.waiting():
                    batch = next_batch()
                state, metrics = take_step(state, batch)
            else:
                progress.doing('compiling the training step')
                start = time.perf_counter()
                state, metrics = jax.block_until_ready(take_step(state, next_batch()))
                seconds = time.perf_counter() - start
                clock.leave_out(seconds)
                progress.line(f'compiled, and one step made, in {seconds:.1f} s')
                compiled.add(take_step)
            step += 1
            recent.append(metrics)
            if len(recent) > _AHEAD:
                jax.block_until_ready(recent[-1 - _AHEAD])
            progress.step(step)

            last = step == config.steps
            stopped = stop_after(step)
            log = last or step % config.log_every == 0
            evaluating = last or step % config.eval_every == 0
            saving = last or stopped or step % config.checkpoint_every == 0
            saving |= evaluating and config.best_metric is not None
            if not (log or evaluating or saving):
                continue

            learned = state.replace(frozen=None) if evaluating or saving else ()
            values = _fetch_finite(recent, learned, step, checkpoints)
            if log:
                speed = clock.speed(len(recent), config.step_size) | peak_memory()
                writer.scalars(step, 'train', values)
                if speed:
                    writer.scalars(step, 'speed', speed)
                progress.update(step, values, speed)
                warn('train', watch(values))
            recent = []
            evaluation = None
            if evaluating:
                evaluation = evaluated()
                writer.scalars(step, 'eval', evaluation.metrics)
                for name, media in evaluation.media.items():
                    writer.media(step, name, media)
                progress.evaluated(step, evaluation.metrics)
                warn('eval', _unknown_best(config, evaluation.metrics))
                warn('evaluation', watch_evaluation(evaluation.metrics))
            if saving:
                save(evaluation.metrics if evaluation else None)
            if stopped and not last:
                break
            clock.restart()
    checkpoints.wait()
    return state, evaluation if step == config.steps else None


def _unknown_best(config: LoopConfig, metrics: dict[str, float]) -> str | None:
    name = config.best_metric
    if name is None or math.isfinite(metrics.get(name, math.nan)):
        return None
    if name in metrics:
        return (
            f'config.best_metric is {name}, which is not finite: {metrics[name]}. This is no best checkpoint.'
        )
    return (
        f'config.best_metric is {name}, which this evaluation does not give; it gives '
        f'{", ".join(metrics)}. No best checkpoint is kept.'
    )


def _check_start(state: Any, step: int) -> None:
    arrays, _ = flatten(state.replace(frozen=None))
    if spoilt := not_finite(arrays):
        raise UserError(
            f'{some(spoilt)} of the state at step {step} is not finite, before anything is learned from it; '
            'check the data, and what the model starts from.'
        )


def _fetch_finite(
    recent: list[dict[str, jax.Array]], learned: Any, step: int, checkpoints: Checkpoints
) -> dict[str, float]:
    """The metrics of the last step, once all since the last check, and what is learned, are finite."""
    fetched = jax.device_get(recent)
    for number, metrics in enumerate(fetched, step - len(fetched) + 1):
        if not all(map(math.isfinite, metrics.values())):
            terms = ', '.join(f'{name} {float(value):.6g}' for name, value in metrics.items())
            what = f'a loss or a gradient is not finite at step {number} ({terms})'
            raise _overflow(what, _at_fault(metrics), checkpoints)
    arrays, _ = flatten(learned)
    if spoilt := not_finite(arrays):
        of_discriminator = all(name.startswith('.discriminator') for name in spoilt)
        what = f'what was learned is not finite after step {step} ({some(spoilt)})'
        raise _overflow(what, _OPTIMIZERS[of_discriminator], checkpoints)
    return {name: float(value) for name, value in fetched[-1].items()} if fetched else {}


def _overflow(what: str, section: str, checkpoints: Checkpoints) -> UserError:
    checkpoints.wait()
    saved = checkpoints.steps()
    where = f'the checkpoint of step {saved[-1]} is from before' if saved else 'none is saved'
    return UserError(
        f'{what}; {where}. Lower config.{section}.learning_rate or set config.{section}.clip_norm, in a new '
        'directory.'
    )


def _at_fault(metrics: dict[str, jax.Array]) -> str:
    """The section of the optimizer whose network was the first to overflow."""
    # A generator that overflows spoils the discriminator's loss too, but its own images before.
    spoilt = not math.isfinite(metrics.get('reconstruction_loss', 0.0))
    of_discriminator = (metrics[name] for name in _OF_DISCRIMINATOR if name in metrics)
    return _OPTIMIZERS[not spoilt and not all(map(math.isfinite, of_discriminator))]


class _Clock:
    """Time since the last restart, and how much of it went into waiting for data, or is not to count."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start, self._waited, self._left_out, self._steps_left_out = time.perf_counter(), 0.0, 0.0, 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def leave_out(self, seconds: float) -> None:
        """Leaves out a step that was compiled, and took so long."""
        self._left_out += seconds
        self._steps_left_out += 1

    def speed(self, steps: int, step_size: int) -> dict[str, float]:
        """Examples per second, seconds per step, share of the time waited, over those of `steps` that count.

        Nothing if none of them does.
        """
        steps -= self._steps_left_out
        if not steps:
            return {}
        elapsed = time.perf_counter() - self._start - self._left_out
        return {
            'examples_per_second': steps * step_size / elapsed,
            'seconds_per_step': elapsed / steps,
            'data_wait_share': self._waited / elapsed,
        }

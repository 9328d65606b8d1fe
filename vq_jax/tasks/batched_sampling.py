"""Samples of a trained task, made on all devices, in batches of one size."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import UserError, on_device
from vq_jax.tasks.task import ChoosesSampling, State, Task
from vq_jax.training.config import build, check_arguments
from vq_jax.training.parallel import Batch, Engine, ParallelConfig, make_engine
from vq_jax.training.progress import track

_MOST_SAMPLES = 10**7  # of a call, with all of which in memory it ends
_MOST_GUIDANCE = 2**20  # of more, a sum in single precision keeps nothing of what is guided


def check_guidance(guidance: float, conditional: bool, dropout: float) -> None:
    """Raises `UserError` if a model is to be guided that was not trained for it, or by too much.

    A guidance of 1 is the model itself, and needs nothing. Any other needs classes, or something else, that
    it is conditioned on, and a share of its training examples that it saw without.
    """
    if on_device('guidance', guidance) == 1:
        return
    if abs(guidance) > _MOST_GUIDANCE:
        raise UserError(
            f'guidance is {guidance}, of which single precision leaves no sample; give a number from '
            f'-{_MOST_GUIDANCE} to {_MOST_GUIDANCE}.'
        )
    if not conditional:
        raise UserError(
            f'guidance is {guidance}, which needs a model that is conditioned on classes; set '
            'config.sampling.guidance=1 or config.model.class_conditional=true.'
        )
    if not dropout:
        raise UserError(
            f'guidance is {guidance}, which needs a model that was also trained without classes; set it to 1 '
            '(config.sampling.guidance), or train one with config.model.label_dropout above 0 (of other '
            'conditions, config.conditioner.dropout; of a captioner, config.model.dropout).'
        )


def check_number(n: int, least: int = 1, most: int = _MOST_SAMPLES, what: str = 'images') -> None:
    """Raises `UserError` if so many examples, which are called so, cannot be sampled at a time."""
    if isinstance(n, bool) or not isinstance(n, Integral) or not least <= n <= most:
        raise UserError(f'{n!r} {what} cannot be sampled; ask for {least} or more, up to {most:,}.')


def sample_keys(seeds: jax.Array, numbers: jax.Array) -> jax.Array:
    """The random key of each sample [b], of its seed and its number, int32 [b]."""
    return jax.vmap(lambda seed, i: jax.random.fold_in(jax.random.key(seed), i))(seeds, numbers)


class BatchedSampler:
    """Calls the methods of a task that make one sample for each random key.

    Sample number i depends on the seed and on i alone, not on how many there are nor on the devices.

    A change of `sampling` may need another compilation. It needs none from one number to another among those
    that the class of `task.sampling` names in `NUMBERS`, with the value of each that leaves something out of
    what is compiled (None if there is no such value).
    """

    def __init__(self, task: Task, state: State, config: ConfigDict) -> None:
        """Takes a task and its state, and the full config of their run."""
        self._task = task
        self._state = state
        self._config = config
        self._compiled = functools.cache(self._compile)  # forgotten with this object

    def batches(
        self,
        method: Callable[..., jax.Array],
        n: int,
        labels: np.ndarray,
        seed: int,
        changes: Mapping[str, Any],
        given: Mapping[str, Any] | Callable[[np.ndarray], Mapping[str, Any]] = MappingProxyType({}),
        constants: Mapping[str, float] = MappingProxyType({}),
        *,
        progress: bool = False,
    ) -> Iterator[np.ndarray]:
        """Makes samples batch by batch, by one compilation for all, so that not all are held at once.

        Args:
            method: of the task, such as `task.sample`; its arguments are the state, a random key for each
                sample, `labels`, what is named in `given` and `constants`, and `sampling` if there are
                changes.
            n: how many.
            labels: int32 [n].
            seed: from 0 to 2^31 - 1.
            changes: other values for keys of the config's section 'sampling'.
            given: arrays with a row for each sample [n ...], or trees of them; or what returns those of a
                batch when its turn comes, given the numbers of its samples, int [b].
            constants: numbers that are the same for all.
            progress: show a bar.

        Yields:
            What the method returns, in batches of one size [b ...]; the last is filled up with samples beyond
            the n-th.
        """
        check_number(n, what='samples')
        if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**31:
            raise UserError(f'the seed is {seed!r}; give a whole number from 0 to {2**31 - 1}.')
        devices = jax.device_count()
        b = -(-min(n, self._config.batch_size) // devices) * devices
        sampling, numbers = _parted(self.sampling(method.__name__, changes))
        compiled = self._compiled(method, sampling, tuple(numbers), b)
        for start in track(range(0, n, b), 'sampling: batch', shown=progress):
            number = np.arange(start, start + b)
            rows = number % n
            arrays = given(rows) if callable(given) else _rows(dict(given), rows)
            batch = {
                'seed': np.full(b, seed),
                'number': number,
                'given': {**arrays, 'labels': labels[rows]},
                'constants': {name: np.full(b, x, np.float32) for name, x in constants.items()},
                'sampling': {name: np.full(b, x, np.float32) for name, x in numbers.items()},
            }
            yield compiled(self._placed, batch)

    def sampling(self, method: str, changes: Mapping[str, Any]) -> Any:
        """How a method of the task is to sample, by the config and changes to it; None without changes.

        A change that changes nothing raises `UserError`.
        """
        if not changes:
            return None
        if not isinstance(self._task, ChoosesSampling):
            raise UserError(
                f'a run of the task {self._config.task} has nothing to choose in sampling; leave out '
                f'{", ".join(changes)}.'
            )
        check_arguments(changes, self._config.sampling, 'sampling')
        section = {**self._config.sampling, **changes}
        sampling = build(type(self._task.sampling), section, 'sampling')
        for name, reason in self._task.unused(sampling, method).items():
            if name in changes:
                raise UserError(f'{name} changes nothing here: {reason}; leave it out.')
        self._task.check_sampling(sampling)
        return sampling

    def _compile(
        self, method: Callable[..., jax.Array], sampling: Any, numbers: tuple[str, ...], batch_size: int
    ) -> Callable[[State, Batch], np.ndarray]:
        def sample(state: State, batch: Batch) -> jax.Array:
            keys = sample_keys(batch['seed'], batch['number'])
            arguments = {**batch['given'], **{name: x[0] for name, x in batch['constants'].items()}}
            if sampling is not None:
                arguments['sampling'] = copy.copy(sampling)
                for name in numbers:  # which were checked, and cannot be now
                    object.__setattr__(arguments['sampling'], name, batch['sampling'][name][0])
            return method(state, keys, **arguments)

        return self._engine(batch_size).per_example(sample)

    @functools.cached_property
    def _placed(self) -> State:
        """The state on all devices."""
        return self._engine(jax.device_count()).put_state(self._state)

    def _engine(self, batch_size: int) -> Engine:
        return make_engine(build(ParallelConfig, self._config.parallel, 'parallel'), batch_size)


def _rows(arrays: Any, rows: np.ndarray) -> Any:
    """These rows of all arrays of a tree."""
    return jax.tree.map(lambda x: np.asarray(x)[rows], arrays)


def _parted(sampling: Any) -> tuple[Any, dict[str, float]]:
    """What is to be compiled of the choices in sampling, and the values that it is given."""
    if sampling is None:
        return None, {}
    numbers = {name: getattr(sampling, name) for name in sampling.NUMBERS}
    numbers = {name: value for name, value in numbers.items() if value != sampling.NUMBERS[name]}
    return dataclasses.replace(sampling, **dict.fromkeys(numbers, 1.0)), numbers  # 1: any that is allowed

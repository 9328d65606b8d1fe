"""Tasks by name: the config of each, and the task that a full config describes."""

from typing import Any

from ml_collections import ConfigDict

from vq_jax.data import DataConfig
from vq_jax.errors import UserError, printable
from vq_jax.extensions import allowing, is_own, named_modules, own_class
from vq_jax.spec import Spec
from vq_jax.tasks.classes import ClassNames, difference
from vq_jax.tasks.conditioner_config import conditioner_class
from vq_jax.tasks.prior_config import FORMER_KEYS as OF_A_PRIOR
from vq_jax.tasks.quantizer_config import quantizer_class
from vq_jax.tasks.task import Task
from vq_jax.training.config import build, check_keys, check_values, defaults
from vq_jax.training.loop import LoopConfig
from vq_jax.training.optimizer import FORMER_KEYS, OptimizerConfig
from vq_jax.training.parallel import ParallelConfig

# The tasks of this package by name; `vq_jax.tasks` fills it, so that a task may open runs of any other.
TASKS: dict[str, type[Task]] = {}


def default_config(task: str, quantizer: str | None = None, conditioner: str | None = None) -> ConfigDict:
    """The config of a task with every key at its default, for a config file to change.

    Args:
        task: a name in `TASKS`, or 'module:Class', a `Task` of one's own.
        quantizer: what `config.quantizer.kind` is to be, such as 'module:Class', one of one's own.
        conditioner: what `config.conditioner.kind` is to be, such as 'text' or 'module:Class'.

    Returns:
        A locked `ConfigDict`: the loop's keys at the top, and the sections 'data', 'optimizer' and
        'parallel' beside the task's own. That of a quantizer of one's own is 'custom_quantizer', and that of
        a conditioner 'custom_conditioner'.
    """
    named = {'task': task, 'quantizer': {'kind': quantizer}, 'conditioner': {'kind': conditioner}}
    with allowing(named_modules(named)):  # the caller names them
        return _default_config(task, quantizer, conditioner)


def _default_config(task: str, quantizer: str | None, conditioner: str | None) -> ConfigDict:
    config = defaults(LoopConfig).unlock()
    config.task = task
    config.data = defaults(DataConfig)
    config.optimizer = defaults(OptimizerConfig)
    config.parallel = defaults(ParallelConfig)
    config.update(_task_class(task).default_config())
    if quantizer is not None:
        if 'quantizer' not in config:
            raise UserError(f'a model of the task {task} has no quantizer; leave that out.')
        config.quantizer.kind = quantizer
        if is_own(quantizer):
            config.custom_quantizer = defaults(quantizer_class(quantizer), without=('dim',))
    if conditioner is not None:
        if 'conditioner' not in config:
            raise UserError(f'a model of the task {task} has no conditioner; leave that out.')
        config.conditioner.kind = conditioner
        if is_own(conditioner):
            config.custom_conditioner = defaults(conditioner_class(conditioner))
    return config.lock()


def complete_config(config: ConfigDict) -> ConfigDict:
    """Checks every key and type of a config, and fills those left out with their defaults.

    Code of the user's own that it names must be allowed (see `vq_jax.extensions`).

    Raises:
        UserError: naming the first key that nothing reads, or value that does not fit.
    """
    if not isinstance(config.get('task'), str):
        raise UserError(f'the config has no key task; set it to one of {", ".join(TASKS)}.')
    config = _without_former_keys(config)
    own = {
        name: config[name].kind
        for name in ('quantizer', 'conditioner')
        if named_modules({name: config.get(name)})
    }
    full = _default_config(config.task, own.get('quantizer'), own.get('conditioner'))
    check_keys(config, full, '')
    for name, value in config.items():
        _check_section(name, value, full[name])
        if isinstance(value, ConfigDict):
            check_keys(value, full[name], name)
            for key, inner in value.items():
                _check_section(f'{name}.{key}', inner, full[name][key])
    check_values(config, full, '')
    build(LoopConfig, {k: config[k] for k in defaults(LoopConfig) if k in config}, '')
    with full.ignore_type():  # types are checked above, with better messages
        full.update(config.to_dict())
    return full


def _check_section(path: str, value: Any, wanted: Any) -> None:
    """Raises `UserError` for a section where a value belongs, and the other way round."""
    if isinstance(wanted, ConfigDict) and not isinstance(value, ConfigDict):
        raise UserError(f'config.{path} is {printable(repr(value))}; it must be a section of keys.')
    if isinstance(value, ConfigDict) and not isinstance(wanted, ConfigDict):
        raise UserError(f'config.{path} is a section of keys; it must be a value.')


def make_task(config: ConfigDict, spec: Spec, num_classes: int = 0, class_names: ClassNames = None) -> Task:
    """The task of a full config, for such examples, of so many classes (0 without labels) of such names.

    Raises:
        UserError: if a key or value does not fit, model or losses cannot take such examples, or a run that
            it is built on is conditioned on other classes.
    """
    if spec.kind == 'text' and config.task in TASKS and config.task not in ('prior', 'vqvae'):
        raise UserError(f'config.task is {config.task}, which learns no text; set it to prior or vqvae.')
    task = _task_class(config.task).from_config(config, spec, num_classes)
    task.check_spec(spec)
    task.check_losses(spec)
    for part, names in task.part_classes().items():
        if changed := difference(class_names, names):
            raise UserError(
                f'the {part} is conditioned on other classes than this model: {changed}; give one of the '
                'same classes in the same order.'
            )
    return task


def _without_former_keys(config: ConfigDict) -> ConfigDict:
    """The config without keys of former versions that change nothing; raises `UserError` for others."""
    current = config.to_dict()
    former = [(name, 'accumulate', 1, FORMER_KEYS) for name in ('optimizer', 'discriminator_optimizer')]
    if config.task == 'prior':
        former += [('model', 'level', None, OF_A_PRIOR), ('model', 'top_workdir', '', OF_A_PRIOR)]
    for name, key, without_effect, instead in former:
        section = current.get(name)
        value = section.pop(key, without_effect) if isinstance(section, dict) else without_effect
        if value != without_effect:
            raise UserError(
                f'config.{name}.{key} is {printable(str(value))}, and nothing reads it any more; '
                f'{instead[key]}.'
            )
    return ConfigDict(current)


def _task_class(name: str) -> type[Task]:
    if isinstance(name, str) and is_own(name):
        found = own_class(name, 'config.task')
        if not issubclass(found, Task):
            raise UserError(
                f'config.task is {name!r}, which is no subclass of vq_jax.tasks.task.Task; make it one.'
            )
        return found
    if not isinstance(name, str) or name not in TASKS:
        raise UserError(f'config.task is {name!r}; choose one of {", ".join(TASKS)}.')
    return TASKS[name]

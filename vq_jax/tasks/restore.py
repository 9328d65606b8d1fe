"""A trained model from its run directory: config, task and state."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import complete_config, make_task
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.task import State, Task
from vq_jax.training.checkpoints import Checkpoints
from vq_jax.training.extensions import allowing, check_allowed
from vq_jax.training.manifest import fingerprint
from vq_jax.training.run_dir import check_built_on, is_run, pin_built_on, read_config, read_data_facts
from vq_jax.training.state import abstract_batch


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a run directory holds.

    Attributes:
        config: the full config of the run.
        task: what was learned.
        state: of the checkpoint; its frozen weights are there if inference needs them.
        image_shape: shape [h w c] of the pictures it was trained on.
        step: the training step of the checkpoint.
        workdir: the directory.
        class_names: of the classes of its data; None if they are not known.
        allow: modules that it may import from (see `vq_jax.training.extensions`).
    """

    config: ConfigDict
    task: Task
    state: State
    image_shape: tuple[int, int, int]
    step: int
    workdir: Path
    class_names: ClassNames = None
    allow: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """What a run that is built on this one keeps of it: 'workdir', 'step' and 'checksum'."""
        checksum = fingerprint(self.state.for_inference())
        return {'workdir': str(self.workdir), 'step': self.step, 'checksum': checksum}


def restore(
    workdir: str | Path,
    step: int | Literal['best'] | None = None,
    overrides: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
) -> Restored:
    """Reads a trained run.

    Arguments and errors are those of `vq_jax.load`.
    """
    with allowing(allow):
        return dataclasses.replace(_restore(workdir, step, overrides), allow=tuple(allow))


def _restore(
    workdir: str | Path, step: int | Literal['best'] | None, overrides: Mapping[str, Any] | None
) -> Restored:
    workdir = Path(workdir)
    if isinstance(step, str) and step != 'best':
        raise UserError(f"the step is {step!r}; give the number of a checkpoint, or 'best'.")
    config = config_of(workdir, overrides)
    facts = read_data_facts(workdir)
    shape = facts.image_shape
    task = make_task(pin_built_on(config, workdir), shape, facts.num_classes, facts.class_names)
    check_built_on(workdir, task.built_on())
    like = jax.eval_shape(task.init, jax.random.key(0), abstract_batch(1, shape))
    with contextlib.closing(_checkpoints(workdir, config)) as checkpoints:
        restored = checkpoints.restore(like, step)
    if restored is None:
        raise UserError(f'{workdir} holds no checkpoint yet; train it first, with vq_jax.train.')
    step, state, _ = restored
    if task.inference_needs_frozen:
        state = state.replace(frozen=task.pretrained())
    return Restored(
        config=config,
        task=task,
        state=state,
        image_shape=shape,
        step=step,
        workdir=workdir,
        class_names=facts.class_names,
    )


def restore_part(
    key: str, workdir: str, step: int | None, tokenizer: Mapping[str, Any] | None = None
) -> Restored:
    """Reads a run that another is built on.

    Args:
        key: of the config that names it, such as 'tokenizer.workdir'.
        workdir: its value.
        step: the checkpoint; None is the newest.
        tokenizer: the identity of one that it may be built on too, and then takes from there: it may have
            been moved.

    Raises:
        UserError: if it cannot be read.
    """
    if not is_run(workdir):
        raise UserError(
            f'config.{key} is {workdir}, where no trained run is; set it to the directory of one, or train '
            'one there first.'
        )
    theirs = read_data_facts(Path(workdir)).built_on.get('tokenizer', {})
    if tokenizer and theirs.get('checksum') == tokenizer['checksum']:
        overrides = {f'tokenizer.{name}': tokenizer[name] for name in ('workdir', 'step')}
        return restore(workdir, step, overrides)
    return restore(workdir, step)


def config_of(workdir: str | Path, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """The full config of a run, with other values for some keys.

    Raises:
        UserError: if it cannot be read, or names a module that `extensions.allowing` does not.
    """
    plain = ConfigDict(read_config(workdir))
    for key, value in (overrides or {}).items():
        _override(plain, key, value)
    check_allowed(plain, workdir)
    return complete_config(plain)


def _checkpoints(workdir: Path, config: ConfigDict) -> Checkpoints:
    return Checkpoints(
        workdir / 'checkpoints',
        keep=config.keep_checkpoints,
        best=config.best_metric,
        best_mode=config.best_mode,
        read_only=True,
    )


def _override(config: ConfigDict, key: str, value: Any) -> None:
    *sections, name = key.split('.')
    section = config
    for part in sections:
        section = section.get(part)
        if not isinstance(section, ConfigDict):
            raise UserError(f'the config of the run has no section {part!r}, which the override {key} names.')
    try:
        section[name] = value  # whether anything reads it is checked with all other keys
    except TypeError as error:
        kind = section.get_type(name).__name__
        raise UserError(f'the override {key} is {value!r}; it must be of the type {kind}.') from error

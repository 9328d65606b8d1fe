"""A trained model from its run directory: config, task and state."""

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from vq_jax.buckets import by_address, place_of
from vq_jax.errors import UserError
from vq_jax.extensions import allowing, check_allowed
from vq_jax.spec import Spec
from vq_jax.tasks.classes import ClassNames
from vq_jax.tasks.registry import complete_config, make_task
from vq_jax.tasks.task import State, Task
from vq_jax.training.bucket_runs import fetcher, local_run
from vq_jax.training.checkpoints import Checkpoints, UnreadableError
from vq_jax.training.config import to_json
from vq_jax.training.manifest import Sealed, fingerprint
from vq_jax.training.run_dir import (
    BUILT_ON,
    CHECKPOINTS,
    COARSER,
    CONFIG_NAME,
    BuiltOn,
    DataFacts,
    Origin,
    check_built_on,
    check_format,
    check_not_lost,
    check_sealed,
    facts_to_seal,
    is_run,
    named_anew,
    pin_built_on,
    read_config,
    read_data_facts,
    write_config,
    write_data_facts,
)
from vq_jax.training.state import abstract_batch


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a run directory holds.

    Attributes:
        config: the full config of the run.
        task: what was learned.
        state: of the checkpoint; its frozen weights are there if inference needs them.
        spec: of the examples it was trained on.
        step: the training step of the checkpoint.
        workdir: the directory, of a run in a bucket that of its copy.
        class_names: of the classes of its data; None if they are not known.
        allow: modules that it may import from (see `vq_jax.extensions`).
        origin: where its weights come from, if they were not trained here.
    """

    config: ConfigDict
    task: Task
    state: State
    spec: Spec
    step: int
    workdir: Path
    class_names: ClassNames = None
    allow: tuple[str, ...] = ()
    origin: Origin | None = None

    def check_spec(self, spec: Spec) -> None:
        """Raises `UserError` if such examples cannot be encoded, and warns if they have another size."""
        self.task.check_spec(spec)
        if spec.grid != self.spec.grid:
            logging.warning(
                '%s was trained on examples of %s, and is given %s; unless that is meant, set the keys of '
                'config.data as they are in its config',
                *(self.workdir, self.spec.size_in_words, spec.size_in_words),
            )

    def identity(self) -> BuiltOn:
        """What a run that is built on this one keeps of it."""
        return {'workdir': place_of(self.workdir), 'step': self.step, 'checksum': self._checksum}

    @functools.cached_property
    def _checksum(self) -> str:
        return fingerprint(self.state.for_inference())

    def for_inference(self) -> 'Restored':
        """The same with no more of the state than inference needs, on the host."""
        return dataclasses.replace(self, state=jax.device_get(self.state.for_inference()))


def restore(
    workdir: str | Path,
    step: int | Literal['best'] | None = None,
    overrides: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
) -> Restored:
    """Reads a trained run.

    Arguments and errors are those of `vq_jax.load`.
    """
    if not isinstance(workdir, str | Path):
        raise UserError(f'the workdir is {workdir!r}; give a path.')
    if not isinstance(overrides, Mapping | None):
        raise UserError(f'the overrides are {overrides!r}; give a dict of dotted keys.')
    if isinstance(allow, str) or not isinstance(allow, Sequence):
        raise UserError(f"allow is {allow!r}; give a tuple of modules, such as ('mymodule',).")
    with allowing(allow), by_address():
        return dataclasses.replace(_restore(local_run(workdir), step, overrides), allow=tuple(allow))


def _restore(
    workdir: Path, step: int | Literal['best'] | None, overrides: Mapping[str, Any] | None
) -> Restored:
    if isinstance(step, str) and step != 'best':
        raise UserError(f"the step is {step!r}; give the number of a checkpoint, or 'best'.")
    recorded, facts = config_of(workdir), read_data_facts(workdir)
    config = overridden(recorded, overrides, workdir) if overrides else recorded
    plain = to_json(recorded)
    best = {'best': config.best_metric, 'best_mode': config.best_mode}
    options = {'read_only': True, 'fetch': fetcher(workdir), **best}
    with contextlib.closing(Checkpoints(workdir / CHECKPOINTS, **options)) as checkpoints:
        sealed = checkpoints.sealed() or {}
        if sealed:
            _sealed_config(workdir, sealed, plain)
        anew = named_anew(plain, config)
        exchanged = anew & {COARSER}  # which is only sampled with, and may be another
        pinned = pin_built_on(config, workdir, anew, exchanged)
        task = make_task(pinned, facts.spec, facts.num_classes, facts.class_names)
        check_built_on(workdir, identities(task), exchanged)
        like = jax.eval_shape(task.init, jax.random.key(0), abstract_batch(1, facts.spec))
        if sealed.get('inference_only'):
            like = like.for_inference()
        restored = checkpoints.restore(like, step)
    if restored is None:
        raise UserError(f'{workdir} holds no checkpoint yet; train it first, with vq_jax.train.')
    step, state, _ = restored
    if task.inference_needs_frozen:
        state = state.replace(frozen=task.pretrained())
    return Restored(config, task, state, facts.spec, step, workdir, facts.class_names, origin=facts.origin)


def begun_config(workdir: Path) -> dict[str, Any] | None:
    """The config of the run that training in a directory goes on with, in JSON values and complete.

    It is what the newest checkpoint was sealed with, so that `config.json` may be lost; None without a run.

    Raises:
        UserError: if `config.json` or `data.json` were changed, or there is nothing to go on from.
    """
    with contextlib.closing(Checkpoints(workdir / CHECKPOINTS, read_only=True)) as checkpoints:
        # In this order, in which a first checkpoint that is complete meanwhile is seen.
        never_saved, steps = checkpoints.never_saved(), checkpoints.steps()
        sealed = checkpoints.sealed()
    recorded = to_json(config_of(workdir)) if is_run(workdir) else None
    if sealed:
        if sealed.get('inference_only'):
            raise UserError(
                f'{workdir} holds weights alone, and nothing to go on training from; give another --workdir, '
                f'and --init_from={workdir} to begin with them.'
            )
        return _sealed_config(workdir, sealed, recorded)
    if steps and recorded is None:
        raise UserError(
            f'{workdir} holds checkpoints without their {CONFIG_NAME}; restore it from a copy, or give '
            'another --workdir.'
        )
    if not steps and not never_saved:
        check_not_lost(workdir)
    return recorded


def _sealed_config(workdir: Path, sealed: Sealed, recorded: dict[str, Any] | None) -> dict[str, Any]:
    """The config that a checkpoint was sealed with, once the files are known to say the same.

    `recorded` is the config in `config.json`, in JSON values and complete; None if that is lost.
    """
    check_format(workdir, sealed['data'])
    raw = ConfigDict(sealed['config'])
    check_allowed(raw, workdir)
    config = to_json(complete_config(raw))
    check_sealed(workdir, sealed, config, config if recorded is None else recorded)
    return config


def identities(task: Task) -> dict[str, BuiltOn]:
    """What a run of a task keeps of those that it is built on (see `DataFacts.built_on`)."""
    return {name: part.identity() for name, part in task.built_on().items()}


def keep_built_on(task: Task, workdir: Path, *, anew: bool, shared: bool = True) -> None:
    """Keeps copies of the weights that a task is built on, by which its run is opened from then on.

    They are small runs themselves, without what training goes on from. Those that are there, of a run that
    was not begun, are replaced if `anew`. With several processes all of them call it, and `shared` says
    whether they all see the directory.

    Raises:
        UserError: if they cannot be written.
    """
    for name, part in task.built_on().items():
        folder = workdir / BUILT_ON / name
        if anew or not is_run(folder):
            _keep(part, folder, shared)


def _keep(part: Restored, folder: Path, shared: bool) -> None:
    first = jax.process_index() == 0
    if first and folder.exists():  # left by a process that was killed
        shutil.rmtree(folder)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f'keep {folder.name}')
    write_copy(part, folder, shared=shared)


def write_copy(part: Restored, folder: Path, *, shared: bool = True) -> None:
    """Writes a run where none is, without what training goes on from (see `write_for_inference`)."""
    keep_built_on(part.task, folder, anew=True, shared=shared)
    write_for_inference(
        folder,
        part.config,
        read_data_facts(part.workdir),
        part.step,
        part.state.for_inference(),
        shared=shared,
    )


def write_for_inference(
    folder: Path, config: ConfigDict, facts: DataFacts, step: int, state: State, *, shared: bool = True
) -> None:
    """Writes a run without what training goes on from.

    Args:
        folder: where no run is. With several processes all of them call this.
        config: complete.
        facts: of its data.
        step: of its checkpoint.
        state: as `for_inference` returns it.
        shared: whether all processes see the folder.

    Raises:
        UserError: it cannot be written.
    """
    plain = to_json(config)
    sealed: Sealed = {'config': plain, 'data': facts_to_seal(facts), 'inference_only': True}
    options = {'sealed': sealed, 'shared': shared}
    with contextlib.closing(Checkpoints(folder / CHECKPOINTS, **options)) as checkpoints:
        checkpoints.save(step, state, {}, None)
    if jax.process_index() == 0:
        write_data_facts(folder, facts)
        write_config(folder, plain)  # last: with it, the run is there


def restore_part(key: str, workdir: str, step: int | None) -> Restored:
    """Reads a run that another is built on, and names by a key such as 'tokenizer.workdir', for inference.

    Raises:
        UserError: if it cannot be read.
    """
    if not is_run(local := local_run(workdir)):
        raise UserError(
            f'config.{key} is {workdir}, where no trained run is; set it to the directory of one, or train '
            'one there first.'
        )
    try:
        return restore(local, step).for_inference()
    except UnreadableError as error:
        if Path(workdir).parent.name != BUILT_ON:
            raise
        raise UserError(
            f'{error} This is a copy: with the folder {workdir} moved away, the run that is built on it is '
            'opened from where it was copied from, if that is still there.'
        ) from error


def config_of(workdir: str | Path) -> ConfigDict:
    """The full config of a run.

    Raises:
        UserError: if it cannot be read, or names a module that `extensions.allowing` does not.
    """
    return _completed(ConfigDict(read_config(workdir)), workdir)


def overridden(config: ConfigDict, overrides: Mapping[str, Any], workdir: str | Path) -> ConfigDict:
    """The full config of a run, as `config_of` returns it, with other values for some dotted keys.

    Raises:
        UserError: if a key or value does not fit, or names a module that `extensions.allowing` does not.
    """
    plain = ConfigDict(to_json(config))
    for key, value in overrides.items():
        section, (*sections, name) = plain, str(key).split('.')
        for part in sections:
            section = section.get(part)
            if not isinstance(section, ConfigDict):
                raise UserError(
                    f'the config of the run has no section {part!r}, which the override {key} names.'
                )
        try:
            section[name] = value  # whether anything reads it is checked with all other keys
        except TypeError as error:
            kind = section.get_type(name).__name__
            raise UserError(f'the override {key} is {value!r}; it must be of the type {kind}.') from error
    return _completed(plain, workdir)


def _completed(config: ConfigDict, workdir: str | Path) -> ConfigDict:
    check_allowed(config, workdir)
    return complete_config(config)

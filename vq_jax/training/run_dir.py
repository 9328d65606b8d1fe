"""The run directory's own files: atomic writes, and the config that a run has."""

import dataclasses
import json
import os
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ml_collections import ConfigDict
from msgspec import Meta

from vq_jax.data.config import READING
from vq_jax.errors import UserError
from vq_jax.files import write_atomically
from vq_jax.json_files import parse_json, read_json
from vq_jax.training.optimizer import schedule_length

CONFIG_NAME = 'config.json'
DATA_NAME = 'data.json'
_ABSENT = object()

Extension = Literal['hold', 'stretch']

# Keys that change nothing of what is learned, so that a run may go on with other values.
_NOT_LEARNED = (
    'log_every',
    'eval_every',
    'num_pictures',
    'checkpoint_every',
    'keep_checkpoints',
    'best_metric',
    'best_mode',
    'wandb_project',
    *(f'data.{key}' for key in READING),
)

# The part of a prior of bottom codes that it is not trained with, but draws and is evaluated with.
TOP_PRIOR = 'top_prior'

_Size = Annotated[int, Meta(ge=1, le=2**16)]  # of an image, in pixels or channels


@dataclasses.dataclass(frozen=True)
class _Part:
    """A run that others are built on: what it is called, and the keys of their config that name it."""

    title: str
    section: str
    workdir: str = 'workdir'
    step: str = 'step'


_PARTS = {
    'tokenizer': _Part('tokenizer', 'tokenizer'),
    'latent': _Part('autoencoder', 'latent'),
    TOP_PRIOR: _Part('prior of the top codes', 'model', 'top_workdir', 'top_step'),
}


def write_config(workdir: Path, config: dict[str, Any]) -> None:
    """Writes `config.json`.

    Args:
        workdir: The run directory.
        config: Nested dict of JSON values; tuples are stored as lists.

    Raises:
        UserError: It cannot be written, or could not be read again.
    """
    path, text = Path(workdir) / CONFIG_NAME, json.dumps(config, indent=2, sort_keys=True)
    parse_json(text, dict[str, Any], where=f'what {path} is to keep', advice='change the config')
    try:
        write_atomically(path, text + '\n')
    except OSError as error:
        raise UserError(
            f'Cannot write {path} ({error.strerror or error}); choose another --workdir.'
        ) from error


def read_config(workdir: Path) -> dict[str, Any]:
    """Reads `config.json` of a run.

    Args:
        workdir: The run directory.

    Returns:
        The nested dict, with lists where the config had tuples.

    Raises:
        UserError: The directory or the file is missing, unreadable, or not a JSON object.
    """
    workdir = Path(workdir)
    if os.path.isfile(workdir):
        raise UserError(f'{workdir} is a file; give the directory of a trained run.')
    try:
        return read_json(
            workdir / CONFIG_NAME, dict[str, Any], advice='restore it from a copy or start a new run'
        )
    except FileNotFoundError as error:
        if not os.path.isdir(workdir):
            raise UserError(f'{workdir} does not exist; give the directory of a trained run.') from error
        raise UserError(
            f'{workdir} is not a run directory: it has no {CONFIG_NAME}; give the --workdir that '
            'a run was trained in.'
        ) from error


def check_same_config(
    workdir: Path,
    before: dict[str, Any],
    now: dict[str, Any],
    extend_schedule: Extension | None = None,
) -> None:
    """Refuses to go on with a run under a config by which it would have learned something else.

    So that a run may become longer only if no learning rate depends on how long it is, or it is said what
    becomes of those that do.

    Args:
        workdir: The run directory.
        before: Its config, a nested dict of JSON values, with today's defaults for keys that are newer.
        now: The config that is to be used, as `keep_schedule` returns it, alike.
        extend_schedule: As for `keep_schedule`.

    Raises:
        UserError: The task is another one, or some keys differ; each is named (dotted) with both values.
    """
    if before['task'] != now['task']:
        raise UserError(
            f'{workdir} holds a run of the task {before["task"]}, and the config is of {now["task"]}; '
            'give another --workdir.'
        )
    before, advice = dict(before), ''
    if now['steps'] > before['steps']:
        same_rates = _schedules(now) == {'constant'} or schedule_length(before) == schedule_length(now)
        if same_rates or extend_schedule == 'stretch':
            before |= {key: now[key] for key in ('steps', 'schedule_steps')}
        else:
            advice = (
                ' (its learning rates depend on steps; --extend_schedule=hold leaves them where their '
                'schedule ends, --extend_schedule=stretch makes the schedule for the new length from here on)'
            )
    elif extend_schedule == 'stretch':
        before['schedule_steps'] = now['schedule_steps']
    if differing := differing_keys(before, now):
        raise UserError(
            f'{workdir} holds a run with another config, which differs in '
            f'{", ".join(differing)}{advice}; use the same config to resume it or another --workdir.'
        )


def keep_schedule(before: dict[str, Any], now: ConfigDict, extend_schedule: Extension | None) -> ConfigDict:
    """The config to go on with: where it leaves the length of the schedules open, that of the run so far.

    Args:
        before: The config of the run, a nested dict of JSON values.
        now: The config that is to be used.
        extend_schedule: What becomes of the schedules of a run that is made longer: 'hold' keeps the
            learning rates where their schedules end, 'stretch' makes the schedules for the new length from
            the step on at which the run goes on.

    Raises:
        UserError: `extend_schedule` is neither of them, nor None.
    """
    if extend_schedule not in (None, *typing.get_args(Extension)):
        raise UserError(f"extend_schedule is {extend_schedule!r}; give 'hold', 'stretch' or None.")
    now = now.copy_and_resolve_references()
    if now.schedule_steps is None and extend_schedule != 'stretch':
        longer = extend_schedule == 'hold' and now.steps > before['steps']
        now.schedule_steps = schedule_length(before) if longer else before['schedule_steps']
    return now


def _schedules(config: dict[str, Any]) -> set[str]:
    return {value for key, value in flatten(config).items() if key.endswith('optimizer.schedule')}


def differing_keys(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The keys (dotted) by which two configs learn something else, each with both values.

    Args:
        before: The config of a run, a dict of JSON values.
        now: Another one, alike.
    """
    before, now = (
        {key: value for key, value in flatten(config).items() if key not in _NOT_LEARNED}
        for config in (before, now)
    )
    return [
        f'{key} (there {show(before.get(key, _ABSENT))}, now {show(now.get(key, _ABSENT))})'
        for key in sorted(before.keys() | now.keys())
        if show(before.get(key, _ABSENT)) != show(now.get(key, _ABSENT))
    ]


class BuiltOn(TypedDict):
    """A run whose weights another uses, as `data.json` keeps it.

    Attributes:
        workdir: Its directory, as it was typed.
        step: Of its checkpoint.
        checksum: Of the weights.
        from_here: Its directory as seen from that of the run that uses it; only in the file.
    """

    workdir: str
    step: Annotated[int, Meta(ge=0)]
    checksum: str
    from_here: NotRequired[str]


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """What a model has to know of its data, so that it opens without them.

    Attributes:
        image_shape: Shape [h w c] of the pictures.
        num_classes: Number of classes; 0 without labels.
        built_on: The runs whose weights it uses, by their part in it.
        published: Checksum of the published weights that it learns with; None if there are none.
        class_names: In the order of the labels, `num_classes` of them; None for a run of before they were
            written down.
        init_from: The run whose weights it began with; None if there is none.
    """

    image_shape: tuple[_Size, _Size, _Size]
    num_classes: Annotated[int, Meta(ge=0, lt=2**31)]
    built_on: dict[Literal['tokenizer', 'latent', 'top_prior'], BuiltOn] = dataclasses.field(
        default_factory=dict
    )
    published: str | None = None
    class_names: tuple[str, ...] | None = None
    init_from: BuiltOn | None = None

    def __post_init__(self) -> None:
        """Raises `ValueError` unless there are as many names as classes."""
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f'{len(self.class_names)} names of {self.num_classes} classes')


def write_data_facts(workdir: Path, facts: DataFacts) -> None:
    """Writes `data.json`, and where the runs that it is built on are, wherever it is read from.

    Raises:
        UserError: What is to be written could not be read again; nothing is written.
    """
    here = Path(workdir).resolve()

    def seen_from_here(part: BuiltOn) -> BuiltOn:
        return {**part, 'from_here': os.path.relpath(Path(part['workdir']).resolve(), here)}

    built_on = {name: seen_from_here(part) for name, part in facts.built_on.items()}
    init_from = facts.init_from and seen_from_here(facts.init_from)
    facts = dataclasses.replace(facts, built_on=built_on, init_from=init_from)
    path, text = Path(workdir) / DATA_NAME, json.dumps(dataclasses.asdict(facts))
    parse_json(text, DataFacts, where=f'what {path} is to keep', advice='rename what is called so')
    write_atomically(path, text + '\n')


def read_data_facts(workdir: Path) -> DataFacts:
    """Reads `data.json` of a run.

    Raises:
        UserError: The file is missing, unreadable, or holds something else.
    """
    path = Path(workdir) / DATA_NAME
    try:
        return read_json(path, DataFacts, advice='restore it from a copy')
    except FileNotFoundError as error:
        raise UserError(f'{path} is missing; restore it from a copy.') from error


def pin_built_on(config: ConfigDict, workdir: Path) -> ConfigDict:
    """A config of a run in which the runs that it is built on are those of its beginning.

    A run whose config leaves the step open was begun with the newest of that time. Directories are as they
    were typed, and so those of another working directory may be other runs, or none: those that are where
    they were, as seen from the run, come first.

    Raises:
        UserError: One of them is not there.
    """
    config = config.copy_and_resolve_references()
    for name, before in read_data_facts(workdir).built_on.items():
        part = _PARTS[name]
        section = config[part.section]
        named = section[part.workdir]
        if not named or _exchanged(name, before, named, workdir):
            continue
        places = [named]
        if _same_place(before, named, workdir) and (there := _located(before, workdir)):
            places = list(dict.fromkeys([str(there), named]))
        found = next(filter(is_run, places), None)
        if found is None:
            key = f'{part.section}.{part.workdir}'
            raise UserError(
                f'the {part.title} of the run {workdir} is not at {" nor at ".join(places)}; put it back, or '
                f"open the run with --override={key}=DIR (in Python, overrides={{'{key}': DIR}})."
            )
        section[part.workdir] = found
        if section.get(part.step) is None:
            with section.unlocked():
                section[part.step] = before['step']
    return config


def is_run(workdir: str | Path) -> bool:
    """Whether a directory holds a run.

    Raises:
        UserError: It cannot be told, because this user may not look.
    """
    try:
        return (Path(workdir) / CONFIG_NAME).is_file()
    except OSError as error:
        raise UserError(
            f'Cannot look into {workdir} ({error.strerror or error}); check its permissions.'
        ) from error


def check_built_on(workdir: Path, now: dict[str, dict[str, Any]]) -> None:
    """Refuses to use a run with other weights of another run than it was trained with.

    A prior of top codes may be exchanged, by naming another directory.

    Args:
        workdir: The run directory.
        now: As `DataFacts.built_on`.

    Raises:
        UserError: A checksum differs.
    """
    for name, before in read_data_facts(workdir).built_on.items():
        if name not in now or _exchanged(name, before, now[name]['workdir'], workdir):
            continue
        if now[name]['checksum'] != before['checksum']:
            raise UserError(
                f'{workdir} was trained with the {_PARTS[name].title} of step {before["step"]} of '
                f'{before["workdir"]} (checksum {before["checksum"][:12]}), and step {now[name]["step"]} of '
                f'{now[name]["workdir"]} holds other weights; put those back, or train in a new directory.'
            )


def check_published(workdir: Path, now: str | None) -> None:
    """Refuses to use a run with other published weights than it was trained with.

    Args:
        workdir: The run directory.
        now: As `DataFacts.published`.

    Raises:
        UserError: The checksum differs from that of the run, if it is known.
    """
    before = read_data_facts(workdir).published
    if before and now != before:
        raise UserError(
            f'{workdir} was trained with other weights of config.perceptual (checksum {before[:12]}, and now '
            f'{now[:12] if now else "none"}); put those files back, or train in a new directory.'
        )


def _exchanged(name: str, before: dict[str, Any], named: str, workdir: Path) -> bool:
    return name == TOP_PRIOR and not _same_place(before, named, workdir)


def _same_place(before: dict[str, Any], named: str, workdir: Path) -> bool:
    """Whether a directory is that of a part at the beginning, as it was typed or as the run sees it."""
    return Path(named) in (Path(before['workdir']), _located(before, workdir))


def _located(before: dict[str, Any], workdir: Path) -> Path | None:
    """Where a part is, as seen from the run; None for a run of before that was written down."""
    if 'from_here' not in before:
        return None
    return Path(os.path.normpath(Path(workdir).resolve() / before['from_here']))


def locate(before: BuiltOn, workdir: Path) -> list[Path]:
    """Where a run that `data.json` names may be: as seen from the run that names it, and as it was typed."""
    there = _located(before, workdir)
    return [*([there] if there else []), Path(before['workdir'])]


def flatten(value: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """The values of a nested dict by their dotted keys; an empty dict within it is a value."""
    flat = {}
    for key, item in value.items():
        if isinstance(item, dict) and item:
            flat |= flatten(item, f'{prefix}{key}.')
        else:
            flat[f'{prefix}{key}'] = item
    return flat


def show(value: Any) -> str:
    """One text per JSON value: unlike `==` it keeps 1, 1.0 and true apart, and NaN together."""
    return 'absent' if value is _ABSENT else json.dumps(value)

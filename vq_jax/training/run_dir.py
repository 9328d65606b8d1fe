"""The run directory's own files: atomic writes, and the config that a run has."""

import contextlib
import dataclasses
import hashlib
import json
import os
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from msgspec import Meta

from vq_jax.buckets import is_address
from vq_jax.data.config import READING
from vq_jax.errors import UserError
from vq_jax.files import telling, write_atomically
from vq_jax.json_files import MOST_BYTES, check_type, parse_json, read_json
from vq_jax.spec import Spec
from vq_jax.training.manifest import Sealed
from vq_jax.training.metrics_log import METRICS_NAME, read_log
from vq_jax.training.optimizer import schedule_length

# What the files of a run mean: `data.json` and what checkpoints are sealed with say it, and those of another
# number are refused.
FORMAT = 3

CONFIG_NAME = 'config.json'
DATA_NAME = 'data.json'
CHECKPOINTS = 'checkpoints'
_ABSENT = object()
_RESTORE = 'restore it from a copy'

Extension = Literal['hold', 'stretch']

# Keys that change nothing of what is learned, so that a run may go on with other values.
_NOT_LEARNED = (
    'log_every',
    'eval_every',
    'num_shown',
    'checkpoint_every',
    'keep_checkpoints',
    'best_metric',
    'best_mode',
    'wandb_project',
    'parallel.engine',
    'parallel.shard_parameters',
    'parallel.replicas',
    'embedded_text.encoder',
    *(f'data.{key}' for key in READING),
)

# Keys that may change as a run goes on: how long it is, which `check_same_config` looks after.
_LENGTH = ('steps', 'schedule_steps')

# The folder in which a run keeps the weights that it is built on, each as a small run of its own.
BUILT_ON = 'built_on'

# The part of a prior of finer codes that it is not trained with, but samples and is evaluated with.
COARSER = 'coarser'


class _Part(NamedTuple):
    """A run that others are built on: what it is called, and the keys of their config that name it."""

    title: str
    section: str
    workdir: str = 'workdir'
    step: str = 'step'

    def named_in(self, config: Mapping[str, Any]) -> tuple[Path, int | None]:
        """The directory and the step that a config names."""
        section = config[self.section]
        return Path(section[self.workdir]), section.get(self.step)


_PARTS = {
    'tokenizer': _Part('tokenizer', 'tokenizer'),
    'latent': _Part('autoencoder', 'latent'),
    COARSER: _Part('prior of the coarser codes', 'model', 'coarser_workdir', 'coarser_step'),
}
_WORKDIRS = {f'{part.section}.{part.workdir}' for part in _PARTS.values()}
_STEPS = {f'{part.section}.{part.step}' for part in _PARTS.values()}


def write_config(workdir: Path, config: dict[str, Any]) -> None:
    """Writes `config.json`, a nested dict of JSON values, tuples as lists; raises as `write_data_facts`."""
    path, text = workdir / CONFIG_NAME, json.dumps(config, indent=2, sort_keys=True)
    parse_json(text, dict[str, Any], where=f'what {path} is to keep', advice='change the config')
    write_atomically(path, text + '\n')


def read_config(workdir: Path) -> dict[str, Any]:
    """Reads `config.json` of a run: a nested dict, with lists where the config had tuples.

    Raises:
        UserError: The directory or the file is missing, unreadable, or not a JSON object, or the run is of
            another format.
    """
    workdir = Path(workdir)
    if os.path.isfile(workdir):
        raise UserError(f'{workdir} is a file; give the directory of a trained run.')
    try:
        config = read_json(
            workdir / CONFIG_NAME, dict[str, Any], advice='restore it from a copy or start a new run'
        )
    except FileNotFoundError as error:
        if not os.path.isdir(workdir):
            raise UserError(f'{workdir} does not exist; give the directory of a trained run.') from error
        raise UserError(
            f'{workdir} is not a run directory: it has no {CONFIG_NAME}; give the --workdir that '
            'a run was trained in.'
        ) from error
    with contextlib.suppress(FileNotFoundError):  # about which whoever needs it knows what to say
        check_format(workdir, _read_facts(workdir))
    return config


def check_format(workdir: Path, facts: Mapping[str, Any]) -> None:
    """Refuses a run whose facts have another format number, or none: its files mean something else."""
    found = facts.get('format', 1)
    if found != FORMAT:
        raise UserError(
            f'{workdir} holds a run of format {show(found)}, and this version of vq_jax reads format '
            f'{FORMAT}; train it again, or open it with the version that made it.'
        )


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
        schedules = {value for key, value in flatten(now).items() if key.endswith('optimizer.schedule')}
        same_rates = schedules == {'constant'} or schedule_length(before) == schedule_length(now)
        if same_rates or extend_schedule == 'stretch':
            before |= {key: now[key] for key in _LENGTH}
        else:
            advice = (
                ' (its learning rates depend on steps; --extend_schedule=hold leaves them where their '
                'schedule ends, --extend_schedule=stretch makes the schedule for the new length from here on)'
            )
    elif now['steps'] < before['steps']:
        advice = ' (a run can be made longer, not shorter)'
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
        extend_schedule: As for `vq_jax.Experiment.build`.

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


def differing_keys(before: dict[str, Any], now: dict[str, Any], besides: Collection[str] = ()) -> list[str]:
    """The keys (dotted) by which two configs learn something else, each with both values.

    Of the runs that a config builds on, only whether it names any: `check_built_on` compares their weights,
    wherever they are.

    Args:
        before: The config of a run, a dict of JSON values.
        now: Another one, alike.
        besides: Keys that may differ as well.
    """
    before, now = flatten(before), flatten(now)
    both_name = {key for key in _WORKDIRS if before.get(key) and now.get(key)}
    keys = (before.keys() | now.keys()) - {*_NOT_LEARNED, *_STEPS, *besides, *both_name}
    shown = {key: [show(flat.get(key, _ABSENT)) for flat in (before, now)] for key in sorted(keys)}
    return [f'{key} (there {there}, now {here})' for key, (there, here) in shown.items() if there != here]


class BuiltOn(TypedDict):
    """A run whose weights another uses, as `data.json` keeps it.

    Attributes:
        workdir: Its directory, as it was typed.
        step: Of its checkpoint.
        checksum: Of the weights.
        from_here: Its directory as seen from that of the run that names it; only in the file, and only of
            the run that another began with.
    """

    workdir: str
    step: Annotated[int, Meta(ge=0)]
    checksum: str
    from_here: NotRequired[str]


class Origin(TypedDict):
    """Where weights that were not trained here come from.

    Attributes:
        project: Whose they are, by its name among `vq_jax.weights.PROJECTS`.
        model: What a published model of these sizes is called, which may have learned of other data; None if
            there is none.
        source: The address of the project's code.
        licence: Of that code.
        file: The name of the file that they were read from.
        sha256: Of that file, hexadecimal.
        facts: What is published of that model.
    """

    project: str
    model: str | None
    source: str
    licence: str
    file: str
    sha256: str
    facts: dict[str, str]


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """What a model has to know of its data, so that it opens without them.

    Attributes:
        spec: What an example is.
        num_classes: Number of classes; 0 without labels.
        built_on: The runs whose weights it uses, by their part in it.
        published: Checksum of the published weights that it learns with; None if there are none.
        class_names: In the order of the labels, `num_classes` of them; None for a run of before they were
            written down.
        init_from: The run whose weights it began with; None if there is none.
        origin: Of weights that were converted; None of those that were trained here.
        format: See `FORMAT`.
    """

    spec: Spec
    num_classes: Annotated[int, Meta(ge=0, lt=2**31)]
    built_on: dict[Literal['tokenizer', 'latent', 'coarser'], BuiltOn] = dataclasses.field(
        default_factory=dict
    )
    published: str | None = None
    class_names: tuple[str, ...] | None = None
    init_from: BuiltOn | None = None
    origin: Origin | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Raises `ValueError` unless there are as many names as classes."""
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise ValueError(f'{len(self.class_names)} names of {self.num_classes} classes')


def write_data_facts(workdir: Path, facts: DataFacts) -> None:
    """Writes `data.json`; raises `UserError` if it cannot be written, or could not be read again."""
    if (source := facts.init_from) and not is_address(source['workdir']):
        there = os.path.relpath(Path(source['workdir']).resolve(), workdir.resolve())
        facts = dataclasses.replace(facts, init_from={**source, 'from_here': there})
    path, text = workdir / DATA_NAME, json.dumps(dataclasses.asdict(facts))
    if len(text) >= MOST_BYTES:  # as of a text tokenizer, which is kept
        raise UserError(
            f'what {path} is to keep has {len(text):,} bytes, and fewer than {MOST_BYTES:,} are read again; '
            'take a smaller text tokenizer, or fewer classes.'
        )
    parse_json(text, DataFacts, where=f'what {path} is to keep', advice='rename what is called so')
    write_atomically(path, text + '\n')


def read_data_facts(workdir: Path) -> DataFacts:
    """Reads `data.json`; raises `UserError` if it is missing, unreadable, of another kind or format."""
    path = workdir / DATA_NAME
    try:
        facts = _read_facts(workdir)
    except FileNotFoundError as error:
        raise UserError(f'{path} is missing; restore it from a copy.') from error
    check_format(workdir, facts)
    return check_type(facts, DataFacts, where=str(path), advice=_RESTORE)


def _read_facts(workdir: Path) -> dict[str, Any]:
    return read_json(workdir / DATA_NAME, dict[str, Any], advice=_RESTORE)


def facts_to_seal(facts: DataFacts) -> dict[str, Any]:
    """What of the facts may never change, in JSON values: of other runs and of tokens the checksums alone."""
    checksums = {
        'built_on': {name: part['checksum'] for name, part in facts.built_on.items()},
        'init_from': facts.init_from and facts.init_from['checksum'],
    }
    sealed = dataclasses.asdict(facts) | checksums
    if tokens := sealed['spec'].pop('tokens'):  # which may be megabytes, and were not there before text was
        sealed['spec']['tokens'] = hashlib.sha256(json.dumps(tokens).encode()).hexdigest()
    if sealed['spec']['text_vectors'] is None:  # which runs of before there were any do not say
        del sealed['spec']['text_vectors']
    return json.loads(json.dumps(sealed))


def check_sealed(workdir: Path, sealed: Sealed, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses a run whose files say something else than its checkpoints were sealed with.

    Args:
        workdir: The run directory.
        sealed: What the newest checkpoint was sealed with.
        before: The config in it, with today's defaults for keys that are newer.
        now: That of `config.json`, alike.

    Raises:
        UserError: Some keys of `config.json` or `data.json` differ; each is named with both values.
    """
    facts = facts_to_seal(read_data_facts(workdir))
    # Later versions may know more facts.
    known = {key: facts.get(key) for key in sealed['data']}
    for name, differing in (
        (CONFIG_NAME, differing_keys(before, now, _LENGTH)),
        (DATA_NAME, differing_keys(sealed['data'], known)),
    ):
        if differing:
            raise UserError(
                f'{workdir / name} is not what the run was trained with: its checkpoints say otherwise of '
                f'{", ".join(differing)}; put the former values back, or restore the file from a copy.'
            )


def check_not_lost(workdir: Path) -> None:
    """Refuses to begin a run anew that has a log and lost its checkpoints (see `Checkpoints.never_saved`)."""
    try:
        last = max((line.step for line in read_log(workdir / METRICS_NAME)), default=0)
    except FileNotFoundError:
        return
    if last:
        raise UserError(
            f'{workdir} has a log up to step {last} and no checkpoint to go on from; put its folder '
            f'{CHECKPOINTS} back, or begin anew in another --workdir.'
        )


def named_anew(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """The parts of which a config names another directory or step than that of the run does."""
    return {
        name
        for name, part in _PARTS.items()
        if part.section in config
        and part.section in recorded
        and part.workdir in recorded[part.section]
        and part.named_in(config) != part.named_in(recorded)
    }


def pin_built_on(
    config: ConfigDict, workdir: Path, anew: Collection[str], exchanged: Collection[str] = ()
) -> ConfigDict:
    """A config of a run in which the runs that it is built on are the copies that it keeps of them.

    Those that are named anew are where the config says, and so are those of which a run of before keeps no
    copy; there, the step is that of the beginning if the config leaves it open.

    Args:
        config: The full config.
        workdir: The run directory.
        anew: Parts that the config names otherwise than that of the run.
        exchanged: Parts that may be others, and are left as they are.
    """
    config = config.copy_and_resolve_references()
    for name, before in read_data_facts(workdir).built_on.items():
        part, copy = _PARTS[name], workdir / BUILT_ON / name
        section = config[part.section]
        if name in exchanged or not section[part.workdir]:
            continue
        if name not in anew and is_run(copy):
            section[part.workdir] = str(copy)
        if section.get(part.step) is None:
            with section.unlocked():
                section[part.step] = before['step']
    return config


def is_run(workdir: str | Path) -> bool:
    """Whether a directory holds a run; raises `UserError` if this user may not look."""
    with telling(f'Cannot look into {workdir}', 'check its permissions'):
        return (Path(workdir) / CONFIG_NAME).is_file()


def check_built_on(workdir: Path, now: Mapping[str, BuiltOn], exchanged: Collection[str] = ()) -> None:
    """Refuses to use a run with other weights of another run than it was trained with.

    Args:
        workdir: The run directory.
        now: As `DataFacts.built_on`.
        exchanged: Parts that may be others.

    Raises:
        UserError: A checksum differs.
    """
    for name, before in read_data_facts(workdir).built_on.items():
        if name not in exchanged and now.get(name, before)['checksum'] != before['checksum']:
            raise UserError(
                f'{workdir} was trained with the {_PARTS[name].title} of step {before["step"]} of '
                f'{before["workdir"]} (checksum {before["checksum"][:12]}), and step {now[name]["step"]} of '
                f'{now[name]["workdir"]} holds other weights; put those back, or train in a new directory.'
            )


def check_published(workdir: Path, now: str | None) -> None:
    """Refuses to use a run with published weights of another checksum than `DataFacts.published`."""
    before = read_data_facts(workdir).published
    if before and now != before:
        raise UserError(
            f'{workdir} was trained with other weights of config.perceptual (checksum {before[:12]}, and now '
            f'{now[:12] if now else "none"}); put those files back, or train in a new directory.'
        )


def locate(before: BuiltOn, workdir: Path) -> list[Path]:
    """Where a run that `data.json` names may be: as seen from the run that names it, and as it was typed."""
    paths = [Path(before['workdir'])]
    if 'from_here' in before:
        paths.insert(0, Path(os.path.normpath(workdir.resolve() / before['from_here'])))
    return paths


def flatten(value: dict[str, Any]) -> dict[str, Any]:
    """The values of a nested dict by their dotted keys; an empty dict within it is a value."""
    return flatten_dict(value, sep='.', is_leaf=lambda path, inner: path and not inner)


def show(value: Any) -> str:
    """One text per JSON value: unlike `==` it keeps 1, 1.0 and true apart, and NaN together."""
    return 'absent' if value is _ABSENT else json.dumps(value)

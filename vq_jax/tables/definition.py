"""What a table is made of, as its `table.py` says it."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import string
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired, TypedDict

from ml_collections import ConfigDict

from vq_jax.config_files import find_config, get_config, run_file, split_config
from vq_jax.errors import UserError
from vq_jax.extensions import named_modules
from vq_jax.training.config import explain, to_json
from vq_jax.training.run_dir import flatten, is_run

INCEPTION = 'inception'
WEIGHTS = 'weights:'


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How samples and reconstructions of a run are compared with images: `vq_jax.evaluate --features`.

    Attributes:
        features: the row of the classifier in whose features, or 'inception'.
        num: how many samples are made.
        split: of the images; the one that the run was evaluated on if it is empty.
    """

    features: str
    num: int = 2_000
    split: str = ''


@dataclasses.dataclass(frozen=True)
class FrameByFrame:
    """How frames of videos that a run makes are measured: `vq_jax.evaluate --video`.

    Attributes:
        given: to a prior or a diffusion model, how many of the first frames, or of the first and of the last;
            empty for an autoencoder.
        split: of the videos; the one that the run was evaluated on if it is empty.
    """

    given: tuple[int, ...] = ()
    split: str = ''


_COMPARISON_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Comparison)}


@dataclasses.dataclass(frozen=True)
class Row:
    """One run, or one evaluation of the run of another row.

    In a text, `{NAME}` stands for the directory of the row of that name, which must come before.

    Attributes:
        name: of the row, and of its directory.
        title: what people call it.
        config: the config file, as a path from the folder of the table, from one above it or from the working
            directory, or by its name if it comes with the package; its argument may follow a colon. Or
            `{NAME}`: nothing is trained, and the run of that row is evaluated once more. Or `weights:FILE`:
            the run is made of a file of published weights, as a path or an address, by `vq_jax.convert`.
        metrics: the metric, by column of the table: the name of one of the evaluation, or, of a comparison,
            `samples.` or `reconstructions.` and the name, or 'samples.seconds_per_sample'; of frames, what
            `vq_jax.evaluate --video` says they are, such as `predictions.`, and the name.
        overrides: other values for keys of the config, in training or, where nothing is trained, in
            evaluation.
        paper: the paper's number, by column, where it has one.
        comparison: made after training, or in the evaluation: with images, or of frames with their originals.
        facts: what plots are drawn against, by name: the number of codes, say.
        large: run only where it is asked for by its name: it needs an accelerator, or data that not
            everyone has.
    """

    name: str
    title: str
    config: str
    metrics: Mapping[str, str]
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    paper: Mapping[str, str] = dataclasses.field(default_factory=dict)
    comparison: Comparison | FrameByFrame | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    large: bool = False

    @property
    def run(self) -> str:
        """The name of the row whose run it is: another one where this one only evaluates."""
        return self.config[1:-1] if self.config.startswith('{') else self.name

    @property
    def weights(self) -> str:
        """The file of weights of which its run is made; empty if there is none."""
        return self.config.removeprefix(WEIGHTS) if self.config.startswith(WEIGHTS) else ''

    @property
    def weights_name(self) -> str:
        """The name of that file, wherever it lies, and of whatever revision it is."""
        return PurePosixPath(self.weights).name.partition('@')[0]

    @property
    def trains(self) -> bool:
        """Whether it trains a run of its own."""
        return self.run == self.name and not self.weights

    @property
    def built_on(self) -> dict[str, str]:
        """The names of the rows whose directories its config names, by the key that does."""
        texts = {key: value for key, value in self.overrides.items() if isinstance(value, str)}
        return {key: name for key, text in texts.items() for name in _names(text)}

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the rows that it builds on."""
        names = [*([self.run] if self.run != self.name else []), *self.built_on.values()]
        if isinstance(self.comparison, Comparison) and self.comparison.features != INCEPTION:
            names.append(self.comparison.features)
        return tuple(dict.fromkeys(names))

    def resolved(self, workdir: Path) -> dict[str, Any]:
        """The overrides with directories of other rows in their places."""
        named = {
            key: value.format(**{name: workdir / name for name in _names(value)})
            for key, value in self.overrides.items()
            if isinstance(value, str)
        }
        return {**self.overrides, **named}

    def modules(self) -> frozenset[str]:
        """Those of tasks and quantizers of the user's own that its config names."""
        return named_modules(_read(self.config)[0]) if self.trains else frozenset()

    def run_config(self, workdir: Path) -> dict[str, Any]:
        """The config of the run that it trains, in JSON values, with its overrides."""
        config = _get_config(self.config)
        config.update_from_flattened_dict(self.resolved(workdir))
        return to_json(config)

    def defaults(self) -> dict[str, Any]:
        """Of keys of the config of the run that it trains, by their dotted names, in JSON values."""
        return _read(self.config)[1]


class Made(TypedDict):
    """All that the numbers of a row are a function of, in JSON values, without where directories are.

    That is the config of its file (None where it trains nothing), its overrides, its comparison, the name of
    its file of weights, and the fingerprints of the rows that it builds on.
    """

    config: dict[str, Any] | None
    overrides: dict[str, Any]
    comparison: NotRequired[dict[str, Any]]
    weights: NotRequired[str]
    needs: NotRequired[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Plot:
    """Numbers of the rows that were run, against each other or against a fact of them.

    Attributes:
        name: of its file, `plot_NAME.svg`.
        x: a fact of rows, or a column.
        y: a column.
        series: the fact whose values are drawn as lines; if it is empty, each row is a point that is named.
        log_x: draw x on a logarithmic scale.
        log_y: the same of y.
    """

    name: str
    x: str
    y: str
    series: str = ''
    log_x: bool = False
    log_y: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        title: what it shows.
        source: the paper, and where in it.
        rows: in order.
        remarks: what a reader must know to compare the two numbers.
        plots: in order.
    """

    title: str
    source: str
    rows: tuple[Row, ...]
    remarks: str = ''
    plots: tuple[Plot, ...] = ()

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The numbers that rows have, in order: the paper's where it has any, and ours where one is seen."""
        whose = {
            'paper': {column for row in self.rows for column in row.paper},
            'ours': {column for row in self.rows for column in row.metrics},
        }
        names = dict.fromkeys(column for row in self.rows for column in (*row.metrics, *row.paper))
        return [(name, one) for name in names for one, columns in whose.items() if name in columns]

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Of each row by its name: hexadecimal SHA-256 of what it is `made` of."""
        found: dict[str, str] = {}
        for row in self.rows:
            said = list(_made(row, found).values())
            found[row.name] = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        return found

    @functools.cached_property
    def made(self) -> dict[str, Made]:
        """By the fingerprint of each row, what its numbers are a function of."""
        found = self.fingerprints
        return {found[row.name]: json.loads(json.dumps(_made(row, found))) for row in self.rows}

    def is_of(self, name: str, fingerprint: str, made: Mapping[str, Made]) -> bool:
        """Whether numbers that were seen under a fingerprint are those of a row as it is now.

        They are, too, where the row's config has keys now that it did not have then, and these have their
        defaults, with which a later version does as those before it did. A default that was changed is
        another config.

        Args:
            name: of the row.
            fingerprint: of what it was then.
            made: by fingerprints of then, what they are of.
        """
        if fingerprint == self.fingerprints[name]:
            return True
        if fingerprint not in made:
            return False
        row = next(row for row in self.rows if row.name == name)
        before, now = made[fingerprint], self.made[self.fingerprints[name]]
        needs = before.get('needs', {})
        if before['overrides'] != now['overrides'] or needs.keys() != set(row.needs):
            return False
        if before.get('weights') != now.get('weights'):
            return False
        if not _is_same(before.get('comparison'), now.get('comparison'), _COMPARISON_DEFAULTS):
            return False
        if not _is_same(before['config'], now['config'], row.defaults() if row.trains else {}):
            return False
        return all(self.is_of(other, needs[other], made) for other in row.needs)


def read_table(folder: Path) -> Table:
    """The table of a folder, whose `table.py` is run.

    Raises:
        UserError: if there is none, or it cannot be run, or its rows do not fit each other. The folder of a
            run, which may be a stranger's, is never taken for one of a table.
    """
    path = folder / 'table.py'
    if is_run(folder):
        raise UserError(f'{folder} is a run, in which no program is run; give a folder in experiments/.')
    if not path.is_file():
        raise UserError(f'{folder} holds no table.py; give a folder in experiments/.')
    with _running(path):
        table = run_file(str(path)).get_table()
    if not isinstance(table, Table):
        raise UserError(f'get_table() of {path} must return a vq_jax.tables.Table.')
    folders = [path.resolve().parent, *path.resolve().parents[1:], Path()]
    rows = [
        row
        if row.config.startswith(('{', WEIGHTS))
        else dataclasses.replace(row, config=find_config(row.config, folders))
        for row in table.rows
    ]
    table = dataclasses.replace(table, rows=tuple(rows))
    before: dict[str, Row] = {}
    for row in table.rows:
        if row.name in before or row.name == INCEPTION:
            raise UserError(f'the name of the row {row.name!r} of {path} is taken; give it another.')
        for name in row.needs:
            if name not in before or not before[name].trains:
                why = 'trains nothing' if name in before else 'no row before it is'
                raise UserError(f'the row {row.name} of {path} builds on {name!r}, which {why}.')
        before[row.name] = row
    return table


def _made(row: Row, fingerprints: Mapping[str, str]) -> Made:
    """What a row is made of, by the fingerprints of the rows before it."""
    made = Made(config=_read(row.config)[0] if row.trains else None, overrides=dict(row.overrides))
    if row.comparison:
        made['comparison'] = dataclasses.asdict(row.comparison)
    if row.weights:
        made['weights'] = row.weights_name
    if row.needs:
        made['needs'] = {name: fingerprints[name] for name in row.needs}
    return made


def _is_same(
    before: Mapping[str, Any] | None, now: Mapping[str, Any] | None, defaults: Mapping[str, Any]
) -> bool:
    """Whether two sections of keys are equal, but for keys that are new and have their defaults."""
    if before is None or now is None:
        return before is now
    before, now = flatten(dict(before)), flatten(dict(now))
    before |= {key: defaults[key] for key in now.keys() - before.keys() if key in defaults}
    return json.dumps(before, sort_keys=True) == json.dumps(now, sort_keys=True)  # 1 is not true here


@functools.cache
def _read(argument: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config of a file and its argument, and the defaults of its dotted keys, as JSON values."""
    config = _get_config(argument)
    defaults = {key.path: key.default for key in explain(config)}
    return to_json(config), json.loads(json.dumps(defaults))


def _get_config(argument: str) -> ConfigDict:
    with _running(Path(split_config(argument)[0])):
        return get_config(argument)


def _names(text: str) -> list[str]:
    """The rows that a text names in braces."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name]


@contextlib.contextmanager
def _running(path: Path) -> Iterator[None]:
    """Tells in a sentence what a file that the user wrote raises."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = f'{type(error).__name__}: {" ".join(str(error).split())}'
        raise UserError(f'{path} cannot be run ({said}); mend it.') from error

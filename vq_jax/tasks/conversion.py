"""Checkpoints of other projects as runs of ours, and runs of ours as theirs."""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from vq_jax.buckets import BucketFolder, address_of, by_address, copy_of, folder_of, is_address
from vq_jax.errors import UserError, nearest
from vq_jax.files import telling, write_atomically
from vq_jax.spec import Spec
from vq_jax.tasks.diffusion import DiffusionTask
from vq_jax.tasks.prior import PriorTask
from vq_jax.tasks.registry import complete_config, default_config, make_task
from vq_jax.tasks.restore import identities, keep_built_on, overridden, restore, write_for_inference
from vq_jax.tasks.task import State, Task
from vq_jax.training.finite import some
from vq_jax.training.run_dir import DataFacts, Origin, flatten
from vq_jax.training.state import abstract_batch
from vq_jax.weights import (
    PROJECTS,
    Project,
    read_weights,
    write_msgpack,
    write_pytorch,
    write_safetensors,
)
from vq_jax.weights.diffusers import FILE as FOLDERS_FILE
from vq_jax.weights.project import Folded, Row, ours_of, theirs_of
from vq_jax.weights.read import ENDINGS

WRITTEN = ('.safetensors', '.ckpt', '.pt', '.pth', '.msgpack')  # how files may end that are written
_BESIDE = 'config.json'  # what says of a model of diffusers what no array says
_OTHERS = {  # what else is published, by the name of one of its arrays
    'features.0.weight': 'VGG-16 of torchvision',
    'lin0.model.1.weight': 'the heads of LPIPS',
    'Mixed_5b.branch1x1.conv.weight': 'Inception-v3',
    'model.cls_embedding.cap_proj.fc1.weight': 'a text-conditional transformer of LlamaGen',
    'state_dict.model.diffusion_model.out.0.weight': 'a U-Net of latent-diffusion',
}


@dataclasses.dataclass(frozen=True)
class Converted:
    """A model of another project as one of ours.

    Attributes:
        config: the full config of a run of it.
        task: of that config.
        facts: of its data, and where it comes from.
        state: for inference, on the host.
        left_out: names of arrays that inference does not need.
    """

    config: ConfigDict
    task: Task
    facts: DataFacts
    state: State
    left_out: tuple[str, ...]

    def write(self, workdir: str | Path) -> None:
        """Makes a run, which every command opens and none goes on training.

        Args:
            workdir: the directory of the run, which is made.

        Raises:
            UserError: it cannot be written, or something is there; then all is as it was.
        """
        check_new(workdir)
        _write(Path(workdir), self)


def check_new(workdir: str | Path) -> None:
    """Raises `UserError` if a directory of a run to be made is there and not empty."""
    workdir = Path(workdir)
    if workdir.is_file() or (workdir.is_dir() and any(workdir.iterdir())):
        raise UserError(f'{workdir} is there already; give a --workdir that is not, which is made.')


def convert(
    source: str | Path, project: str | None = None, overrides: Mapping[str, Any] | None = None
) -> Converted:
    """Reads a checkpoint of another project.

    Args:
        source: the file, of any format that `read_weights` knows, or a folder with one of them; also by its
            address in a bucket or on the Hugging Face Hub, `hf://...`.
        project: whose it is, by its name among `vq_jax.weights.PROJECTS`; None finds out by its arrays.
        overrides: other values for keys of the config, by their dotted names, such as
            `{'data.image_size': 512}`; the network must stay as it is.

    Raises:
        UserError: it cannot be read, is of no such project or of several, or lacks something.
    """
    with by_address():
        return _convert(_local(source), project, overrides or {})


def _convert(source: Path, project: str | None, overrides: Mapping[str, Any]) -> Converted:
    candidates = [_named(project)] if project else list(PROJECTS.values())
    weights = read_weights([source])
    chosen, arrays = _recognised(source, weights.arrays, candidates)
    sizes = chosen.sizes(arrays)
    published = chosen.known_as(sizes)
    trained = dict(published.config) if published else {}
    network = {**chosen.given(sizes), **chosen.config(sizes)}
    beside = source.with_name(_BESIDE)
    said = chosen.said(beside) if chosen.said and beside.is_file() else {}
    trained |= {key: value for key, value in said.items() if key.startswith('data.')}
    network |= {key: value for key, value in said.items() if not key.startswith('data.')}
    if fixed := [key for key in overrides if key in network]:
        as_there = f'{beside} says' if fixed[0] in said else f'the arrays of {source} are'
        raise UserError(f'{fixed[0]} is as {as_there}, and cannot be overridden.')
    config = _config(source, chosen, {**chosen.defaults, **trained, **network}, overrides)
    flat = flatten(config.to_dict())
    if misfits := chosen.misfits(flat):
        raise UserError(f'{misfits[0]}.')
    spec, num_classes = chosen.spec(flat), chosen.num_classes(sizes, flat)
    task = make_task(config, spec, num_classes)
    chosen.check_grid(sizes, _grid(task))
    rows, constants = chosen.table(sizes, flat), chosen.constants(sizes, flat)
    left_out = _check(source, chosen, rows, constants, arrays)
    if odd := [name for name in _shapes(rows) if not np.isfinite(arrays[name]).all()]:
        raise UserError(f'{source} holds numbers that are not finite, in {some(odd)}; get the file anew.')
    ours = ours_of(rows, arrays) | chosen.beside(sizes, flat)
    state = _filled(source, task, spec, ours)
    origin: Origin = {
        'project': chosen.name,
        'model': published.name if published else None,
        'source': chosen.source,
        'licence': chosen.licence,
        'file': address_of(source) or source.name,
        'sha256': weights.checksums[str(source)],
        'facts': dict(published.facts) if published else {},
    }
    facts = DataFacts(spec, num_classes, identities(task), origin=origin)
    return Converted(config, task, facts, state, tuple(left_out))


def _config(
    source: Path,
    project: Project,
    values: Mapping[str, Any],
    overrides: Mapping[str, Any],
) -> ConfigDict:
    """The full config of a converted run."""
    if project.BUILT_ON and not overrides.get(f'{project.BUILT_ON[0]}.workdir'):
        section, what = project.BUILT_ON
        raise UserError(
            f'{source} is {what}; name the run of that, which convert makes too, by '
            f'--override={section}.workdir=DIR.'
        )
    if unsaid := [key for key in project.UNSAID if key not in values and key not in overrides]:
        beside = ', and no config.json beside it does' if project.said else ''
        raise UserError(
            f'the arrays of {source} do not say what {unsaid[0]} was{beside}, and no model of these sizes is '
            f'known; give it, by --override={unsaid[0]}=N.'
        )
    config = default_config(values['task'])
    config.update_from_flattened_dict(values)
    return overridden(complete_config(config), overrides, source)


def export_run(workdir: str | Path, project: str, output: str | Path, step: int | str | None = None) -> None:
    """Writes the model of a run as a checkpoint of another project.

    Args:
        workdir: the directory of the run.
        project: a name among `vq_jax.weights.PROJECTS`.
        output: the file, `.safetensors`, one that `torch.load` reads, `.ckpt`, `.pt` or `.pth`, or one that
            Flax reads, `.msgpack`; of projects whose models are folders, a path without an ending is one.
        step: the checkpoint, as for `vq_jax.load`.

    Raises:
        UserError: the run is of another network than that project has, or the file cannot be written.
    """
    output, chosen = Path(output), _named(project)
    if output.suffix not in WRITTEN and not (chosen.settings and not output.suffix):
        raise UserError(f'the output is {output}; give a name that ends in {", ".join(WRITTEN)}.')
    run = restore(workdir, step)
    config = {**flatten(run.config.to_dict()), 'data.channels': run.spec.channels}
    if config['task'] != chosen.TASK:
        raise UserError(f'{workdir} is a run of the task {config["task"]}; {chosen.title} has none of that.')
    ours = _by_way(run.state.eval_variables())
    sizes = chosen.sizes_of(config, {way: x.shape for way, x in ours.items()}, _grid(run.task))
    differing = [
        f'config.{key} is {config[key]}, and would have to be {value}'
        for key, value in chosen.config(sizes).items()
        if config[key] != value
    ]
    differing += chosen.misfits(config)
    if differing or run.spec.kind != chosen.KIND:
        why = '; '.join(differing) or f'it is of {run.spec.plural}'
        raise UserError(f'{workdir} cannot be written as a model of {chosen.title}: {why}.')
    chosen.check_grid(sizes, _grid(run.task))
    rows = chosen.table(sizes, config)
    arrays = theirs_of(rows, ours)
    back = ours_of(rows, arrays) | chosen.beside(sizes, config)
    lost = [way for way, array in back.items() if not np.allclose(array, ours[way], 1e-5, 0)]
    if lost:
        raise UserError(
            f'{workdir} cannot be written as a model of {chosen.title}, which has none of what was learned '
            f'in {some([".".join(way) for way in lost])}.'
        )
    arrays |= chosen.constants(sizes, config)
    settings = chosen.settings(sizes, config) if chosen.settings else {}
    named = {'format': 'pt', 'vq_jax': run.identity()['checksum']}
    if not output.suffix:
        write_safetensors(output / FOLDERS_FILE, arrays, named)
        write_atomically(output / _BESIDE, json.dumps(settings, indent=2) + '\n')
    elif output.suffix == '.safetensors':
        write_safetensors(output, arrays, named)
    elif output.suffix == '.msgpack':
        names = {f'{chosen.section}.{name}' if chosen.section else name: x for name, x in arrays.items()}
        write_msgpack(output, unflatten_dict(names, sep='.'))
    else:
        write_pytorch(output, {chosen.section: arrays} if chosen.section else arrays)


def origin_in_words(origin: Origin) -> str:
    """Where weights come from, in a line."""
    sizes = f' of the sizes of {origin["model"]}' if origin['model'] else ''
    facts = ', '.join(f'{name} {value}' for name, value in origin['facts'].items())
    published = f'; published of {origin["model"]}: {facts}' if facts else ''
    return (
        f'a model of {origin["project"]}{sizes} ({origin["source"]}, code under {origin["licence"]}), from '
        f'{origin["file"]}, SHA-256 {origin["sha256"]}{published}'
    )


def _local(source: str | Path) -> Path:
    """The file of weights that a path or an address names, or that is in the folder which it names."""
    if not is_address(source):
        source = Path(source)
        return (
            source / _file_in(source, [path.name for path in source.iterdir()]) if source.is_dir() else source
        )
    local, place = copy_of(source), source
    below = [] if local.suffix in ENDINGS else list(BucketFolder(source).list())
    parent = None if below else folder_of(source)
    if parent is None:
        name = _file_in(local, below)
    else:  # it is a file, which of Flax may have no ending
        local, place, name = local.parent, parent, local.name
    if name not in BucketFolder(place).copy_to(local, lambda other: other in (name, _BESIDE)):
        raise UserError(f'there is no file {source}; check its name.')
    return local / name


def _file_in(folder: Path, names: Sequence[str]) -> str:
    """Which of the files of a folder, as of diffusers, has the weights; of several formats, safetensors."""
    found = [name for name in sorted(names) if '/' not in name and name.endswith(ENDINGS)]
    chosen = [name for name in found if name.endswith('.safetensors')] or found
    if not chosen:
        raise UserError(f'{folder} has no file of weights; name one, or another folder.')
    if len(chosen) > 1:
        raise UserError(f'{folder} has several files of weights, {some(chosen)}; name the file.')
    return chosen[0]


def _named(project: str) -> Project:
    if project not in PROJECTS:
        near = nearest(project, PROJECTS)
        hint = f'did you mean {near[0]!r}?' if near else f'there are {", ".join(PROJECTS)}.'
        raise UserError(f'{project!r} is no project whose weights are converted; {hint}')
    return PROJECTS[project]


def _recognised(
    source: Path, arrays: Mapping[str, np.ndarray], candidates: Sequence[Project]
) -> tuple[Project, dict[str, np.ndarray]]:
    """Whose a checkpoint is, and the arrays of its model by their names there."""
    named = [(one, one.renamed(arrays)) for one in candidates]
    found = [(one, theirs, root) for one, theirs in named if (root := one.root(theirs)) is not None]
    if len(found) > 1:
        names = ' or '.join(one.name for one, *_ in found)
        raise UserError(f'{source} may be of several projects; say which by --from={names}.')
    if not found:
        others = [one.title for one in PROJECTS.values() if one.root(one.renamed(arrays)) is not None]
        others += [what for name, what in _OTHERS.items() if name in arrays]
        of = ', '.join(one.title for one in candidates)
        holds = f'it holds {others[0]}' if others else f'its arrays are {some(list(arrays))}'
        raise UserError(f'{source} is not a model of {of}: {holds}.')
    ((chosen, theirs, root),) = found
    return chosen, {name.removeprefix(root): x for name, x in theirs.items() if name.startswith(root)}


def _shapes(rows: Sequence[Row | Folded]) -> dict[str, tuple[int, ...]]:
    """Those of all arrays there."""
    return {name: shape for row in rows for name, shape in row.shapes.items()}


def _check(
    source: Path,
    project: Project,
    rows: Sequence[Row | Folded],
    constants: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray],
) -> list[str]:
    """Raises `UserError` unless arrays are those of a model; the names of those that are not needed."""
    shapes = _shapes(rows)
    others = [name for name in arrays if name not in shapes and name not in constants]
    left_out = [name for name in others if name.startswith(project.unread)] if project.unread else []
    surplus = [name for name in others if name not in left_out]
    missing = [name for name in shapes if name not in arrays]
    near = {name: nearest(name, surplus, cutoff=0.8) for name in missing[:3]}
    groups = {
        'missing': [f'{n} (there is {near[n][0]})' if near.get(n) else n for n in missing],
        'of no use': surplus,
        'of another shape': [
            f'{name} ({arrays[name].shape} there, {shape} needed)'
            for name, shape in shapes.items()
            if name in arrays and arrays[name].shape != shape
        ],
    }
    groups['of other values than the network has'] = [
        name
        for name, values in constants.items()
        if name in arrays and not name.startswith(project.unread) and not _near(arrays[name], values)
    ]
    told = [f'{what}: {some(names)}' for what, names in groups.items() if names]
    if told:
        raise UserError(f'{source} is no whole model of {project.title}; {"; ".join(told)}.')
    return left_out


def _grid(task: Task) -> tuple[int, ...]:
    """That of the codes or latents that a task learns; of an autoencoder, that of examples."""
    if isinstance(task, PriorTask):
        return task.network.grid
    return task.codec.latent_shape[:-1] if isinstance(task, DiffusionTask) else task.spec.grid


def _near(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and np.allclose(found, wanted, atol=1e-3)


def _filled(source: Path, task: Task, spec: Spec, arrays: Mapping[tuple[str, ...], np.ndarray]) -> State:
    """The state of a task for inference, with arrays by the way to them among the model's variables.

    Raises:
        UserError: the network of the task has others.
    """
    like = jax.eval_shape(task.init, jax.random.key(0), abstract_batch(1, spec)).for_inference()
    wanted = _by_way({'params': like.params, **like.variables})
    # What a codebook knows of its use: nothing, so that all codes count alike.
    given = {way: np.full(x.shape, 1 / x.size, x.dtype) for way, x in wanted.items() if way[-1] == 'shares'}
    given |= arrays
    if odd := [way for way in {**wanted, **given} if _shape(wanted, way) != _shape(given, way)]:
        told = [f'{".".join(way)} ({_shape(given, way)} there, {_shape(wanted, way)} here)' for way in odd]
        raise UserError(f'{source} is of another network than its config makes, in {some(told)}.')
    leaves = [given[way] for way in wanted]
    variables = jax.tree.unflatten(jax.tree.structure({'params': like.params, **like.variables}), leaves)
    params = variables.pop('params')
    return like.replace(params=params, variables=variables)


def _shape(arrays: Mapping[tuple[str, ...], Any], way: tuple[str, ...]) -> tuple[int, ...] | None:
    return arrays[way].shape if way in arrays else None


def _by_way(variables: Any) -> dict[tuple[str, ...], Any]:
    """Arrays of nested dictionaries by the way to them, in the order of their leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def _write(workdir: Path, made: Converted) -> None:
    """Writes a run, which is there whole or not at all."""
    with telling(f'Cannot write {workdir}', 'choose another --workdir'):
        workdir.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f'.{workdir.name}.', dir=workdir.parent))
    try:
        keep_built_on(made.task, making / 'run', anew=True)
        write_for_inference(making / 'run', made.config, made.facts, 0, made.state)
        with telling(f'Cannot write {workdir}', 'choose another --workdir'):
            os.replace(making / 'run', workdir)  # an empty folder of that name is replaced
    finally:
        shutil.rmtree(making, ignore_errors=True)

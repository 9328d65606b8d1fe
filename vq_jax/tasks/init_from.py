"""A run that begins with the weights of another, as in fine-tuning."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vq_jax.data.text_vectors import VECTORS
from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks.classes import difference
from vq_jax.tasks.registry import make_task
from vq_jax.tasks.restore import Restored, restore
from vq_jax.tasks.task import State, Task
from vq_jax.training.finite import some
from vq_jax.training.manifest import as_text, describe, flatten
from vq_jax.training.run_dir import DataFacts, locate, read_data_facts
from vq_jax.training.state import AdversarialState, TrainState, abstract_batch


def open_source(
    workdir: Path, init_from: str | Path | None, step: int | Literal['best'] | None, *, begun: bool
) -> Restored | None:
    """The run whose weights a new run begins with; None if there is none, or the run was begun before.

    Args:
        workdir: the directory of the run.
        init_from: that of the other; None for whatever it is.
        step: the checkpoint of the other; None is its newest, and of a run that was begun whatever it was.
        begun: whether the run was begun before.

    Raises:
        UserError: the other cannot be read, or the run was begun with something else.
    """
    if init_from is None:
        if step is not None:
            raise UserError('--init_from_step is given without --init_from; give both, or leave it out.')
        return None
    if not begun:
        return restore(init_from, step)
    began = read_data_facts(workdir).init_from
    if began is None:
        raise UserError(
            f'{workdir} holds a run that did not begin with another; leave --init_from out to go on with '
            'it, or give another --workdir.'
        )
    paths = [path.resolve() for path in locate(began, workdir)]
    if Path(init_from).resolve() not in paths or step not in (None, 'best', began['step']):
        asked = '' if step is None else f'step {step} of '
        raise UserError(
            f'{workdir} holds a run that began with step {began["step"]} of {began["workdir"]}, not with '
            f'{asked}{init_from}; leave --init_from out to go on with it, or give another --workdir.'
        )
    return None


def reopen_source(workdir: Path) -> Restored | None:
    """The run that a run of which nothing was saved yet began with; None if it began with none.

    Raises:
        UserError: it cannot be read, or holds other weights now.
    """
    began = read_data_facts(workdir).init_from
    if began is None:
        return None
    there = next((path for path in locate(began, workdir) if path.is_dir()), began['workdir'])
    source = restore(there, began['step'])
    if source.identity()['checksum'] != began['checksum']:
        raise UserError(
            f'{workdir} began with step {began["step"]} of {there}, which holds other weights now; put those '
            'back, or train in a new directory.'
        )
    return source


def arrays_of_other_classes(
    source: Restored, config: ConfigDict, task: Task, facts: DataFacts
) -> dict[str, set[str]]:
    """The arrays of a model that belong to its classes, if those of a run to begin with are others.

    They are the arrays that would have another shape with one class more. Those of as many other classes have
    the right shape, and would mean something else. In the config, the runs that the new one is built on can
    be read.

    Returns:
        Names of arrays, by the network that they are of; nothing if the classes are the same, not known, or
        do not count.

    Raises:
        UserError: the classes are others, and the arrays of theirs cannot be known.
    """
    changed = difference(source.class_names, facts.class_names)
    if not (changed and task.classes_read) or len(source.class_names) != facts.num_classes:
        return {}
    try:
        larger = make_task(config, facts.spec, facts.num_classes + 1)
    except UserError as error:  # as of a decoder that is conditioned on these classes
        raise UserError(
            f'{source.workdir}, which --init_from names, learned of other classes: {changed}; name a run of '
            'the same classes in the same order, or leave --init_from out.'
        ) from error
    batch = abstract_batch(1, facts.spec)
    with_one_more, without = (
        jax.eval_shape(t.init, jax.random.key(0), batch).networks for t in (larger, task)
    )
    of_classes = {}
    for name, network in without.items():
        more, arrays = _arrays(with_one_more[name]), _arrays(network)
        of_classes[name] = {key for key, x in arrays.items() if _kind(more[key]) != _kind(x)}
    return of_classes


def check_same_texts(source: Restored, task: Task, facts: DataFacts) -> None:
    """Raises `UserError` if a run to begin with learned of texts in other tokens than the new one will.

    Or of vectors of texts by another encoder. Its embeddings of tokens, or maps of vectors, would have the
    right names, and often the right shapes, and mean something else.
    """
    if not (_reads_text(source.task, source.spec) and _reads_text(task, facts.spec)):
        return
    if source.spec.tokens != facts.spec.tokens:
        raise UserError(
            f'{source.workdir}, which --init_from names, learned of texts in other tokens; name a run with '
            'the same config.data.text_tokenizer (of bpe:SIZE, learned from the same texts), or leave '
            '--init_from out.'
        )
    if not (VECTORS in source.task.condition_specs and VECTORS in task.condition_specs):
        return
    if source.spec.text_vectors.encoder != facts.spec.text_vectors.encoder:
        raise UserError(
            f'{source.workdir}, which --init_from names, learned of vectors of texts by another encoder; '
            'name a run of the same one, or leave --init_from out.'
        )


def take_weights(
    source: State, state: State, leave_out: Mapping[str, Collection[str]] | None = None
) -> tuple[State, list[str]]:
    """Takes what two states have in common, by name and shape, from one into the other.

    Parameters are taken as their moving averages where the source keeps them, as evaluation does, and so are
    the other collections, such as codebooks learned by moving average. The optimizer begins anew, and
    averages of the parameters begin with what was taken. The model of a task of one network and the
    generator of one of two are the same.

    Args:
        source: of the run to take from.
        state: of a new run.
        leave_out: what is not taken (see `arrays_of_other_classes`).

    Returns:
        The new state, and lines that say what was taken and what was not.

    Raises:
        UserError: they have nothing in common.
    """
    theirs, ours = source.networks, state.networks
    report, taken, changed = [], 0, {}
    for name, network in ours.items():
        title = name if len(ours) > 1 else 'model'
        given = flatten(theirs[name].eval_variables())[0] if name in theirs else {}
        others = (leave_out or {}).get(name, ())
        wanted, treedef = flatten({'params': network.params, **network.variables})
        fitting = {key for key, x in wanted.items() if key in given and _kind(given[key]) == _kind(x)}
        same = fitting.difference(others)
        arrays = jax.tree.unflatten(treedef, [given[k] if k in same else x for k, x in wanted.items()])
        changed[name] = _with(network, arrays)
        taken += len(same)
        averaged = name in theirs and theirs[name].ema_params is not None
        averages = ', of parameters the moving averages' if averaged else ''
        report.append(f'taken into the {title}: {len(same)} of its {len(wanted)} arrays{averages}')
        kinds = {
            k: f'{k} ({_kind(given[k])} there, {_kind(x)} here)' for k, x in wanted.items() if k in given
        }
        unlike = {
            'not there': [key for key in wanted if key not in given],
            'of another shape': [kind for key, kind in kinds.items() if key not in fitting],
            'of other classes': [key for key in wanted if key in fitting - same],
            'of no use': [key for key in given if key not in wanted],
        }
        report += [f'{what}, for the {title}: {some(keys)}' for what, keys in unlike.items() if keys]
    if not taken:
        raise UserError(
            'the run that --init_from names has nothing that this model could begin with '
            f'({"; ".join(report)}); name one of a model like it.'
        )
    return state.replace(**changed) if isinstance(state, AdversarialState) else changed['generator'], report


def _reads_text(task: Task, spec: Spec) -> bool:
    return spec.kind == 'text' or 'text' in task.condition_specs


def _arrays(network: TrainState) -> dict[str, Any]:
    return flatten({'params': network.params, **network.variables})[0]


def _with(network: TrainState, arrays: dict[str, Any]) -> TrainState:
    """A network with other parameters and variables, of which its averages are copies."""
    variables = dict(arrays)
    params = variables.pop('params')
    changed = network.replace(params=params, variables=variables)
    if network.ema_params is None:
        return changed
    averages = jax.tree.map(jnp.copy, (params, {name: variables[name] for name in network.ema_stats}))
    return changed.replace(ema_params=averages[0], ema_stats=averages[1])


def _kind(x: Any) -> str:
    return as_text(describe(x))

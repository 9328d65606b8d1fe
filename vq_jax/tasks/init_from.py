"""A run that begins with the weights of another, as in fine-tuning."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.tasks import make_task
from vq_jax.tasks.classes import difference
from vq_jax.tasks.restore import Restored, restore
from vq_jax.tasks.task import State, Task
from vq_jax.training.finite import some
from vq_jax.training.manifest import as_text, describe, flatten
from vq_jax.training.run_dir import DataFacts, locate, read_data_facts
from vq_jax.training.state import TrainState, TwoPlayerState, abstract_batch


def check_source(workdir: Path, init_from: str | Path | None, step: int | Literal['best'] | None) -> None:
    """Refuses to go on with a run as if it had begun with other weights than it did.

    Args:
        workdir: the directory of the run.
        init_from: that of the run it is said to have begun with, or None, which is always right.
        step: the checkpoint of that; None for whatever it was.

    Raises:
        UserError: it began with something else.
    """
    began = read_data_facts(workdir).init_from
    if init_from is None:
        return
    if began is None:
        raise UserError(
            f'{workdir} holds a run that did not begin with another; leave --init_from out to go on with '
            'it, or give another --workdir.'
        )
    places = [place.resolve() for place in locate(began, workdir)]
    if Path(init_from).resolve() not in places or step not in (None, 'best', began['step']):
        asked = '' if step is None else f'step {step} of '
        raise UserError(
            f'{workdir} holds a run that began with step {began["step"]} of {began["workdir"]}, not with '
            f'{asked}{init_from}; leave --init_from out to go on with it, or give another --workdir.'
        )


def reopen_source(workdir: Path) -> Restored | None:
    """The run that a run of which nothing was saved yet began with; None if it began with none.

    Raises:
        UserError: it cannot be read, or holds other weights now.
    """
    began = read_data_facts(workdir).init_from
    if began is None:
        return None
    there = next((place for place in locate(began, workdir) if place.is_dir()), Path(began['workdir']))
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
    the right shape, and would mean something else.

    Args:
        source: the run to begin with.
        config: of the new run, in which the runs that it is built on can be read.
        task: of the new run.
        facts: of its data.

    Returns:
        Names of arrays, by the player that they are of; nothing if the classes are the same, not known, or do
        not count.

    Raises:
        UserError: the classes are others, and the arrays of theirs cannot be told.
    """
    changed = difference(source.class_names, facts.class_names)
    if not (changed and task.classes_read) or len(source.class_names) != facts.num_classes:
        return {}
    try:
        larger = make_task(config, facts.image_shape, facts.num_classes + 1)
    except UserError as error:  # as of a decoder that is conditioned on these classes
        raise UserError(
            f'{source.workdir}, which --init_from names, learned of other classes: {changed}; name a run of '
            'the same classes in the same order, or leave --init_from out.'
        ) from error
    batch = abstract_batch(1, facts.image_shape)
    with_one_more, without = (
        _players(jax.eval_shape(t.init, jax.random.key(0), batch)) for t in (larger, task)
    )
    of_classes = {}
    for name, player in without.items():
        more, arrays = _arrays(with_one_more[name]), _arrays(player)
        of_classes[name] = {key for key, x in arrays.items() if _kind(more[key]) != _kind(x)}
    return of_classes


def take_weights(
    source: State, state: State, leave_out: Mapping[str, Collection[str]] | None = None
) -> tuple[State, list[str]]:
    """Takes what two states have in common, by name and shape, from one into the other.

    Parameters are taken as their moving averages where the source keeps them, as evaluation does, and so are
    the other collections, such as codebooks learned by moving average. The optimizer begins anew, and
    averages of the parameters begin with what was taken. The model of a task of one player and the generator
    of one of two are the same.

    Args:
        source: of the run to take from.
        state: of a new run.
        leave_out: what is not taken (see `arrays_of_other_classes`).

    Returns:
        The new state, and lines that say what was taken and what was not.

    Raises:
        UserError: they have nothing in common.
    """
    theirs, ours = _players(source), _players(state)
    report, taken, players = [], 0, {}
    for name, player in ours.items():
        title = name if len(ours) > 1 else 'model'
        given = flatten(theirs[name].eval_variables())[0] if name in theirs else {}
        others = (leave_out or {}).get(name, ())
        wanted, treedef = flatten({'params': player.params, **player.variables})
        fitting = {key for key, x in wanted.items() if key in given and _kind(given[key]) == _kind(x)}
        same = fitting.difference(others)
        arrays = jax.tree.unflatten(treedef, [given[k] if k in same else x for k, x in wanted.items()])
        players[name] = _with(player, arrays)
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
    return state.replace(**players) if isinstance(state, TwoPlayerState) else players['generator'], report


def _arrays(player: TrainState) -> dict[str, Any]:
    return flatten({'params': player.params, **player.variables})[0]


def _players(state: State) -> dict[str, TrainState]:
    if isinstance(state, TwoPlayerState):
        return {'generator': state.generator, 'discriminator': state.discriminator}
    return {'generator': state}


def _with(player: TrainState, arrays: dict[str, Any]) -> TrainState:
    """A player with other parameters and variables, of which its averages are copies."""
    variables = dict(arrays)
    params = variables.pop('params')
    changed = player.replace(params=params, variables=variables)
    if player.ema_params is None:
        return changed
    averages = jax.tree.map(jnp.copy, (params, {name: variables[name] for name in player.ema_stats}))
    return changed.replace(ema_params=averages[0], ema_stats=averages[1])


def _kind(x: Any) -> str:
    return as_text(describe(x))

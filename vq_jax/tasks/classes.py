"""What labels mean: the names of classes, wherever a run meets a user, a data set or another run.

Names come from folders and files of anybody, so messages show them as Python writes text in quotes, in
which nothing is left that a terminal would obey.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from vq_jax.data import Dataset
from vq_jax.errors import UserError, nearest

# In the order of the labels; empty without labels, None where a run does not know them.
ClassNames = tuple[str, ...] | None

_SHOWN = 5  # of many names, in a message


def check_class_names(known: ClassNames, dataset: Dataset, learned: str) -> None:
    """Raises `UserError` if the labels of a data set mean something else than those that are learned.

    That is, of other names, or of the same in another order. Where the names that are known come from is said
    by `learned`, such as 'the run DIR'.
    """
    if changed := difference(known, dataset.class_names):
        raise UserError(
            f'{dataset.name} has other classes than {learned}: {changed}; give the same classes in the same '
            'order, or train a new run.'
        )


def difference(known: ClassNames, found: ClassNames) -> str | None:
    """How names of classes differ from what they were, in words; None if they do not, or are not known."""
    if known is None or found is None:
        return None
    # One name can be written with an accent on its letter or behind it, and file systems choose.
    before, now = ([unicodedata.normalize('NFC', name) for name in names] for names in (known, found))
    if before == now:
        return None
    gone, new = ([name for name in a if name not in b] for a, b in ((before, set(now)), (now, set(before))))
    changes = [
        f'{shown(names)} {"is" if len(names) == 1 else "are"} {how}'
        for names, how in ((gone, 'missing'), (new, 'new'))
        if names
    ]
    if changes:
        return ' and '.join(changes)
    moved = [i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b]
    if not moved:
        return f'{len(now)} names for {len(before)} classes'
    return f'label {moved[0]} was {before[moved[0]]!r} and is {now[moved[0]]!r}'


def shown(names: Sequence[str]) -> str:
    """Names in quotes, in which nothing is left that a terminal would obey; of many, the first."""
    rest = len(names) - _SHOWN
    return ', '.join(map(repr, names[:_SHOWN])) + (f' and {rest:,} more' if rest > 0 else '')


def checked_labels(n: int, label: Any, num_labels: int, names: ClassNames = None) -> np.ndarray | None:
    """Classes for n examples, int32 [n]; None if there are none.

    Args:
        n: how many.
        label: of all, or of each [n]: numbers from 0, or texts, which are names of classes first and
            numbers where no class is called so; None takes all classes in turn.
        num_labels: classes that a model is conditioned on; 0 for none.
        names: of the classes.

    Raises:
        UserError: for others.
    """
    if not num_labels:
        if label is not None:
            raise UserError('this model is not conditioned on classes; leave the label out.')
        return None
    labels = np.arange(n) % num_labels if label is None else _as_numbers(label, num_labels, names)
    if labels.shape not in ((), (n,)) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f'labels must be one number or name of a class, or one for each of {n} examples.')
    if labels.size and not (labels.min() >= 0 and labels.max() < num_labels):
        wrong = labels[(labels < 0) | (labels >= num_labels)].flat[0]
        raise UserError(f'labels must be from 0 to {num_labels - 1}; {wrong} is not.')
    return np.broadcast_to(labels, n).astype(np.int32)


def _as_numbers(label: Any, num_labels: int, names: ClassNames) -> np.ndarray:
    if isinstance(label, str):
        return np.asarray(_number(label, num_labels, names))
    if isinstance(label, np.ndarray) and label.dtype.kind in 'OUT':
        label = label.tolist()
    if isinstance(label, list | tuple):
        label = [_number(x, num_labels, names) if isinstance(x, str) else x for x in label]
    try:
        return np.asarray(label)
    except ValueError as error:
        raise UserError(
            f'the labels {label!r} are not one row of numbers or names; give a list of them.'
        ) from error


def _number(name: str, num_labels: int, names: ClassNames) -> int:
    """The label of a class that is named, or else numbered, in a text."""
    spelt = [unicodedata.normalize('NFC', other) for other in names or ()]
    found = [i for i, other in enumerate(spelt) if other == unicodedata.normalize('NFC', name)]
    if len(found) > 1:
        raise UserError(
            f'the labels {", ".join(map(str, found))} are all called {name!r}; give one as a number.'
        )
    if found:
        return found[0]
    if name.isdecimal():
        return int(name)
    if names is None:
        raise UserError(
            f'the names of the classes of this run are not known, {name!r} neither; give numbers from 0 to '
            f'{num_labels - 1}.'
        )
    near = nearest(name, names)
    hint = f'did you mean {near[0]!r}?' if near else f'its classes are {shown(names)}.'
    raise UserError(f'this run has no class {name!r}; {hint}')

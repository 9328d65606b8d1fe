"""What the names of examples say of them, by a regular expression with named groups."""

import re
from collections.abc import Sequence

from vq_jax.errors import UserError
from vq_jax.spec import ConditionSpec

_LABEL, _SPLIT = 'label', 'split'  # groups; others are conditions by their own names
_OTHERWISE = 'train'  # is the split of a name in which the group of that name finds nothing
_NONE = 'none'  # is the class of a name in which the group of labels matches the empty text
_LONGEST = 200  # characters of a pattern, of people who write it by hand


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern such as '(?P<label>[0-9])_(?P<speaker>[a-z]+)_'.

    Raises:
      UserError: If it is no regular expression, or has no named group.
    """
    try:
        found = re.compile(pattern[: _LONGEST + 1])
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f'name_pattern is {pattern!r}, which is no regular expression ({error}); mend it.'
        ) from error
    if not found.groupindex or len(pattern) > _LONGEST:
        raise UserError(
            f'name_pattern is {pattern!r}, which has no named group or more than {_LONGEST} characters; give '
            "one such as '(?P<label>[0-9]+)_'."
        )
    return found


class Names:
    """What a pattern, as `DataConfig.name_pattern`, finds in the names of all examples of a data set.

    Attributes:
      class_names: Of the labels, sorted; None if it finds no labels.
      splits: The numbers of the examples in each split, in their order; None if it finds no splits.
      conditions: What it finds beside them.
    """

    def __init__(self, pattern: str | None, names: Sequence[str], where: str) -> None:
        """Searches names, in the order of the examples.

        Args:
          pattern: None finds nothing.
          names: Of the examples.
          where: What to call the data set in messages.

        Raises:
          UserError: If a group finds nothing in a name.
        """
        groups = tuple(compiled(pattern).groupindex) if pattern is not None else ()
        found = [_found(compiled(pattern), name, where) for name in names] if groups else []
        values = {group: sorted({of[group] for of in found}) for group in groups}
        numbers = {group: {value: i for i, value in enumerate(of)} for group, of in values.items()}
        self.class_names = tuple(values[_LABEL]) if _LABEL in groups else None
        self.splits: dict[str, list[int]] | None = None
        if _SPLIT in groups:
            self.splits = {split: [] for split in values[_SPLIT]}
            for i, of in enumerate(found):
                self.splits[of[_SPLIT]].append(i)
        others = [group for group in groups if group not in (_LABEL, _SPLIT)]
        self.conditions = {group: ConditionSpec((), 'int32') for group in others}
        self._numbers = {
            name: {group: numbers[group][value] for group, value in of.items()}
            for name, of in zip(names, found, strict=bool(groups))
        }

    def label(self, name: str) -> int:
        """The number of the class of an example, where there are class names."""
        return self._numbers[name][_LABEL]

    def conditions_of(self, name: str) -> dict[str, int]:
        """The conditions of an example."""
        return {group: self._numbers[name][group] for group in self.conditions}


def _found(pattern: re.Pattern[str], name: str, where: str) -> dict[str, str]:
    """What each group finds in a name; 'train' of a split that is not there, 'none' of an empty label."""
    match = pattern.search(name)
    found = match.groupdict() if match else dict.fromkeys(pattern.groupindex)
    if _SPLIT in found:
        found[_SPLIT] = found[_SPLIT] or _OTHERWISE
    if found.get(_LABEL) == '':
        found[_LABEL] = _NONE
    if not all(found.values()):
        raise UserError(
            f'{where}: config.data.name_pattern, {pattern.pattern!r}, finds nothing for its groups in '
            f'{name!r}; change it, or take what it does not fit out of the data set.'
        )
    return found

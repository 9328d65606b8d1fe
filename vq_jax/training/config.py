"""Configs without a second list of keys: a section of a config is the signature of what it builds.

`defaults(VectorQuantizer)` is a `ConfigDict` with one key for every plain attribute of the class, and
`build(VectorQuantizer, config.quantizer, 'quantizer')` makes the object from it. A key that nothing
reads, a value of the wrong type, a number that devices do not hold and a name that is not among the
choices are errors that say which key it is and what would be right.
"""

import dataclasses
import functools
import inspect
import json
import numbers
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict, config_dict

from vq_jax.errors import UserError, nearest, on_device, printable

T = TypeVar('T')

_PLAIN = (bool, int, float, str)  # and tuples of one of them

# Counts of layers, by the names of their keys, and of values in a tuple, some of which are of layers too.
# Each layer is traced by Python, which would go on for days with a slip of the finger in a number.
_LAYERS = ('stages', 'top_stages', 'depth', 'residual_blocks')
_MOST_LAYERS, _MOST_VALUES = 1000, 100


class Section(ConfigDict):
    """A config section that knows the classes whose attributes its keys are."""

    def __init__(self, *classes: type) -> None:
        super().__init__()
        object.__setattr__(self, '_classes', classes)


def defaults(*classes: type, without: tuple[str, ...] = ()) -> Section:
    """A config section holding every plain attribute of a dataclass, or Flax module, at its default.

    Args:
        *classes: dataclasses (Flax modules are dataclasses). Attributes that are not plain values (bool,
            int, float, str, tuple of one of these, or any of them or None), or have no default, are left
            out: code provides them.
        without: further attributes that code provides.

    Returns:
        A locked `ConfigDict`. Attributes that may be None can be given their other type by a flag.
    """
    section = Section(*classes)
    for name, field in ((name, field) for cls in classes for name, field in _fields(cls).items()):
        value, kind = field.default, field.kind
        if value is dataclasses.MISSING or name in without:
            continue
        if field.optional:
            section[name] = config_dict.placeholder(kind)
            if value is not None:
                section[name] = value
        else:
            section[name] = float(value) if kind is float else value
    return section.lock()


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a config, for people.

    Attributes:
        path: its dotted name.
        kind: what it may be, in words.
        default: where nothing changes it.
        meaning: what the docstring of the class says of it, in one paragraph; empty if nothing.
        cls: the class whose attribute it is; None for a key that no class has.
    """

    path: str
    kind: str
    default: Any
    meaning: str
    cls: type | None = None


def explain(section: ConfigDict, path: str = '') -> list[Key]:
    """The keys of a config as `defaults` made its sections, its own before those of sections in it.

    Args:
        section: a whole config, or a part.
        path: where it stands in the config.
    """
    keys, inner = [], []
    fields = _fields_of(section)
    for name, value in section.items():
        if isinstance(value, ConfigDict):
            inner += explain(value, _dotted(path, name))
        elif name in fields:
            cls, field = fields[name]
            kind = field.described(field.choices)
            keys.append(Key(_dotted(path, name), kind, field.default, _meaning(cls, name), cls))
        else:
            keys.append(Key(_dotted(path, name), type(value).__name__, value, ''))
    return keys + inner


def _meaning(cls: type, name: str) -> str:
    """What the section 'Attributes' of a class's docstring, or that of a class it extends, says of one."""
    for base in cls.__mro__:
        doc = inspect.cleandoc(base.__dict__.get('__doc__') or '') + '\n'
        attributes = re.search(r'^Attributes:\n(( .*|)\n)*', doc, re.M)
        # The lines of an entry after its first are indented by more.
        said = attributes and re.search(rf'^( +){name}:(.*(\n\1 .*)*)', attributes[0], re.M)
        if said:
            return ' '.join(said[2].split())
    return ''


def build(cls: type[T], section: Mapping[str, Any], path: str, **given: Any) -> T:
    """Makes `cls` from a config section.

    Args:
        cls: the dataclass or Flax module to make.
        section: its plain attributes; those left out keep their defaults.
        path: where the section stands in the config, for messages (`'quantizer'`).
        **given: the attributes that are not plain values.

    Raises:
        UserError: for a key that `cls` does not have, or a value that does not fit. What `cls` itself says of
            its attributes is given the path of the config.
    """
    fields = _fields(cls)
    check_keys(section, fields, path)
    values = {k: fields[k].checked(v, f'config.{_dotted(path, k)}') for k, v in section.items()}
    try:
        return cls(**values, **given)
    except UserError as error:
        first = re.match(r'\w*', str(error))[0]
        between = '.' if first in fields and first not in given else ': '
        raise UserError(f'{_dotted("config", path)}{between}{error}') from error


def check_keys(keys: Mapping[str, Any], known: typing.Iterable[str], path: str) -> None:
    """Raises a `UserError` that names the nearest real key if one of `keys` is not `known`."""
    known = list(known)
    for key in keys:
        if key not in known:
            hint = _near(key, known) or f'the keys are {", ".join(known)}.'
            raise UserError(f'config.{_dotted(path, key)} is not read by anything; {hint}')


def check_values(values: Mapping[str, Any], section: ConfigDict, path: str) -> None:
    """Raises a `UserError` for the first value that does not fit its key, in sections within too.

    `build` does so only for sections that the config makes something from. What is in others is stored with
    the run all the same.

    Args:
        values: of keys that the section has.
        section: as `defaults` made it, or a whole config of such sections.
        path: where it stands in the config.
    """
    fields = _fields_of(section)
    for key, value in values.items():
        if isinstance(value, ConfigDict):
            check_values(value, section[key], _dotted(path, key))
        elif key in fields:
            fields[key][1].checked(value, f'config.{_dotted(path, key)}')


def check_arguments(names: Mapping[str, Any], section: Mapping[str, Any], what: str) -> None:
    """As `check_keys`, where keys of a section are given as arguments or flags of their own.

    Args:
        names: those that were given.
        section: of the config, whose keys are known.
        what: they are for, such as 'sampling'.

    Raises:
        UserError: for the first of them that is no key.
    """
    for name in names:
        if name not in section:
            hint = _near(name, list(section)) or f'it takes {", ".join(section)}.'
            raise UserError(f'{what} by this model takes no {name}; {hint}')


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON values (tuples become lists), the form in which runs store it."""
    return json.loads(json.dumps(config.to_dict()))


@dataclasses.dataclass(frozen=True)
class _Field:
    kind: type
    element: type | None  # of a tuple
    optional: bool
    choices: tuple[Any, ...]
    default: Any

    def described(self, choices: tuple[Any, ...] = ()) -> str:
        """What it may be, in words: its type, or one of some choices."""
        one = (self.element or self.kind).__name__
        kind = one if self.element is None else f'tuple of {one}'
        kind = f'one of {", ".join(map(str, choices))}' if choices else kind
        return f'{kind} or None' if self.optional else kind

    def checked(self, value: Any, path: str) -> Any:
        """The value in the attribute's type; raises `UserError` if it cannot be."""
        if value is None and self.optional:
            return None
        one = self.element or self.kind
        parts = value if self.element else (value,)
        if not (isinstance(parts, list | tuple) and all(_fits(part, one) for part in parts)):
            raise UserError(
                f'{path} is {printable(repr(value))}, which is not of type {self.described()}; '
                f'change it in the config file or by --{path}=...'
            )
        parts = tuple(map(one, parts))
        value = parts if self.element else parts[0]
        if path.rpartition('.')[2] in _LAYERS and value > _MOST_LAYERS:
            raise UserError(f'{path} is {value}; give {_MOST_LAYERS} or less.')
        if len(parts) > _MOST_VALUES:
            raise UserError(f'{path} has {len(parts)} values; give {_MOST_VALUES} or fewer.')
        for part in parts:
            if isinstance(part, int | float):
                on_device(path, part)
        if self.choices and value not in self.choices:
            near = nearest(str(value), map(str, self.choices))
            hint = f' (did you mean {near[0]!r}?)' if near else ''
            raise UserError(f'{path} is {value!r}; choose one of {", ".join(self.choices)}{hint}.')
        return value


def _fields_of(section: ConfigDict) -> dict[str, tuple[type, _Field]]:
    """The plain attributes that a section's keys are, each with its class, by name."""
    classes = getattr(section, '_classes', ()) if isinstance(section, Section) else ()
    return {name: (cls, field) for cls in classes for name, field in _fields(cls).items()}


@functools.cache
def _fields(cls: type) -> dict[str, _Field]:
    hints = typing.get_type_hints(cls)
    fields = {}
    for field in dataclasses.fields(cls):
        if issubclass(cls, nn.Module) and field.name in ('parent', 'name'):
            continue  # Flax's own
        found = _plain_type(hints[field.name])
        if found is not None:
            fields[field.name] = _Field(*found, field.default)
    return fields


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool | np.bool_):
        return kind is bool
    # NumPy's numbers too, as in a notebook's loop over an array.
    return isinstance(value, {int: numbers.Integral, float: numbers.Real}.get(kind, kind))


def _plain_type(hint: Any) -> tuple[type, type | None, bool, tuple[Any, ...]] | None:
    """(type, that of a tuple's elements, may be None, choices) of an annotation, if it is plain."""
    optional = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        arms = [a for a in typing.get_args(hint) if a is not types.NoneType]
        optional = len(arms) < len(typing.get_args(hint))
        if len(arms) == 2 and arms[1] == tuple[arms[0], ...]:
            arms.pop()  # one number for all axes; code may give each axis its own
        if len(arms) != 1:
            return None
        hint = arms[0]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return type(arguments[0]), None, optional, arguments
    if typing.get_origin(hint) is tuple:
        return (tuple, arguments[0], optional, ()) if arguments[0] in _PLAIN else None
    return (hint, None, optional, ()) if hint in _PLAIN else None


def _near(name: str, known: list[str]) -> str | None:
    """A question whether another name is meant; what begins alike comes before what is spelt alike."""
    lower = name.lower()
    longer = [key for key in known if key.lower().startswith(lower) or lower.startswith(key.lower())]
    near = longer or nearest(name, known, cutoff=0.7)
    return f'did you mean {near[0]!r}?' if near else None


def _dotted(path: str, key: str) -> str:
    return f'{path}.{key}' if path and key else path or key

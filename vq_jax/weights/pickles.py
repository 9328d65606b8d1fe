"""Reads pickles that somebody else may have written, and runs nothing that they name.

A pickle is a program for a machine with a stack. This machine knows what files of weights need: numbers,
text, lists, tuples, dictionaries, and what its caller gives it for arrays. Of objects of other classes, which
checkpoints hold beside weights, nothing is kept; what a pickle wants called that is not in a short table is
refused by its name.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

# Of one pickle: a thousand times those of a large network. What a call copies counts as steps too.
_MOST_STEPS = 2**22
_MOST_ARGUMENTS = 16
_LONGEST_NAME = 2**10  # characters
# Python's hash of larger numbers is the same for as many of them as somebody likes.
_MOST_NUMBER = 2**32
_MARK = object()
# What is called in checkpoints to make objects that are no weights.
_OBJECTS = frozenset(
    f'{module}.{name}'
    for modules, names in (
        ('builtins __builtin__', 'set frozenset list tuple slice range complex bytearray'),
        ('copyreg copy_reg', '_reconstructor'),
        ('collections', 'defaultdict Counter deque'),
        ('pathlib pathlib._local', 'Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath'),
        ('datetime', 'datetime date time timedelta timezone'),
        ('numpy', 'dtype'),
        ('numpy.core.multiarray numpy._core.multiarray', 'scalar _reconstruct'),
        ('_codecs', 'encode'),
        ('torch', 'device'),
        ('torch.serialization', '_get_layout'),
    )
    for module in modules.split()
    for name in names.split()
)


@dataclasses.dataclass(frozen=True)
class Global:
    """Something that a pickle names, such as a class: a name and nothing else."""

    name: str

    def __post_init__(self) -> None:
        if len(self.name) > _LONGEST_NAME:
            raise ValueError(f'its pickle has a name of more than {_LONGEST_NAME:,} characters')

    def __str__(self) -> str:
        return self.name


class RefusedError(Exception):
    """A pickle wants something called that this machine does not call; the message is its name."""


class _Object:
    """Stands for an object that is no weights; nothing is kept of it."""


def load(file: BinaryIO, calls: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any]) -> Any:
    """Runs the pickle that begins where a file is, and leaves the file at its end.

    Args:
        file: holds no more than may be in memory several times over.
        calls: what is called for a name of the pickle, such as 'torch._utils._rebuild_tensor_v2'.
        persistent: makes what stands for something outside of the pickle of its description.

    Raises:
        RefusedError: the pickle wants anything else called.
        Exception: of many kinds, if it is damaged.
    """
    machine = _Machine(calls, persistent)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == 'STOP':
            return machine.stack.pop()
        machine.step(opcode.name, argument)
    raise ValueError('its pickle has no end')


def _dictionary(items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dictionary whose keys are plain: of tuples in a million tuples the hash would overflow C's stack."""
    made = {}
    for key, value in items:
        if not isinstance(key, str | int | float | Global | None):
            raise ValueError(f'its pickle has a key that is a {type(key).__name__}')
        if isinstance(key, int):
            _check_number(key)
        made[key] = value
    return made


def _check_number(number: int) -> None:
    """Raises `ValueError` for a number by which nothing may be looked up."""
    if abs(number) > _MOST_NUMBER:
        raise ValueError(f'its pickle has a key that is a number above {_MOST_NUMBER:,}')


class _Machine:
    def __init__(self, calls: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self._calls = {'collections.OrderedDict': self._ordered, **calls}
        self._persistent = persistent
        self._memo: dict[int, Any] = {}
        self._steps = 0

    def step(self, name: str, argument: Any) -> None:
        """Does what an opcode says, by the names of `pickletools.opcodes`."""
        self._count(1)
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _ARGUMENTS:
            stack.append(argument)
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ('PROTO', 'FRAME'):
            pass
        elif name in ('PUT', 'BINPUT', 'LONG_BINPUT'):
            _check_number(argument)
            self._memo[argument] = stack[-1]
        elif name == 'MEMOIZE':
            self._memo[len(self._memo)] = stack[-1]
        elif name in ('GET', 'BINGET', 'LONG_BINGET'):
            stack.append(self._memo[argument])
        elif name == 'POP':
            stack.pop()
        elif name == 'POP_MARK':
            self._since_mark()
        elif name == 'DUP':
            stack.append(stack[-1])
        elif name in ('TUPLE1', 'TUPLE2', 'TUPLE3'):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == 'TUPLE':
            stack.append(tuple(self._since_mark()))
        elif name == 'LIST':
            stack.append(self._since_mark())
        elif name == 'FROZENSET':
            self._since_mark()
            stack.append(_Object())
        elif name == 'DICT':
            items = self._since_mark()
            stack.append({})
            self._set(items)
        elif name == 'SETITEM':
            value, key = stack.pop(), stack.pop()
            self._set([key, value])
        elif name == 'SETITEMS':
            self._set(self._since_mark())
        elif name == 'APPEND':
            self._add([stack.pop()])
        elif name in ('APPENDS', 'ADDITEMS'):
            self._add(self._since_mark())
        elif name == 'GLOBAL':
            stack.append(Global(argument.replace(' ', '.')))
        elif name == 'STACK_GLOBAL':
            attribute, module = stack.pop(), stack.pop()
            if type(attribute) is not str or type(module) is not str:
                raise ValueError('its pickle names something by what is no text')
            stack.append(Global(f'{module}.{attribute}'))
        elif name == 'REDUCE':
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._call(function, arguments))
        elif name in ('NEWOBJ', 'NEWOBJ_EX'):
            del stack[-1 if name == 'NEWOBJ' else -2 :]
            made = stack.pop()  # a class, whose constructor Python would not call either
            ordered = isinstance(made, Global) and made.name == 'collections.OrderedDict'
            stack.append({} if ordered else _Object())
        elif name == 'BUILD':
            stack.pop()  # attributes of what is below it
        elif name == 'BINPERSID':
            stack.append(self._persistent(stack.pop()))
        elif name == 'INST':
            raise RefusedError(argument.replace(' ', '.'))
        elif name == 'OBJ':
            raise RefusedError(getattr(self._since_mark()[0], 'name', 'an object'))
        else:
            raise ValueError(f'its pickle has the step {name}, which weights have not')

    def _call(self, function: Any, arguments: Any) -> Any:
        name = function.name if isinstance(function, Global) else f'an object of {type(function).__name__}'
        if name in self._calls:
            if type(arguments) is not tuple or len(arguments) > _MOST_ARGUMENTS:
                raise ValueError(f'its pickle calls {name} with what are no arguments of it')
            return self._calls[name](*arguments)
        if name in _OBJECTS:
            return _Object()
        raise RefusedError(name)

    def _ordered(self, items: Any = ()) -> dict[Any, Any]:
        if type(items) not in (list, tuple):
            raise ValueError('its pickle makes a dictionary of what are no pairs')
        self._count(len(items))
        return _dictionary((key, value) for key, value in items)

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MOST_STEPS:
            raise ValueError(f'its pickle has more than {_MOST_STEPS:,} steps')

    def _since_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise ValueError('its pickle ends what it did not begin')

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, _Object):
            if type(target) is not dict:
                raise ValueError('its pickle sets keys of what is no dictionary')
            target.update(_dictionary(zip(items[::2], items[1::2], strict=True)))

    def _add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, _Object):
            if type(target) is not list:
                raise ValueError('its pickle appends to what is no list')
            target.extend(items)


_CONSTANTS = {'MARK': _MARK, 'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple, 'EMPTY_SET': _Object}
_ARGUMENTS = frozenset(
    (
        *('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT'),
        *('STRING', 'BINSTRING', 'SHORT_BINSTRING'),
        *('UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'),
        *('BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'),
    )
)

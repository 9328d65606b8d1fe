"""Tasks, quantizers, conditioners and data sets of one's own, which a config names as 'module:Class'.

A run directory keeps the names, and whoever wrote the directory chose them. Importing a module runs its code,
so the configs of run directories are completed only as far as the user allows: nothing is imported that the
user's own config, flag or argument does not name. Whoever holds such a config opens `allowing` for it; nobody
does for the config of a directory.
"""

import contextlib
import contextvars
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vq_jax.errors import UserError, nearest

SOURCE_PREFIX = 'class:'  # of `config.data.name`, before the name of a source of one's own
_NAME = re.compile(r'[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*')
_allowed: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar('allowed', default=frozenset())


def is_own(name: str) -> bool:
    """Whether a config names a class of one's own, and not one of the package by its short name."""
    return ':' in name


def named_modules(config: Any) -> frozenset[str]:
    """The modules whose classes a config names; it need not be complete."""
    return frozenset(name.partition(':')[0] for name in _own_names(config))


@contextlib.contextmanager
def allowing(modules: Iterable[str]) -> Iterator[None]:
    """Lets run directories that are opened inside name classes of some modules, or of modules in them."""
    token = _allowed.set(_allowed.get() | frozenset(modules))
    try:
        yield
    finally:
        _allowed.reset(token)


def check_allowed(config: Any, workdir: Any) -> None:
    """Refuses the config of a run directory that names a module which the user did not allow.

    Args:
        config: as it was read, a dict or `ConfigDict`.
        workdir: the directory.

    Raises:
        UserError: naming the module.
    """
    for name in _own_names(config):
        if not _NAME.fullmatch(name):
            raise UserError(
                f"the run {workdir} names {name!r}, which is no 'module:Class'; restore its config.json."
            )
        _check_allowed(name, f'the run {workdir} is made with')


def own_class(name: str, key: str) -> type:
    """Imports a class of one's own.

    Args:
        name: 'module:Class', the module as Python imports it from the working directory or PYTHONPATH.
        key: of the config that names it, for messages.

    Raises:
        UserError: it is not allowed, or there is no such module or class. An error inside of the module is
            raised as it is.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"{key} is {name!r}; name a class of your own as 'module:Class'.")
    _check_allowed(name, f'{key} names')
    module, _, cls = name.partition(':')
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f'{module}.'.startswith(f'{error.name}.'):  # what it imports itself is missing
            raise
        raise UserError(
            f'{key} is {name!r}, and there is no module {error.name!r}; start where it is, or put its folder '
            'into PYTHONPATH.'
        ) from error
    found = getattr(imported, cls, None)
    if not isinstance(found, type):
        near = nearest(cls, [other for other, value in vars(imported).items() if isinstance(value, type)])
        hint = f'; did you mean {near[0]!r}?' if near else '.'
        raise UserError(f'{key} is {name!r}, and {module} has no class {cls}{hint}')
    return found


def _check_allowed(name: str, who: str) -> None:
    module, _, _ = name.partition(':')
    if not any(module == allowed or module.startswith(f'{allowed}.') for allowed in _allowed.get()):
        raise UserError(
            f'{who} code that is not of vq_jax, {name!r}; if you trust it, let it be imported by '
            f"--allow_import={module} (in Python, allow=('{module}',))."
        )


def _own_names(config: Any) -> list[str]:
    names = [config.get('task'), _value(config, 'quantizer', 'kind'), _value(config, 'conditioner', 'kind')]
    data = _value(config, 'data', 'name')
    if isinstance(data, str) and data.startswith(SOURCE_PREFIX):
        names.append(data.removeprefix(SOURCE_PREFIX))
    return [name for name in names if isinstance(name, str) and is_own(name)]


def _value(config: Mapping[str, Any], section: str, key: str) -> Any:
    """The value of a key that a stranger may have left out, or put something else for its section."""
    found = config.get(section)
    return found.get(key) if hasattr(found, 'get') else None

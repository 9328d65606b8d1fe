"""Config files: those of users, and those that come with the package."""

import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vq_jax.errors import UserError, nearest

CONFIGS = Path(__file__).parent / 'configs'  # those of the package, in a folder for each kind of data


def find_config(name: str, folders: Sequence[Path] = (Path(),)) -> str:
    """The path of the config file that is meant, and the file's argument after a colon.

    Args:
        name: a path, or the name, without folder and ending, of a file of the package, such as 'quickstart';
            an argument may follow after a colon (see `split_config`).
        folders: that a path is looked for in, in this order.

    Raises:
        UserError: there is no such file.
    """
    of_package = {path.stem: path for path in sorted(CONFIGS.glob('*/*.py'))}
    for file, argument in _readings(name):
        paths = [folder / file for folder in folders]
        for path in [*paths, of_package[file]] if file in of_package else paths:
            if os.path.isfile(path):
                return str(path) if argument is None else f'{path}:{argument}'
    file, colon, argument = name.partition(':')
    near = nearest(Path(file).stem, of_package)
    hint = (
        f'did you mean {near[0]}{colon}{argument}?' if near else f'the package has {", ".join(of_package)}.'
    )
    raise UserError(f'there is no config file {name}; {hint}')


def split_config(name: str) -> tuple[str, str | None]:
    """A config file that is there, and its argument; None if it is given none.

    Paths and arguments may have colons in them: what is a file as it stands is that file, and otherwise the
    last colon with a file before it is the one that the argument follows.

    Args:
        name: what `find_config` returns.
    """
    return next((file, argument) for file, argument in _readings(name) if os.path.isfile(file))


def run_file(path: str) -> types.ModuleType:
    """Runs a Python file of the user's, whatever its name is, and returns what it defines as a module."""
    name = Path(path).name  # with its ending, no module that can be imported is called so
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module  # where dataclasses look for what their annotations name
    loader.exec_module(module)
    return module


def get_config(name: str) -> Any:
    """What the function `get_config` of a config file returns; raises `UserError` if it has none.

    Args:
        name: what `find_config` returns.
    """
    file, argument = split_config(name)
    module = run_file(file)
    if not hasattr(module, 'get_config'):
        raise UserError(f'the config file {file} has no function get_config(); see those in configs.')
    return module.get_config() if argument is None else module.get_config(argument)


def _readings(name: str) -> Iterator[tuple[str, str | None]]:
    """What a name can mean, file and argument: without an argument first, then from the last colon on."""
    file, argument = name, None
    yield file, argument
    while ':' in file:
        file, _, end = file.rpartition(':')
        argument = end if argument is None else f'{end}:{argument}'
        yield file, argument

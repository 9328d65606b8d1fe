"""Config files: those of users, and those that come with the package."""

import re
from collections.abc import Sequence
from pathlib import Path

from vq_jax.errors import UserError, nearest

CONFIGS = Path(__file__).parent / 'configs'  # those of the package


def find_config(name: str, folders: Sequence[Path] = (Path(),)) -> str:
    """The path of the config file that is meant, and the file's argument after a colon.

    Args:
        name: a path, or the name without its ending of a file of the package, such as 'quickstart'; an
            argument may follow after a colon.
        folders: that a path is looked for in, in this order.

    Raises:
        UserError: there is no such file.
    """
    file, colon, argument = name.partition(':')
    of_package = CONFIGS / f'{file}.py'
    places = [folder / file for folder in folders] + ([of_package] if re.fullmatch(r'\w+', file) else [])
    for path in places:
        if path.is_file():
            return f'{path}{colon}{argument}'
    known = sorted(path.stem for path in CONFIGS.glob('*.py'))
    near = nearest(Path(file).stem, known)
    hint = f'did you mean {near[0]}?' if near else f'the package has {", ".join(known)}.'
    raise UserError(f'there is no config file {file}; {hint}')

"""Config files: those of users, and those that come with the package."""

from collections.abc import Sequence
from pathlib import Path

from vq_jax.errors import UserError, nearest

CONFIGS = Path(__file__).parent / 'configs'  # those of the package, in a folder for each kind of data


def find_config(name: str, folders: Sequence[Path] = (Path(),)) -> str:
    """The path of the config file that is meant, and the file's argument after a colon.

    Args:
        name: a path, or the name, without folder and ending, of a file of the package, such as 'quickstart';
            an argument may follow after a colon.
        folders: that a path is looked for in, in this order.

    Raises:
        UserError: there is no such file.
    """
    file, colon, argument = name.partition(':')
    of_package = {path.stem: path for path in sorted(CONFIGS.glob('*/*.py'))}
    paths = [folder / file for folder in folders] + ([of_package[file]] if file in of_package else [])
    for path in paths:
        if path.is_file():
            return f'{path}{colon}{argument}'
    near = nearest(Path(file).stem, of_package)
    hint = f'did you mean {near[0]}?' if near else f'the package has {", ".join(of_package)}.'
    raise UserError(f'there is no config file {file}; {hint}')

"""Lists the commands: `python -m vq_jax`."""

import ast
import sys
from pathlib import Path

from vq_jax import __version__
from vq_jax.errors import nearest


def main(*words: str) -> None:
    """Prints a line for each command; their files are read and not imported.

    Args:
        *words: what was written after `python -m vq_jax`. Anything but `--help` is a mistake, which is told
            with exit status 2.
    """
    commands = {}
    for path in sorted(Path(__file__).parent.glob('*.py')):
        source = path.read_text(encoding='utf-8')
        if '\n    cli.main(' in source:
            first, *_ = ast.get_docstring(ast.parse(source)).split('\n')
            commands[path.stem] = first.partition(': `')[0].rstrip('.')
    if words and words[0] not in ('-h', '-help', '--help'):
        near = nearest(words[0], commands)
        hint = f'did you mean python -m vq_jax.{near[0]}?' if near else f'there are {", ".join(commands)}.'
        print(f'error: commands are started as python -m vq_jax.COMMAND; {hint}', file=sys.stderr)
        sys.exit(2)
    print(
        f'vq_jax {__version__}: commands are started as python -m vq_jax.COMMAND, and explained by --help.\n'
    )
    for name, about in commands.items():
        print(f'  {name:12}{about}')


if __name__ == '__main__':
    main(*sys.argv[1:])

"""Lists the commands: `python -m vq_jax`."""

import ast
from pathlib import Path

from vq_jax import __version__


def main() -> None:
    """Prints a line for each; their files are read and not imported."""
    print(
        f'vq_jax {__version__}: commands are started as python -m vq_jax.COMMAND, and explained by --help.\n'
    )
    for path in sorted(Path(__file__).parent.glob('*.py')):
        source = path.read_text(encoding='utf-8')
        if '\n    cli.main(' in source:
            first, *_ = ast.get_docstring(ast.parse(source)).split('\n')
            print(f'  {path.stem:12}{first.partition(": `")[0].rstrip(".")}')


if __name__ == '__main__':
    main()

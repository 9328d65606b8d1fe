"""Evaluates a trained run: `python -m vq_jax.evaluate --workdir DIR [--split test] [--output FILE]`."""

import json
from pathlib import Path

from absl import flags

from vq_jax import cli

_WORKDIR = flags.DEFINE_string('workdir', None, 'The directory of the run.')
_SPLIT = flags.DEFINE_string('split', None, "A split of its data; the config's eval_split if none.")
_STEP = flags.DEFINE_integer('step', None, 'The checkpoint; the newest if none is given.')
_OVERRIDE = flags.DEFINE_multi_string(
    'override', [], 'Another value for a key of its config, such as model.importance_samples=5000.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'A .json file to write the numbers to.')


def main() -> None:
    """Prints a table of numbers, and writes them to a file if one is named."""
    from rich.console import Console

    from vq_jax.run import load
    from vq_jax.training.progress import print_table
    from vq_jax.training.run_dir import write_atomically

    cli.use_compilation_cache()
    run = load(_WORKDIR.value, _STEP.value, cli.parse_overrides(_OVERRIDE.value))
    split = _SPLIT.value or run.config.data.eval_split
    numbers = run.evaluate(split).numbers
    console = Console(highlight=False)
    print_table(console, f'{run.config.data.name} {split}, step {run.step:,}', numbers)
    if _OUTPUT.value:
        record = {'dataset': run.config.data.name, 'split': split, 'step': run.step, **numbers}
        write_atomically(Path(_OUTPUT.value), json.dumps(record, indent=2) + '\n')
        console.print(f'written to {_OUTPUT.value}', soft_wrap=True)


if __name__ == '__main__':
    cli.main(main, required=('workdir',))

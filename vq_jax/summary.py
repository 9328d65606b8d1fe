"""Shows the model of a config: `python -m vq_jax.summary --config configs/NAME.py`.

Modules, the shapes they return, their parameters, and the FLOPs of a training step. Nothing is allocated
and no data is read.
"""

import functools
from typing import Any

import jax
from absl import flags
from flax import linen as nn
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict, config_flags
from rich.console import Console
from rich.table import Table

from vq_jax import cli
from vq_jax.errors import UserError
from vq_jax.tasks import make_task
from vq_jax.training.state import abstract_batch

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in configs/.')
_IMAGE_SHAPE = flags.DEFINE_list(
    'image_shape', None, 'height,width,channels of the pictures, where the config does not say.'
)


def main() -> None:
    """Prints the table; the last line is the total number of parameters."""
    config = cli.read_config(_CONFIG)
    shape = _image_shape(config.data)
    task = make_task(config, shape)
    batch = abstract_batch(config.batch_size, shape)
    key = jax.random.key(0)

    state = jax.eval_shape(task.init, key, batch)
    step = jax.jit(task.train_step).lower(state, batch)
    total = _count(state.params)

    table = Table('module', 'returns (one picture)', 'parameters')
    for path, output in _outputs(task.model, state.eval_variables(), shape):
        params = functools.reduce(lambda tree, name: tree.get(name, {}), path, state.params)
        table.add_row('/'.join(path) or '(all)', _shape(output), f'{_count(params):,}')
    console = Console(highlight=False)
    console.print(table)
    console.print(f'pictures: {config.batch_size} x {" x ".join(map(str, shape))}')
    console.print(f'FLOPs of a training step: {step.cost_analysis()["flops"]:,.0f}')
    console.print(f'parameters in total: {total:,}')


def _outputs(
    model: nn.Module, variables: Any, shape: tuple[int, int, int]
) -> list[tuple[tuple[str, ...], Any]]:
    """What the call of each module returns, by the module's path, in the order of the parameters."""
    images = jax.ShapeDtypeStruct((1, *shape), 'float32')
    _, captured = jax.eval_shape(
        lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=['intermediates']),
        variables,
        images,
    )
    calls = flatten_dict(captured['intermediates'])
    return [(path[:-1], output[0]) for path, output in calls.items() if path[-1] == '__call__']


def _shape(output: Any) -> str:
    """The first array of a module's output, such as the pictures of an autoencoder."""
    first = getattr(output, 'values', None) or jax.tree.leaves(output)[0]
    return f'{first.dtype} {list(first.shape)}'


def _count(params: Any) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


def _image_shape(data: ConfigDict) -> tuple[int, int, int]:
    if _IMAGE_SHAPE.value:
        h, w, c = map(int, _IMAGE_SHAPE.value)
        return h, w, c
    if data.image_size and data.channels:
        return data.image_size, data.image_size, data.channels
    raise UserError(
        'the config leaves the size of the pictures to the data set; give --image_shape=h,w,c or set '
        'config.data.image_size and config.data.channels.'
    )


if __name__ == '__main__':
    cli.main(main, required=('config',))

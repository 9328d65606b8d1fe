"""Shows the model of a config: `python -m vq_jax.summary --config configs/NAME.py`.

Modules, the shapes they return, their parameters, and the FLOPs of a training step. Nothing is allocated
and no data is read.
"""

import dataclasses
import functools
from typing import Any

import jax
from absl import flags
from flax import linen as nn
from ml_collections import ConfigDict
from rich.table import Table

from vq_jax import cli
from vq_jax.errors import UserError, check_least
from vq_jax.models.quantizers import Quantized
from vq_jax.tasks import make_task
from vq_jax.tasks.task import State, Task
from vq_jax.training.extensions import allowing, named_modules
from vq_jax.training.progress import make_console
from vq_jax.training.state import TwoPlayerState, abstract_batch, count_parameters

_CONFIG = cli.define_config()
_ALLOW_IMPORT = cli.define_allow_import()
_IMAGE_SHAPE = flags.DEFINE_list(
    'image_shape', None, 'height,width,channels of the images, where the config does not say.'
)
_NUM_CLASSES = flags.DEFINE_integer('num_classes', 0, 'Classes of the data, for a model that depends on it.')


def main() -> None:
    """Prints the table; the last lines are the numbers of parameters."""
    config = cli.read_config(_CONFIG)
    shape = _image_shape(config.data)
    check_least(0, '--', flags.FLAGS, _NUM_CLASSES.name)
    with allowing([*_ALLOW_IMPORT.value, *named_modules(config)]):
        task = make_task(config, shape, _NUM_CLASSES.value)
    if task.accumulate > 1:  # XLA counts what a loop does once
        task = dataclasses.replace(task, accumulate=1)
    batch = abstract_batch(config.batch_size * config.accumulate, shape)
    key = jax.random.key(0)

    state = jax.eval_shape(task.init, key, batch).replace(frozen=task.pretrained_shapes())
    calls = _calls(task.train_step, state, batch)
    step = jax.jit(task.train_step).lower(state, batch)
    players = _players(task, state)

    table = Table('module', 'returns', 'parameters')
    for (root, path), output in calls.items():
        params = players.get(root)
        known = params is not None
        if known:
            params = functools.reduce(lambda tree, name: tree.get(name, {}), path, params)
        table.add_row(
            '/'.join((root, *path)), _shape(output), f'{count_parameters(params):,}' if known else 'frozen'
        )
    console = make_console()
    console.print(table)
    console.print(f'images: {config.batch_size * config.accumulate} x {" x ".join(map(str, shape))}')
    console.print(f'FLOPs of a training step: {step.cost_analysis()["flops"]:,.0f}')
    for root, params in players.items():
        console.print(f'parameters of {root}: {count_parameters(params):,}')


def _players(task: Task, state: State) -> dict[str, Any]:
    """The parameters that are learned, by the name of their module."""
    if isinstance(state, TwoPlayerState):
        return {
            type(task.model).__name__: state.generator.params,
            type(task.game.discriminator).__name__: state.discriminator.params,
        }
    return {type(task.model).__name__: state.params}


def _calls(step: Any, state: State, batch: Any) -> dict[tuple[str, tuple[str, ...]], Any]:
    """What the call of each module in a step returns, by its outermost module and its path therein."""
    calls = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == '__call__':
            root = context.module
            while isinstance(root.parent, nn.Module):
                root = root.parent
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), output)
            calls[type(root).__name__, context.module.path] = shapes
        return output

    with nn.intercept_methods(record):
        jax.eval_shape(step, state, batch)
    return calls


def _shape(output: Any) -> str:
    """The first array of a module's output, such as the pictures of an autoencoder."""
    first = output.values if isinstance(output, Quantized) else jax.tree.leaves(output)[0]
    return f'{first.dtype} {list(first.shape)}'


def _image_shape(data: ConfigDict) -> tuple[int, int, int]:
    if _IMAGE_SHAPE.value:
        try:
            h, w, c = map(int, _IMAGE_SHAPE.value)
        except ValueError:
            h = w = c = 0
        if min(h, w, c) < 1:
            written = ','.join(_IMAGE_SHAPE.value)
            raise UserError(f'--image_shape is {written}; give three whole numbers from 1, such as 32,32,3.')
        return h, w, c
    if data.image_size and data.channels:
        return data.image_size, data.image_size, data.channels
    raise UserError(
        'the config leaves the size of the pictures to the data set; give --image_shape=h,w,c or set '
        'config.data.image_size and config.data.channels.'
    )


if __name__ == '__main__':
    cli.main(main, required=('config',))

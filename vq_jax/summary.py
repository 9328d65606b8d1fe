"""Shows the model of a config: `python -m vq_jax.summary --config NAME`.

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
from vq_jax.errors import UserError, on_device
from vq_jax.models.context import ContextEncoder
from vq_jax.quantizers.quantizer import Quantized
from vq_jax.spec import Spec
from vq_jax.tasks import make_task
from vq_jax.tasks.task import State, Task
from vq_jax.training.extensions import allowing, named_modules
from vq_jax.training.progress import make_console
from vq_jax.training.state import AdversarialState, abstract_batch, count_parameters

_CONFIG = cli.define_config()
_ALLOW_IMPORT = cli.define_allow_import()
_SHAPE = flags.DEFINE_list(
    'shape',
    None,
    'height,width,channels of the images (of sound time,channels; of video time first), where the config '
    'does not say.',
)
_KINDS = {2: 'audio', 3: 'image', 4: 'video'}  # by how many axes examples have
_NUM_CLASSES = flags.DEFINE_integer('num_classes', 0, 'Classes of the data, for a model that depends on it.')


def main() -> None:
    """Prints the table; the last lines say how many parameters there are."""
    config = cli.read_config(_CONFIG)
    spec = _spec(config.data)
    if on_device('--num_classes', _NUM_CLASSES.value) < 0:
        raise UserError(f'--num_classes is {_NUM_CLASSES.value}; give 0 or more.')
    with allowing([*_ALLOW_IMPORT.value, *named_modules(config)]):
        task = make_task(config, spec, _NUM_CLASSES.value)
    if task.accumulate > 1:  # XLA counts what a loop does once
        task = dataclasses.replace(task, accumulate=1)
    batch = abstract_batch(config.batch_size * config.accumulate, spec)
    key = jax.random.key(0)

    state = jax.eval_shape(task.init, key, batch).replace(frozen=task.pretrained_shapes())
    calls = _calls(task, state, batch)
    step = jax.jit(task.train_step).lower(state, batch)
    learned = _learned(task, state)

    table = Table('module', 'returns', 'parameters')
    for (root, path), output in calls.items():
        params = learned.get(root)
        known = params is not None
        if known:
            params = functools.reduce(lambda tree, name: tree.get(name, {}), path, params)
        table.add_row(
            '/'.join((root, *path)), _shape(output), f'{count_parameters(params):,}' if known else 'frozen'
        )
    console = make_console()
    console.print(table)
    console.print(f'examples: {config.batch_size * config.accumulate} x {" x ".join(map(str, spec.shape))}')
    console.print(f'FLOPs of a training step: {step.cost_analysis()["flops"]:,.0f}')
    for root, params in learned.items():
        console.print(f'parameters of {root}: {count_parameters(params):,}')


def _learned(task: Task, state: State) -> dict[str, Any]:
    """The parameters that are learned, by the name of their module."""
    if isinstance(state, AdversarialState):
        return {
            type(task.model).__name__: state.generator.params,
            type(task.adversary.discriminator).__name__: state.discriminator.params,
        }
    return {type(task.model).__name__: state.params}


def _calls(task: Task, state: State, batch: Any) -> dict[tuple[str, tuple[str, ...]], Any]:
    """What the call of each module in a step returns, by its outermost module and its path therein.

    What makes contexts has its parameters among those of the model.
    """
    calls = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == '__call__':
            root = context.module
            while isinstance(root.parent, nn.Module):
                root = root.parent
            name = type(task.model if isinstance(root, ContextEncoder) else root).__name__
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), output)
            calls[name, context.module.path] = shapes
        return output

    with nn.intercept_methods(record):
        jax.eval_shape(task.train_step, state, batch)
    return calls


def _shape(output: Any) -> str:
    """The first array of a module's output, such as the images of an autoencoder."""
    first = output.values if isinstance(output, Quantized) else jax.tree.leaves(output)[0]
    return f'{first.dtype} {list(first.shape)}'


def _spec(data: ConfigDict) -> Spec:
    if _SHAPE.value:
        try:
            shape = tuple(map(int, _SHAPE.value))
        except ValueError:
            shape = ()
        if len(shape) not in _KINDS or min(shape) < 1:
            written = ','.join(_SHAPE.value)
            raise UserError(
                f'--shape is {written}; give three whole numbers from 1, such as 32,32,3, two of sound, or '
                'four of video.'
            )
        return Spec(_KINDS[len(shape)], shape)
    if data.image_size and data.channels:
        return Spec('image', (data.image_size, data.image_size, data.channels))
    if data.num_samples:
        return Spec('audio', (data.num_samples, 1))
    raise UserError(
        'the config leaves the size of the examples to the data set; give --shape=h,w,c (of sound t,c), or '
        'set config.data.image_size and config.data.channels (of sound config.data.num_samples).'
    )


if __name__ == '__main__':
    cli.main(main, required=('config',))

"""The modules of a config's model: the shapes they return, and their parameters.

Nothing is allocated and no data is read.
"""

import dataclasses
import functools
from typing import Any

import jax
from flax import linen as nn
from ml_collections import ConfigDict
from rich.table import Column, Table

from vq_jax.extensions import allowing, named_modules
from vq_jax.models.context import ContextEncoder
from vq_jax.quantizers.quantizer import Quantized
from vq_jax.spec import Spec
from vq_jax.tasks import make_task
from vq_jax.tasks.task import State, Task
from vq_jax.training.flops import count_flops
from vq_jax.training.progress import make_console
from vq_jax.training.state import AdversarialState, abstract_batch, count_parameters

_SHOWN = ('__call__', 'quantize')  # the latter is how residual quantization calls what each depth is


def print_modules(config: ConfigDict, spec: Spec, num_classes: int = 0) -> None:
    """Prints the table, the FLOPs of a training step, and the parameters of each network.

    Args:
        config: complete.
        spec: of the examples.
        num_classes: of the data.

    Raises:
        UserError: for what the user can mend.
    """
    for name in ('transformer', 'depth_transformer'):
        if name in config:
            config[name].scan = False  # as below, and so that each block is shown
    with allowing(named_modules(config)):
        task = make_task(config, spec, num_classes)
    if task.accumulate > 1:  # XLA counts what a loop does once
        task = dataclasses.replace(task, accumulate=1)
    batch = abstract_batch(config.batch_size * config.accumulate, spec, task.condition_specs)
    key = jax.random.key(0)

    state = jax.eval_shape(task.init, key, batch).replace(frozen=task.pretrained_shapes())
    calls = _calls(task, state, batch)
    flops = count_flops(task.train_step, state, batch)
    learned = _learned(task, state)

    table = Table(Column('module', overflow='fold'), 'returns', 'parameters')
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
    console.print(f'FLOPs of a training step: {flops:,.0f}')
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
        if context.method_name in _SHOWN:
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
    output = output[0] if isinstance(output, tuple) else output
    first = jax.tree.leaves(output.values if isinstance(output, Quantized) else output)[0]
    return f'{first.dtype} {list(first.shape)}'

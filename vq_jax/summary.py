"""Shows the model of a config: `python -m vq_jax.summary --config NAME`.

Modules, the shapes they return, their parameters, and the FLOPs of a training step. Nothing is allocated
and no data is read.

With `--topology=v5e:4x4` it says instead what a step takes of each chip of such a slice of TPUs: memory,
operations, bytes, and what the chips send each other. It compiles the step for them, which takes minutes.
"""

import dataclasses
import functools
import typing
from typing import Any

import jax
from absl import flags
from flax import linen as nn
from ml_collections import ConfigDict
from rich.table import Table

from vq_jax import cli
from vq_jax.errors import UserError, on_device, plural
from vq_jax.models.context import ContextEncoder
from vq_jax.quantizers.quantizer import Quantized
from vq_jax.spec import Spec
from vq_jax.tasks import make_task
from vq_jax.tasks.task import State, Task
from vq_jax.topology import CompiledStep, What, compile_step
from vq_jax.training.extensions import allowing, named_modules
from vq_jax.training.flops import count_flops
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
_TOPOLOGY = flags.DEFINE_string(
    'topology',
    None,
    'A slice of TPUs to compile a step for, such as v5e:4x4, v5p:2x2x1, v4:2x2x2 or v6e:2x4.',
)
_WHAT = flags.DEFINE_enum(
    'what',
    'train',
    typing.get_args(What),
    'The step to compile for --topology: of training, or of sampling (one token, or one step of a sampler).',
)


def main() -> None:
    """Prints the table; the last lines say how many parameters there are."""
    if _TOPOLOGY.value is not None:
        jax.config.update('jax_platforms', 'cpu')  # which may have the compiler of TPUs, and no TPU
    elif _WHAT.present:
        raise UserError('--what is of the step that is compiled for --topology; give that too.')
    config = cli.read_config(_CONFIG)
    spec = _spec(config.data)
    if on_device('--num_classes', _NUM_CLASSES.value) < 0:
        raise UserError(f'--num_classes is {_NUM_CLASSES.value}; give 0 or more.')
    with allowing(_ALLOW_IMPORT.value):
        if _TOPOLOGY.value is not None:
            options = {'what': _WHAT.value, 'num_classes': _NUM_CLASSES.value}
            print('\n'.join(_lines(compile_step(config, spec, _TOPOLOGY.value, **options))))
        else:
            _show_modules(config, spec)


def _lines(step: CompiledStep) -> list[str]:
    """What a compiled step takes of each chip."""
    topology, gib = step.topology, 2**30
    lines = [f'{topology.name}: {plural(topology.size, "chip")} ({topology.accelerator_type}); of each chip:']
    sizes = dict(step.arguments)
    if step.temporaries is not None:
        sizes['temporaries'] = step.temporaries
    lines += [f'  {name + ":":18}{size / gib:8.3f} GiB' for name, size in sizes.items()]
    usable, least = topology.chip.usable, '' if step.flops is not None else 'at least '
    verdict = 'fits' if step.fits else f'does not fit, by {least}{(step.memory - usable) / gib:.2f} GiB'
    lines.append(
        f'  {"in all:":18}{step.memory / gib:8.3f} GiB of the {usable / gib:.2f} GiB for programs of '
        f'{topology.chip.hbm / gib:.0f}: {verdict}'
    )
    if step.flops is not None:
        bound = 'operations' if step.share_of_peak == 1 else 'bytes'
        least = 'at least ' if step.loops else ''
        lines += [
            f'operations: {least}{step.flops:.4g} FLOP',
            f'bytes read and written: {least}{step.bytes_accessed:.4g}',
            f'roofline: {least}{step.roofline_seconds * 1e3:.4g} ms, by the {bound}, which allows '
            f'{step.share_of_peak:.1%} of {topology.chip.flops / 1e12:.0f} TFLOP/s',
        ]
        lines += [f'{c.kind}: {c.count:,} of {c.bytes / 2**20:,.1f} MiB' for c in step.collectives]
        if step.loops:
            runs = ', '.join(f'{n:,} times' for n in step.loops)
            lines.append(f'Operations and bytes of loops, which run {runs}, are counted once.')
    lines.append(
        f'lowered in {step.lower_seconds:.1f} s, compiled in {step.compile_seconds:.1f} s of processor time'
    )
    return lines


def _show_modules(config: ConfigDict, spec: Spec) -> None:
    if 'transformer' in config:
        config.transformer.scan = False  # as below, and so that each block is shown
    with allowing(named_modules(config)):
        task = make_task(config, spec, _NUM_CLASSES.value)
    if task.accumulate > 1:  # XLA counts what a loop does once
        task = dataclasses.replace(task, accumulate=1)
    batch = abstract_batch(config.batch_size * config.accumulate, spec)
    key = jax.random.key(0)

    state = jax.eval_shape(task.init, key, batch).replace(frozen=task.pretrained_shapes())
    calls = _calls(task, state, batch)
    flops = count_flops(task.train_step, state, batch)
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

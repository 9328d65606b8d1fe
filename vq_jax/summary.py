"""Shows the model of a config: `python -m vq_jax.summary --config NAME`.

Modules, the shapes they return, their parameters, and the FLOPs of a training step. Nothing is allocated
and no data is read.

With `--topology=v5e:4x4` it says instead what a step takes of each chip of such a slice of TPUs: memory,
operations, bytes, and what the chips send each other. It compiles the step for them, which takes minutes.
"""

import dataclasses
from typing import TYPE_CHECKING

from absl import flags

from vq_jax import cli
from vq_jax.errors import UserError, on_device, plural
from vq_jax.spec import Kind, Spec, Tokens

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from vq_jax.topology import CompiledStep

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
    ['train', 'sample'],
    'The step to compile for --topology: of training, or of sampling (one token, or one step of a sampler).',
)


def main() -> None:
    """Prints the table; the last lines say how many parameters there are."""
    import jax

    from vq_jax.extensions import allowing
    from vq_jax.modules import print_modules
    from vq_jax.topology import compile_step

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
            print_modules(config, spec, _NUM_CLASSES.value)


def _lines(step: 'CompiledStep') -> list[str]:
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
        lines += [
            f'operations: {step.flops:.4g} FLOP',
            f'bytes: {step.hbm_bytes:.4g} to and from HBM; as the compiler counts, vector memory among them, '
            f'{"at least " if step.loops else ""}{step.bytes_accessed:.4g}',
            f'roofline: {step.roofline_seconds * 1e3:.4g} ms, by the {bound}, which allows '
            f'{step.share_of_peak:.1%} of {topology.chip.flops / 1e12:.0f} TFLOP/s',
        ]
        lines += [f'{c.kind}: {c.count:,} of {c.bytes / 2**20:,.1f} MiB' for c in step.collectives]
        if step.loops:
            runs = ', '.join(f'{n:,} times' for n in step.loops)
            lines.append(f'Loops run {runs}: their products and bytes of HBM count as often, all else once.')
    lines.append(
        f'lowered in {step.lower_seconds:.1f} s, compiled in {step.compile_seconds:.1f} s of processor time'
    )
    return lines


def _spec(data: 'ConfigDict') -> Spec:
    spec = _of_examples(data)
    if not data.caption_length:
        return spec
    from vq_jax.data.text_vectors import TextVectorFiles

    vectors = TextVectorFiles(data.text_vectors).spec if data.text_vectors else None
    return dataclasses.replace(spec, tokens=_tokens(data.text_tokenizer), text_vectors=vectors)


def _of_examples(data: 'ConfigDict') -> Spec:
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
        return _of_kind(_KINDS[len(shape)], shape, data)
    if data.image_size and data.channels:
        of_image = data.image_size, data.image_size, data.channels
        if data.frames:
            return _of_kind('video', (data.frames, *of_image), data)
        return Spec('image', of_image)
    if data.num_samples:
        return _of_kind('audio', (data.num_samples, data.channels or 1), data)
    if data.num_tokens:
        return Spec('text', (data.num_tokens,), tokens=_tokens(data.text_tokenizer))
    raise UserError(
        'the config leaves the size of the examples to the data set; give --shape=h,w,c (of sound t,c), or '
        'set config.data.image_size and config.data.channels (of sound config.data.num_samples, of video '
        'config.data.frames too).'
    )


def _tokens(name: str) -> Tokens:
    """What the tokens of text are, by `config.data.text_tokenizer`."""
    from vq_jax.data.sources.text import make_tokenizer

    if name.startswith('bpe:'):
        raise UserError(
            f"config.data.text_tokenizer is {name!r}, which is learned from data; set it to 'bytes', or to a "
            'tokenizer.json.'
        )
    return make_tokenizer(name, iter(())).tokens


def _of_kind(kind: Kind, shape: tuple[int, ...], data: 'ConfigDict') -> Spec:
    frame_rate = data.frame_rate / data.frame_stride if data.frame_rate else None
    return Spec(kind, shape, {'audio': data.sample_rate, 'video': frame_rate}.get(kind))


if __name__ == '__main__':
    cli.main(main, required=('config',))

"""Changes an image, a sound, a video or a text by a prior, a diffusion model or an autoencoder.

    python -m vq_jax.edit --workdir DIR --input image.png --mask mask.png --output out.png

`--mask` samples anew what is white in it, and the rest stays as it is: a hole for inpainting, all but the
middle for outpainting, and with `--label` a part of another class, or with `--text` of what that says.
Diffusion models also change an image as a whole (`--strength`, from 0 to 1) and take noise out of it
(`--sigma`, in grey levels). They and VAEs find images between two (`--to other.png`). Without any of these, a
model that was trained for it makes a small image large, which is taken as it is. Any other image that is not
of the model's size is padded, cropped and resized as the model's data were, and its mask with it; if those
were not (no `config.data.image_size`), it must have their size. Of sound it is the same: recordings are
brought to the model's rate, channels and length, and `--sigma` is in steps of 16 bits. Instead of `--mask`,
sound has `--gap 0.2,0.4`, which samples anew what is between these seconds, and `--continue 0.5`, which
samples as many seconds that follow. Both keep the rest of a recording of any length as it is. Of video, which
may be of any length too, they count frames: `--gap 1,7` samples anew all between the first frame and the
eighth, and `--continue 4` predicts the four that follow. `--mask` is an image, white in what is sampled anew
of all frames, or with `--gap` of these, or a video (or a folder) with an image for each frame. Of text they
count tokens: `--continue 200` writes on.

An autoencoder whose decoder is conditioned on classes needs `--label` alone: it decodes the codes of what is
given as of another class, such as another speaker. Of a recording that is all of it.
"""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from vq_jax import cli, run_flags, sample_flags
from vq_jax.errors import UserError, on_device

if TYPE_CHECKING:
    from vq_jax.run import Run

_UNITS = {'audio': 'seconds', 'video': 'frames', 'text': 'tokens'}  # in which kinds with time are counted

flags.adopt_module_key_flags(sample_flags)  # for --help
flags.adopt_module_key_flags(run_flags)  # for --help
_INPUT = flags.DEFINE_string(
    'input', None, 'The file of an image, of a video (or a folder of its frames), of a recording, or of text.'
)
_MASK = flags.DEFINE_string(
    'mask',
    None,
    'An image of the same size as --input, white where it is sampled anew; of video, one for all frames, or '
    'a video of as many.',
)
_GAP = flags.DEFINE_string(
    'gap',
    None,
    'Of sound: START,END in seconds, such as 0.2,0.4; what is between is sampled anew. Of video: in frames, '
    'such as 1,7, counted from 0 and without END. Of text: in tokens, alike.',
)
_CONTINUE = flags.DEFINE_float(
    'continue',
    None,
    'How many seconds of sound, frames of video or tokens of text are sampled that follow --input.',
)
_STRENGTH = flags.DEFINE_float('strength', None, 'How much noise is added and taken out, from 0 to 1.')
_SIGMA = flags.DEFINE_float(
    'sigma', None, 'Standard deviation, in grey levels (of sound, in steps of 16 bits), of noise to take out.'
)
_TO = flags.DEFINE_string('to', None, 'Another file; --num is how many lead to it, both included.')
_NUM = flags.DEFINE_integer('num', None, 'How many: 1 by default, and 8 with --to.')


def main() -> None:
    """Writes the file."""
    from vq_jax.data.transforms.audio import read_file_or_array
    from vq_jax.data.transforms.image import decode_file, pixels
    from vq_jax.data.transforms.recordings import SUFFIXES
    from vq_jax.data.transforms.text import read_text
    from vq_jax.data.transforms.video import VideoTransform, check_video
    from vq_jax.run import load
    from vq_jax.tasks.autoencoder import AutoencoderTask

    output, least = sample_flags.output(), 1 if _TO.value is None else 2
    n = _NUM.value if _NUM.value is not None else 1 if _TO.value is None else 8
    ways = (_MASK, _GAP, _CONTINUE, _STRENGTH, _SIGMA, _TO)
    asked = [flag.name for flag in ways if flag.value is not None]
    if len(asked) > 1 and asked != ['mask', 'gap']:
        raise UserError(f'--{asked[0]} and --{asked[1]} do not go together; give one of them.')
    for flag in ('seed', 'negative_text'):
        if _TO.value is not None and flags.FLAGS[flag].present:
            raise UserError(f'--{flag} changes nothing with --to, where nothing is sampled; leave it out.')
    if n < least:
        raise UserError(f'--num is {n}; give {least} or more.')
    if _STRENGTH.value is not None and not 0 <= on_device('--strength', _STRENGTH.value) <= 1:
        raise UserError(f'--strength is {_STRENGTH.value}; give a number from 0 to 1.')
    if _CONTINUE.value is not None and not on_device('--continue', _CONTINUE.value) > 0:
        raise UserError(f'--continue is {_CONTINUE.value}; give a number above 0.')
    gap = None if _GAP.value is None else _between(_GAP.value)
    for flag in (_INPUT, _MASK, _TO):  # mistakes are shown before the run is opened, which takes a while
        if flag.value is None:
            continue
        suffix = Path(flag.value).suffix.lower()
        if suffix in SUFFIXES:
            read_file_or_array(flag.value)
        elif suffix == '.txt':
            read_text(flag.value)
        elif suffix in VideoTransform.suffixes or Path(flag.value).is_dir():
            check_video(flag.value)
        else:
            decode_file(flag.value, channels=3)
        if output.exists() and output.samefile(flag.value):
            raise UserError(f'--output is the file of --{flag.name}, which would be lost; name another.')
    cli.use_compilation_cache()
    run = load(**run_flags.opened())
    spec, name = run.spec, Path(_INPUT.value).name
    if _MASK.value is not None and spec.kind not in ('image', 'video'):
        raise UserError(
            f'--mask is for images and video, and this run is of {spec.plural}; give --gap or --continue.'
        )
    in_time = gap is not None or _CONTINUE.value is not None or (asked == ['mask'] and spec.kind == 'video')
    if in_time:
        whole, mask, start, stop = _stretch(run, gap)
        spec = dataclasses.replace(spec, shape=(max(len(whole), stop), *spec.shape[1:]))
    sample_flags.check_fits(output, n, spec)
    options = {
        'label': sample_flags.label(run, n),
        **sample_flags.asked(n),
        'seed': sample_flags.SEED.value,
        'progress': True,
        **sample_flags.sampling(),
    }
    if not asked and isinstance(run.task, AutoencoderTask) and run.task.num_labels:
        names = 'seed', 'text', 'negative_text', 'condition'
        unused = [name for name in names if flags.FLAGS[name].present]
        if unused := [*unused, *sample_flags.sampling()]:
            raise UserError(f'--{unused[0]} changes nothing here, where nothing is sampled; leave it out.')
        title = f'{name}, decoded as another class'
        example, _ = run.prepare(_INPUT.value, whole=spec.kind == 'audio')
        more = -len(example) % math.prod(run.task.factors) if spec.kind == 'audio' else 0
        filled = np.pad(example, ((0, more), *[(0, 0)] * (example.ndim - 1)))
        made = np.asarray(run.reconstruct(np.repeat(filled[None], n, axis=0), options['label']))
        made = made[:, : len(example)]
    elif not asked:
        if run.config.model.get('upscale', 1) == 1:  # other tasks have no such key
            parts = {'image': '--mask', 'video': '--mask, --gap or --continue'}
            part = parts.get(spec.kind, '--gap or --continue')
            raise UserError(
                f'give {part} (a prior or a diffusion model), --strength or --sigma (a diffusion model), or '
                '--to (a diffusion model or a VAE); only a run of super-resolution, or an autoencoder that '
                'is conditioned on classes, needs none of them.'
            )
        small = pixels(decode_file(_INPUT.value, spec.channels))
        title = f'{name}, made large'
        made = run.upscale(np.repeat(small[None], n, axis=0), **options)
    elif _TO.value is not None:
        title = f'from {name} to {Path(_TO.value).name}'
        ends = [run.prepare(path)[0] for path in (_INPUT.value, _TO.value)]
        given = {name: options[name] for name in ('label', 'text', 'conditions')}
        made = np.asarray(run.interpolate(*ends, n, **given, **sample_flags.sampling()))
    elif in_time:
        unit = _UNITS[spec.kind]
        parts = [f'{gap[0]:g} to {gap[1]:g} {unit}'] if gap is not None else []
        if _MASK.value is not None:
            parts.append(f'the part in {Path(_MASK.value).name}')
        what = f'{" of ".join(parts)} sampled anew' if parts else f'{_CONTINUE.value:g} {unit} more'
        title = f'{name}, with {what}'
        made = run.infill(np.repeat(whole[None], n, axis=0), start, stop, mask=mask, **options)
    else:
        example, mask = run.prepare(_INPUT.value, _MASK.value)
        copies = np.repeat(example[None], n, axis=0)
        if mask is not None:
            title = f'{name}, with the part in {Path(_MASK.value).name} sampled anew'
            made = run.inpaint(copies, mask, **options)
        elif _STRENGTH.value is not None:
            title = f'{name}, changed with strength {_STRENGTH.value:g}'
            made = run.image_to_image(copies, _STRENGTH.value, **options)
        else:
            unit = 'grey levels' if spec.dtype == np.uint8 else 'steps'
            title = f'{name}, without noise of {_SIGMA.value:g} {unit}'
            made = run.denoise(copies, _SIGMA.value, **options)
    labels = run.labels(n, options['label']) if options['label'] and _TO.value is None else None
    title = f'{title}, by {run.name}, step {run.step:,}'
    sample_flags.write(output, made, spec, title, sample_flags.captions(run, labels, options['text']))
    print(f'{n} {spec.plural} written to {output}')


def _between(text: str) -> tuple[float, float]:
    """The seconds, or frames, that --gap names."""
    try:
        start, end = map(float, text.split(','))
    except ValueError:
        start, end = math.nan, math.nan
    if not 0 <= start < end < math.inf:
        raise UserError(
            f'--gap is {text!r}; write it as START,END, the second above the first, such as 0.2,0.4 in '
            'seconds of sound or 1,7 in frames of video or tokens of text.'
        )
    return start, end


def _stretch(run: 'Run', gap: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray | None, int, int]:
    """The whole of --input [t ...], its --mask, and the positions between which is what they say."""
    spec, flag = run.spec, '--continue' if gap is None else '--gap'
    if spec.kind not in _UNITS:
        raise UserError(
            f'{flag} is for sound, video and text, and this run is of {spec.plural}; give --mask.'
        )
    if spec.kind == 'audio' and not spec.rate:
        raise UserError(
            f'{flag} counts seconds, and the rate of the {spec.plural} of this run is not known; use '
            'vq_jax.Run.infill, which counts positions.'
        )
    if spec.kind != 'audio' and not all(float(n).is_integer() for n in gap or (_CONTINUE.value or 0,)):
        counted = _UNITS[spec.kind]
        raise UserError(f'{flag} counts {counted}, and this run is of {spec.plural}; give whole numbers.')
    rate, unit = (spec.rate, ' s') if spec.kind == 'audio' else (1, '')
    whole, mask = run.prepare(_INPUT.value, _MASK.value, whole=True)
    if _CONTINUE.value is not None:
        start, stop = len(whole), len(whole) + round(_CONTINUE.value * rate)
    elif gap is None:
        start, stop = 0, len(whole)
    else:
        start, stop = (round(at * rate) for at in gap)
        if stop > len(whole):
            raise UserError(
                f'--gap ends at {gap[1]:g}{unit}, and {_INPUT.value} at {len(whole) / rate:g}{unit}; give an '
                'earlier end, or --continue for what follows.'
            )
    if start == stop:
        raise UserError(f'{flag} is shorter than a position of {1 / rate:g} s; give more.')
    return whole, mask, start, stop


if __name__ == '__main__':
    cli.main(main, required=('workdir', 'input', 'output'), save_memory=sample_flags.SAVE_MEMORY)

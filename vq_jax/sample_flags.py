"""What the commands that sample share: flags, and what is written."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags

from vq_jax import cli
from vq_jax.data.captions import caption_lines
from vq_jax.errors import UserError
from vq_jax.media import Animation, Sound, Texts, animations, as_images, image_size, sheets, wav
from vq_jax.media.captions import captioned
from vq_jax.spec import Spec
from vq_jax.text_tokenizers import texts_of

if TYPE_CHECKING:
    from vq_jax.run import Run

# What to do where sampling needs more memory than there is.
SAVE_MEMORY = 'sample fewer at once, with a smaller N in --override=batch_size=N'
_MOST_PIXELS, _TILE = 2**28, 64  # of a sheet, and the side that small images are enlarged to
_MOST_BYTES = 2**32 - 2**10  # of a WAV file
# How the names of files end that hold several examples of a kind.
_ENDINGS = {
    'image': ('.png', '.npz'),
    'video': ('.gif', '.mp4', '.png', '.npz'),
    'audio': ('.wav', '.png', '.npz'),
    'text': ('.txt', '.npz'),
}

_LABEL = flags.DEFINE_multi_string(
    'label',
    None,
    'The name of a class, or its number, counted from 0, where none is called so. Of several, separated by '
    'commas or given by flags of their own, one after the other is sampled.',
)
_TEXT = flags.DEFINE_multi_string(
    'text',
    [],
    'What is to be made, such as "a red apple", by a model that is conditioned on text. Of several, given by '
    'flags of their own, one after the other is sampled.',
)
_NEGATIVE_TEXT = flags.DEFINE_string(
    'negative_text', None, 'What guidance leans away from, in place of nothing; guidance must be above 1.'
)
_CONDITION = flags.DEFINE_multi_string(
    'condition',
    [],
    'What else a model is conditioned on, as name=value, such as angle=0.5. Of '
    'several of one name, one after the other is sampled.',
)
SEED = flags.DEFINE_integer('seed', 0, 'The same seed gives the same samples.')
OUTPUT = flags.DEFINE_string(
    'output',
    None,
    'A .png file for a sheet, .gif or .mp4 for videos side by side, .wav for sounds one after the other, '
    '.txt for texts, .npz for arrays, or a new folder for a file of each.',
)
_SAMPLING = {
    name: define(name, None, meaning)
    for define, meanings in {
        flags.DEFINE_float: {
            'temperature': 'Of a prior: logits are divided by it; 0 takes the likeliest.',
            'top_p': 'Of a prior: sample from the fewest tokens whose probabilities reach this sum.',
            'eta': 'Of a diffusion model: the share of noise that ddim adds, from 0 to 1.',
            'rescale': 'Of a diffusion model: how far guidance is rescaled to keep contrast, from 0 to 1.',
            'guidance': 'Scale of classifier-free guidance: 1 is the model itself, 0 ignores the class.',
        },
        flags.DEFINE_integer: {
            'top_k': 'Of a prior: sample from the k likeliest tokens.',
            'repeats': 'Of a diffusion model, in inpainting: how often each step is made. Holes are filled '
            'best with --sampler=ddpm --repeats=4 --guidance=1; samplers that add no noise gain next to '
            'nothing.',
            'steps': 'Of a masked prior or a diffusion model: the number of sampling steps.',
        },
        flags.DEFINE_string: {
            'sampler': 'Of a diffusion model, such as ddim; a wrong name is answered with all names.',
            'threshold': 'Of a diffusion model: how x0 is clipped; static, dynamic or none.',
        },
    }.items()
    for name, meaning in meanings.items()
}


def label(run: 'Run', n: int) -> list[str] | None:
    """The classes that the flags name, in turn for n examples; None if they name none."""
    if not _LABEL.value:
        return None
    names = []
    for value in _LABEL.value:  # a name may have a comma in it
        known = value in (run.class_names or ())
        names += [value] if known else [part.strip() for part in value.split(',')]
    return [names[i % len(names)] for i in range(n)]


def texts(n: int) -> list[str] | None:
    """The texts that the flags give, in turn for n examples; None if they give none."""
    return [_TEXT.value[i % len(_TEXT.value)] for i in range(n)] if _TEXT.value else None


def asked(n: int) -> dict[str, Any]:
    """What the flags say of n examples that are to be sampled, beside their class: arguments of a `Run`."""
    return {'text': texts(n), 'negative_text': _NEGATIVE_TEXT.value, 'conditions': _conditions(n)}


def _conditions(n: int) -> list[dict[str, Any]] | None:
    """The conditions that the flags give, in turn for n examples; None if they give none."""
    values: dict[str, list[Any]] = {}
    for given in _CONDITION.value:
        name, equals, value = given.partition('=')
        if not equals:
            raise UserError(f'--condition is {given!r}; write it as name=value.')
        values.setdefault(name, []).append(cli.literal(value))
    return (
        [{name: turn[i % len(turn)] for name, turn in values.items()} for i in range(n)] if values else None
    )


def captions(run: 'Run', labels: np.ndarray | None, texts: Sequence[str] | None = None) -> list[str] | None:
    """What stands under examples of classes, int32 [n], and of texts [n]; None if nothing is known."""
    names = None if labels is None or not run.class_names else [run.class_names[i] for i in labels]
    known = [of_each for of_each in (names, texts) if of_each is not None]
    return [': '.join(parts) for parts in zip(*known, strict=True)] if known else None


def sampling() -> dict[str, Any]:
    """The flags that were given of those that say how to sample."""
    return {name: flag.value for name, flag in _SAMPLING.items() if flag.value is not None}


def output() -> Path:
    """What to write: a file, or a new folder."""
    return cli.check_output(OUTPUT, '.png', '.gif', '.mp4', '.wav', '.txt', '.npz', '')


def check_fits(path: Path, n: int, spec: Spec) -> None:
    """Raises `UserError` for a file that cannot hold so many examples of a kind, before they are made.

    Args:
        path: as `output` returns it.
        n: how many examples.
        spec: of each.
    """
    suffix, endings = path.suffix, _ENDINGS[spec.kind]
    if spec.kind == 'text' and spec.tokens is None and suffix in ('.txt', ''):
        raise UserError(
            f'--{OUTPUT.name} is {path}, and what the tokens of these texts stand for is not known; give a '
            'name that ends in .npz.'
        )
    if suffix not in (*endings, ''):
        raise UserError(
            f'--{OUTPUT.name} is {path}, which holds no {spec.plural}, as this run makes; give a name that '
            f'ends in {" or ".join(endings)}.'
        )
    if spec.kind == 'audio' and suffix in ('.wav', '') and not spec.rate:
        raise UserError(
            f'--{OUTPUT.name} is {path}, and the rate of these sounds is not known; give a name that ends in '
            '.npz.'
        )
    if suffix == '.mp4':
        animations.writer()
    if suffix == '.wav':
        most = _MOST_BYTES // (2 * (spec.size + round(spec.rate)))  # with a pause after each
    elif suffix == '.png':
        most = _MOST_PIXELS // math.prod(max(_TILE, size) for size in image_size(spec))
    elif suffix in ('.gif', '.mp4'):
        most = _MOST_PIXELS // (spec.shape[0] * math.prod(max(_TILE, size) for size in spec.grid[1:]))
    else:
        return
    if n > most:
        # Of very large ones, not even one fits.
        fewer = f'ask for {most:,} or fewer, or ' if most else ''
        raise UserError(
            f'{n} {spec.plural} do not fit {"on a sheet" if suffix == ".png" else "in a file"}; '
            f'{fewer}give --{OUTPUT.name} a name that ends in .npz.'
        )


def write(
    path: Path,
    examples: np.ndarray,
    spec: Spec,
    title: str,
    captions: Sequence[str] | None = None,
    **arrays: np.ndarray | None,
) -> None:
    """Writes examples side by side, or one after the other, as arrays, or each into a file of its own.

    Args:
        path: as `output` returns it, and `check_fits` lets it pass.
        examples: [n ...].
        spec: of the examples.
        title: what stands over a sheet of them.
        captions: what stands under each in a sheet, and at its beginning in a file of sounds, if anything.
        **arrays: what an .npz file also holds; None is left out. A folder has a list of the captions `text`,
            with which it is a data set (see `vq_jax.data.captions`).

    Raises:
        UserError: if it cannot be written; the examples are elsewhere then, if anywhere.
    """
    digits = len(str(len(examples) - 1))
    if path.suffix == '.npz':
        file = io.BytesIO()
        np.savez(file, **{spec.plural: examples, **{k: v for k, v in arrays.items() if v is not None}})
        content = file.getvalue()
    elif path.suffix in ('.gif', '.mp4'):
        frames = (x if captions is None else captioned(x, captions) for x in np.swapaxes(examples, 0, 1))
        moving = Animation(tuple(sheets.Sheet(sheets.grid(x), (title,)) for x in frames)).captioned()
        content = (animations.gif if path.suffix == '.gif' else animations.mp4)(moving, spec.rate)
    elif spec.kind == 'text':
        texts = texts_of(examples, spec.tokens)
        if path.suffix:
            shown = Texts((('text', tuple(texts)),), tuple(captions or ()))
            content = shown.joined() if len(texts) > 1 else texts[0]
        else:
            content = {f'{i:0{digits}}.txt': text.encode() for i, text in enumerate(texts)}
    elif path.suffix == '.wav':
        content = Sound(examples, spec.rate, tuple(captions or ())).encoded()
    elif path.suffix == '.png':
        shown = as_images(examples, spec)
        shown = shown if captions is None else captioned(shown, captions)
        content = sheets.png(sheets.Sheet(sheets.grid(shown), (title,)).captioned())
    elif spec.kind == 'video':
        content = {f'{i:0{digits}}.gif': animations.gif(x, spec.rate) for i, x in enumerate(examples)}
    elif spec.kind == 'audio':
        content = {f'{i:0{digits}}.wav': wav.encode(x, spec.rate) for i, x in enumerate(examples)}
    else:
        content = {f'{i:0{digits}}.png': sheets.png(x) for i, x in enumerate(as_images(examples, spec))}
    if path.suffix == '' and (texts := arrays.get('text')) is not None:
        content['captions.jsonl'] = caption_lines(zip(content, texts.tolist(), strict=True)).encode()
    cli.write_output(path, content, f'the {len(examples)} {spec.plural} that were made')

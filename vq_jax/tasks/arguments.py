"""What a user asks of a trained task and gives to it, checked: methods, images, codes and labels."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks.registry import TASKS
from vq_jax.tasks.task import Classifies, Describes, Edits, Encodes, Inpaints, Samples, Scores, Task
from vq_jax.text_tokenizers import PADDING, text_tokenizer

# Which tasks have a method, and what it is for, with several examples or one where they are named.
_ABILITIES = {
    'encode': (Encodes, 'encode {many}'),
    'decode': (Encodes, 'decode'),
    'sample': (Samples, 'sample {many}'),
    'inpaint': (Inpaints, 'sample a part of {one} anew'),
    'image_to_image': (Edits, 'change {many} as a whole'),
    'denoise': (Edits, 'take noise out of {many}'),
    'upscale': (Edits, 'make small images large'),
    'log_probability': (Scores, 'tell the likelihood of codes'),
    'describe': (Describes, 'describe {many}'),
    'classify': (Classifies, 'tell classes apart'),
}


def check_can(name: str, task: Task, spec: Spec, method: str, ability: str | None = None) -> None:
    """Raises `UserError` if a task, of such a name and examples, has no such method, with those that do.

    The ability is what the method is wanted for, if not for itself.
    """
    protocol, what = _ABILITIES[method]
    if isinstance(task, protocol):
        return
    able = [other for other, cls in TASKS.items() if issubclass(cls, protocol)]
    if 'prior' in able and task.vocabularies:
        by_kind = {
            'audio': 'audio/speech_prior.py',
            'video': 'video/prior_sprites.py',
            'text': 'text/emoji_names.py',
        }
        config = by_kind.get(spec.kind, 'image/prior_mnist.py')
        remedy = f'train a prior on its codes (configs/{config} with config.tokenizer.workdir=RUN)'
    elif 'diffusion' in able and name == 'vqgan':
        config = 'video/ldm_sprites.py' if spec.kind == 'video' else 'image/ldm_imagenette.py'
        remedy = f'train one on its latents that can (configs/{config}, config.latent.workdir=RUN)'
    else:
        remedy = f'one of {", ".join(able[:-1])}{" or " if able[1:] else ""}{able[-1]} can'
    many = spec.plural
    what = what.format(many=many, one=f'{"an" if many[0] in "aeiou" else "a"} {many[:-1]}')
    raise UserError(f'a run of the task {name} cannot {ability or what}; {remedy}.')


def as_array(values: Any, name: str) -> np.ndarray:
    """An array, or lists in each other, as an array; raises `UserError` if its parts are not of one shape.

    What they are is said by `name`, in the plural.
    """
    try:
        return np.asarray(values)
    except ValueError as error:
        told = f'{name} must be an array, and the parts of these differ in shape; give one.'
        raise UserError(told) from error


def checked_examples(x: np.ndarray | jax.Array, spec: Spec) -> np.ndarray | jax.Array:
    """Examples [b ...] as they travel to the devices, of the kind that a spec says; sizes may be others.

    Raises:
        UserError: if they are of another type, have other axes, or are texts with tokens that there are not.
    """
    names = spec.plural
    x = as_array(x, names) if not isinstance(x, jax.Array) else x
    least, largest = np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max
    dtype = np.dtype(spec.dtype).name
    if x.dtype != spec.dtype or x.ndim != 1 + len(spec.shape):
        remedy = f' Of one {names[:-1]}, give {names}[None].' if x.ndim == len(spec.shape) else ''
        if jnp.issubdtype(x.dtype, jnp.floating) and spec.kind != 'text':
            remedy += f' Of numbers from {-1 if least else 0} to 1, give ({largest} * {names}).round().'
            remedy = f"{remedy}astype('{dtype}')."
        raise UserError(
            f'{names} must be {dtype} [b {spec.axes}], from {least} to {largest}; these are {x.dtype} of '
            f'shape {x.shape}.{remedy}'
        )
    if not x.size:
        raise UserError(f'there are no {names} in an array of shape {x.shape}; give one or more.')
    if spec.kind == 'image' and x.shape[1] in (1, 3) and x.shape[3] not in (1, 3):
        raise UserError(
            f'images must be uint8 [b h w c], and these look like [b c h w], {x.shape}; give '
            'images.transpose(0, 2, 3, 1).'
        )
    if spec.kind == 'text' and spec.tokens is not None:
        least, largest, size = int(x.min()), int(x.max()), text_tokenizer(spec.tokens).size
        if least < PADDING or largest >= size:
            raise UserError(
                f'the tokens are from {least} to {largest}; give those of the tokenizer, from 0 to '
                f'{size - 1}, and {PADDING} after the end of a text.'
            )
    return x


def checked_mask(mask: Any, shape: Sequence[int]) -> np.ndarray:
    """A mask of examples [b *grid], as for all or for each: bool [*grid] or [b *grid].

    Raises:
        UserError: if it is another array.
    """
    b, *grid = shape
    mask = as_array(mask, 'masks')
    if mask.dtype != bool or mask.shape not in (tuple(grid), (b, *grid)):
        raise UserError(
            f'the mask must be bool of shape {tuple(grid)} or {(b, *grid)}; this is {mask.dtype} '
            f'{mask.shape}.'
        )
    return np.broadcast_to(mask, (b, *grid))


def checked_codes(
    codes: Any,
    like: Any,
    vocabularies: Sequence[Sequence[int]],
    decodable: Sequence[Sequence[int]] | None = None,
    decodable_scales: Sequence[int] | None = None,
) -> Any:
    """Latents or codes of any number of examples as `Run.encode` returns them; raises `UserError` for others.

    Args:
        codes: of several scales a tuple, from coarse to fine.
        like: shapes and types of what `Run.encode` returns for one example.
        vocabularies: how many codes there are, of each scale at each depth; empty for latents.
        decodable: of each scale, how many codes of a position may be given, the first so many; None for all.
        decodable_scales: of how many scales codes may be given, the first so many; None for all.
    """
    decodable_scales = decodable_scales or (len(vocabularies),)
    decodable = decodable or [(len(vocabulary),) for vocabulary in vocabularies]
    if not vocabularies:
        return _checked_latents(as_array(codes, 'latents'), like)
    if not isinstance(like, tuple):
        if isinstance(codes, tuple):
            raise UserError(f'this model has one scale of codes; give one array, int {_axes(like)}.')
        return _checked_grid(codes, like, vocabularies[0], decodable[0])
    if not isinstance(codes, tuple) or len(codes) not in decodable_scales:
        few = ', or of the first of them' if len(decodable_scales) > 1 else ''
        raise UserError(
            f'codes must be a tuple of {len(like)} scales, from coarse to fine, as encode returns them{few}.'
        )
    like = like[: len(codes)]
    scales = [_checked_grid(*each) for each in zip(codes, like, vocabularies, decodable, strict=False)]
    for scale, one in zip(scales, like, strict=True):
        axes = zip(scale.shape[1:], like[0].shape[1:], scales[0].shape[1:], one.shape[1:], strict=True)
        if len(scale) != len(scales[0]) or any(a * b != c * d for a, b, c, d in axes):
            raise UserError(
                'scales of codes must be as large beside each other as encode makes them, '
                f'{" and ".join(map(_axes, like))}; these are of shapes '
                f'{" and ".join(str(scale.shape) for scale in scales)}.'
            )
    return tuple(scales)


def check_depths(
    depths: int, decodable: Sequence[Sequence[int]], name: str = 'depths', model: str = 'this model'
) -> None:
    """Raises `UserError` unless a model decodes the first so many codes of each position alone.

    Args:
        depths: how many.
        decodable: of each scale, how many codes of a position it decodes.
        name: what `depths` is called.
        model: what the model is called.
    """
    if not decodable or any(depths not in allowed for allowed in decodable):
        each = dict.fromkeys(', '.join(map(str, allowed)) for allowed in decodable)
        known = ' and '.join(each) or 'none'
        raise UserError(
            f'{name} is {depths}, and of the codes of a position {model} decodes so many: {known}; give one '
            'of these, or leave it out.'
        )


def first_depths(
    codes: Any,
    depths: int,
    vocabularies: Sequence[Sequence[int]],
    decodable: Sequence[Sequence[int]] | None,
) -> Any:
    """The first so many codes of each position; raises `UserError` where a model cannot decode these alone.

    Args:
        codes: as `checked_codes` returns them.
        depths: how many.
        vocabularies: as for it.
        decodable: as for it.
    """
    decodable = decodable or [(len(vocabulary),) for vocabulary in vocabularies]
    if not decodable:
        raise UserError(f'depths is {depths}, and this model has latents, without depths; leave it out.')
    check_depths(depths, decodable)
    scales = codes if isinstance(codes, tuple) else (codes,)
    cut = []
    for scale, vocabulary in zip(scales, vocabularies, strict=False):
        given = 1 if len(vocabulary) == 1 else scale.shape[-1]
        if depths > given:
            raise UserError(f'depths is {depths}, and the codes have {given} at a position; give no more.')
        cut.append(scale if len(vocabulary) == 1 else scale[..., :depths])
    return tuple(cut) if isinstance(codes, tuple) else cut[0]


def first_scales(
    codes: Any, scales: int, vocabularies: Sequence[Sequence[int]], decodable_scales: Sequence[int] | None
) -> Any:
    """The first so many scales of codes; raises `UserError` where a model cannot decode these alone.

    Args:
        codes: not checked yet; if they are no tuple, they come back as they are.
        scales: how many.
        vocabularies: as for `checked_codes`.
        decodable_scales: as for it.
    """
    if not vocabularies:
        raise UserError(f'scales is {scales}, and this model has latents, without scales; leave it out.')
    allowed = decodable_scales or (len(vocabularies),)
    if scales not in allowed:
        known = 'only all of them' if len(allowed) == 1 else f'one of {", ".join(map(str, allowed))}'
        raise UserError(
            f'scales is {scales}, and this model has {len(vocabularies)} and decodes {known}; give that, or '
            'leave scales out.'
        )
    if not isinstance(codes, tuple):
        return codes
    if scales > len(codes):
        raise UserError(f'scales is {scales}, and there are codes of {len(codes)}; give no more.')
    return codes[:scales]


def checked_numbers(codes: Any, vocabularies: Sequence[Sequence[int]]) -> tuple[np.ndarray, ...]:
    """Codes of any shape as scales, int32 [... depth]; raises `UserError` for others.

    Args:
        codes: [...] of one depth, or [... depth]; of several scales a tuple, from coarse to fine.
        vocabularies: how many codes there are, of each scale at each depth.
    """
    scales, n = codes if isinstance(codes, tuple) else (codes,), len(vocabularies)
    if len(scales) != n:
        kind = f'a tuple of {n}, from coarse to fine' if n > 1 else 'one array'
        raise UserError(f'codes must be {kind}: one for each scale.')
    checked = []
    for scale, vocabulary in zip(scales, vocabularies, strict=True):
        scale = as_array(scale, 'codes')
        scale = scale[..., None] if len(vocabulary) == 1 else scale
        if scale.shape[-1:] != (len(vocabulary),):
            raise UserError(
                f'codes must be [... {len(vocabulary)}], as many as a position has; these are of shape '
                f'{scale.shape}.'
            )
        checked.append(_in_range(scale, max(vocabulary)))
    return tuple(checked)


def check_whole_grids(codes: Any, like: Any) -> None:
    """Raises `UserError` unless codes are those of one or more examples of the size that was learned.

    Args:
        codes: as `checked_codes` returns them.
        like: as for it.
    """
    for level, one in zip(*map(jax.tree.leaves, (codes, like)), strict=True):
        if not len(level) or level.shape[1:] != one.shape[1:]:
            raise UserError(
                f'codes of shape {level.shape} have no likelihood under a prior of grids of '
                f'{one.shape[1:]}; give one grid or more, {_axes(one)}.'
            )


def _checked_latents(latents: np.ndarray, like: Any) -> np.ndarray:
    if not np.issubdtype(latents.dtype, np.floating):
        raise UserError(f'latents must be floats, as encode returns them; these are {latents.dtype}.')
    if latents.ndim != len(like.shape) or latents.shape[-1] != like.shape[-1]:
        raise UserError(
            f'latents must be as encode returns them, {_axes(like)}; these are of shape {latents.shape}.'
        )
    return latents


def _checked_grid(codes: Any, like: Any, vocabulary: Sequence[int], decodable: Sequence[int]) -> np.ndarray:
    """Codes of one scale, int32 [b *grid] or, of several depths, [b *grid depth]; or of fewer of these."""
    codes = as_array(codes, 'codes')
    depth = len(vocabulary)
    if not np.issubdtype(codes.dtype, np.integer) or codes.ndim != len(like.shape):
        raise UserError(
            f'codes must be integers, as encode returns them, {_axes(like)}; these are {codes.dtype} of '
            f'shape {codes.shape}.'
        )
    if depth > 1 and codes.shape[-1] not in decodable:
        few = f', or the first {", ".join(map(str, decodable[:-1]))} alone' if len(decodable) > 1 else ''
        raise UserError(
            f'codes must be {_axes(like)}, {depth} of a position{few}; these are of shape {codes.shape}.'
        )
    if not codes.size:
        raise UserError(
            f'there are no codes in an array of shape {codes.shape}; give those of one example or more.'
        )
    return _in_range(codes, max(vocabulary))


def _axes(like: Any) -> str:
    """The shape of what `encode` returns for one example, with b for their number."""
    return f'[b {" ".join(map(str, like.shape[1:]))}]'


def _in_range(codes: np.ndarray, num_codes: int) -> np.ndarray:
    if not np.issubdtype(codes.dtype, np.integer):
        raise UserError(f'codes must be integers; these are {codes.dtype}.')
    if codes.size and not (codes.min() >= 0 and codes.max() < num_codes):
        raise UserError(
            f'codes must be from 0 to {num_codes - 1}; these are from {codes.min()} to {codes.max()}.'
        )
    return codes.astype(np.int32)

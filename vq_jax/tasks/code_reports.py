"""What a log and a page say of codes, of each scale and depth: metrics of usage, maps, histograms."""

import dataclasses
import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.errors import plural
from vq_jax.media import Media, as_images, code_images, sheets, show
from vq_jax.media.captions import captioned
from vq_jax.models.autoencoder import Codes
from vq_jax.ops.usage import CodeCounts, usage
from vq_jax.spec import Spec

_MOST_SHOWN = 36  # codes of a codebook


def of_scales(name: str, scales: Sequence[Any]) -> dict[str, Any]:
    """Names what there is of each scale: by the name alone where there is one, else with its number too."""
    if len(scales) == 1:
        return {name: scales[0]}
    return {f'{name}_scale_{i}': x for i, x in enumerate(scales)}


def usage_of_batch(
    codes: Codes, vocabularies: Sequence[Sequence[int]], shared_codebook: bool = False
) -> dict[str, jax.Array]:
    """How the codes of a batch are used (see `vq_jax.ops.usage`), of each scale and depth.

    If the scales share a codebook of one depth, then also of all together, by the names without a number.
    """
    named = _named(codes, vocabularies, lambda scale, depth, k: usage(scale[..., depth], k))
    if shared_codebook:
        together = jnp.concatenate([scale.reshape(-1) for scale in codes])
        named |= usage(together, vocabularies[0][0])
    return named


def summarize(
    means: dict[str, Any], vocabularies: Sequence[Sequence[int]] = (), shared_codebook: bool = False
) -> dict[str, float]:
    """The means, with the use of codes over the whole set for their counts.

    Args:
        means: numbers, arrays of which other metrics are made, and 'codes' of each scale (see `of_scales`), a
            `CodeCounts` for each depth.
        vocabularies: how many codes there are, of each scale at each depth.
        shared_codebook: as for `usage_of_batch`.
    """
    counts = _counts(means, vocabularies)
    numbers = {name: value for name, value in means.items() if np.ndim(value) == 0}
    numbers |= _named(counts, vocabularies, lambda scale, depth, k: scale[depth].usage(k))
    if shared_codebook:
        together = functools.reduce(operator.add, (scale[0] for scale in counts))
        numbers |= together.usage(vocabularies[0][0])
    return {name: float(value) for name, value in numbers.items()}


def watch_usage(
    metrics: dict[str, float], vocabularies: Sequence[Sequence[int]], positions: int, remedy: str
) -> str | None:
    """A warning if, at some scale or depth, few codes are in use.

    That is less than a tenth of those that would be if all were as likely.

    Args:
        metrics: as `summarize` gives them.
        vocabularies: how many codes there are, of each scale at each depth.
        positions: how many positions, at least, were counted of each scale.
        remedy: a sentence that says what to do.
    """
    sizes = _named(vocabularies, vocabularies, lambda _, depth, k: {'codebook_usage': k})
    few = [name for name, k in sizes.items() if metrics[name] < -0.1 * math.expm1(-positions / k)]
    if not few:
        return None
    least = min(few, key=metrics.get)
    others = f', and {plural(len(few) - 1, "other")} are like it' if few[1:] else ''
    return f'few codes are in use: {least} is {metrics[least]:.2%} of {sizes[least]:,}{others}. {remedy}'


def reconstruction_media(
    predictions: dict[str, np.ndarray],
    means: dict[str, Any],
    vocabularies: Sequence[Sequence[int]],
    spec: Spec,
) -> dict[str, Media]:
    """Originals over reconstructions over code maps, of each scale and depth; histograms of code use.

    Of text there are no maps.

    Args:
        predictions: 'images' and 'reconstructions', as the spec says [b ...], and 'codes' of each scale (see
            `of_scales`).
        means: counts of codes, as for `summarize`.
        vocabularies: as for `summarize`.
        spec: of the examples; images may be of another size.
    """
    images = predictions['images']
    spec = dataclasses.replace(spec, shape=images.shape[1:])
    shown = {'originals': images, 'reconstructions': predictions['reconstructions']}
    codes = [predictions[name] for name in of_scales('codes', vocabularies)]

    def code_map(scale: np.ndarray, depth: int, k: int) -> dict[str, tuple[np.ndarray, int]]:
        return {'codes': (scale[..., depth], k)}

    def histogram(scale: tuple[CodeCounts, ...], depth: int, k: int) -> dict[str, sheets.Sheet]:
        return {'code_usage': sheets.histogram(scale[depth].shares, k)}

    maps = {} if spec.kind == 'text' else _named(codes, vocabularies, code_map)
    for name, (one, k) in maps.items():
        shown[code_caption(name, one, k)] = code_images(one, k, spec)
    return {
        **show('reconstructions', shown, spec),
        **_named(_counts(means, vocabularies), vocabularies, histogram),
    }


def codebook_media(
    predictions: dict[str, np.ndarray],
    means: dict[str, Any],
    vocabularies: Sequence[Sequence[int]],
    spec: Spec,
) -> dict[str, Media]:
    """What the codes that are used most decode to: the mean of reconstructions where each is used.

    Of images and video; of sound, waves of all phases would cancel. Of several depths, the codes are those of
    the first. A scale is left out if its grid does not divide the examples.

    Args:
        predictions: 'reconstructions' and 'codes', as for `reconstruction_media`; codes that do not occur in
            them are left out.
        means: counts of codes, as for `summarize`, by which codes are chosen.
        vocabularies: as for `summarize`.
        spec: of the examples.

    Returns:
        'codebook' of each scale (see `of_scales`), with the numbers of the codes and their shares of use.
    """
    if spec.kind not in ('image', 'video'):
        return {}
    rebuilt = predictions['reconstructions']
    codes = [predictions[name][..., 0] for name in of_scales('codes', vocabularies)]
    scales = zip(codes, _counts(means, vocabularies), vocabularies, strict=True)
    found = [_codebook(rebuilt, codes, depths[0], k, spec) for codes, depths, (k, *_) in scales]
    return {name: sheet for name, sheet in of_scales('codebook', found).items() if sheet}


def _codebook(
    rebuilt: np.ndarray, codes: np.ndarray, counts: CodeCounts, k: int, spec: Spec
) -> sheets.Sheet | None:
    """The sheet of a scale with the codes [b *grid], out of k; None if the grid does not divide examples."""
    grid = codes.shape[1:]
    if any(n % cells for n, cells in zip(rebuilt.shape[1:-1], grid, strict=True)):
        return None
    patches, codes = _patches(rebuilt, grid), codes.reshape(-1)
    occurring = set(codes.tolist())
    chosen = [(code, share) for code, share in counts.by_use.items() if code in occurring][:_MOST_SHOWN]
    decoded = np.stack([patches[codes == code].mean(0) for code, _ in chosen]).round().astype(np.uint8)
    images = as_images(decoded, dataclasses.replace(spec, shape=decoded.shape[1:]))
    shown = captioned(images, [f'{code}: {share:.1%}' for code, share in chosen])
    caption = f'what {len(chosen)} of {k:,} codes decode to, in the mean; the most used first'
    return sheets.Sheet(sheets.grid(shown), (caption,))


def _patches(examples: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """What lies in each cell of a grid over examples [b *size c]: [b*cells *patch c]."""
    patch = [n // cells for n, cells in zip(examples.shape[1:-1], grid, strict=True)]
    sizes = itertools.chain(*zip(grid, patch, strict=True))
    split = examples.reshape(len(examples), *sizes, examples.shape[-1])
    last = split.ndim - 1
    cells_first = split.transpose(0, *range(1, last, 2), *range(2, last, 2), last)
    return cells_first.reshape(-1, *patch, examples.shape[-1])


def code_caption(name: str, codes: np.ndarray, num_codes: int) -> str:
    """What a row of code maps shows: grids of codes [b *grid] out of `num_codes`."""
    return (
        f'{name.replace("_", " ")}: {"x".join(map(str, codes.shape[1:]))} of {num_codes:,}, each in a colour'
    )


def _counts(means: dict[str, Any], vocabularies: Sequence[Sequence[int]]) -> list[tuple[CodeCounts, ...]]:
    return [means[name] for name in of_scales('codes', vocabularies)]


def _named(
    scales: Sequence[Any],
    vocabularies: Sequence[Sequence[int]],
    function: Callable[[Any, int, int], dict[str, Any]],
) -> dict[str, Any]:
    """What a function of a scale, a depth and its vocabulary names, with the numbers of scale and depth."""
    named = {}
    for i, (scale, vocabulary) in enumerate(zip(scales, vocabularies, strict=True)):
        for depth, k in enumerate(vocabulary):
            suffix = f'_scale_{i}' if len(vocabularies) > 1 else ''
            suffix += f'_depth_{depth}' if len(vocabulary) > 1 else ''
            named |= {f'{name}{suffix}': x for name, x in function(scale, depth, k).items()}
    return named

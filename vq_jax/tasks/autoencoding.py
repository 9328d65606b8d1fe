"""What the tasks that rebuild images share."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import UserError, plural
from vq_jax.media import Media, code_images, image_size, sheets, show
from vq_jax.ops.grids import per_axis
from vq_jax.ops.images import to_float, to_integers
from vq_jax.ops.losses import mean_absolute, mean_square
from vq_jax.ops.metrics import psnr
from vq_jax.ops.parts import map_over_parts
from vq_jax.ops.usage import CodeCounts, usage
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS, StartsFromData, revive
from vq_jax.spec import Spec
from vq_jax.tasks.task import State, Task, check_parts
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import TrainState

Codes = tuple[jax.Array, ...]  # of each scale, from coarse to fine, int32 [b *grid depth]


class AutoencodingTask(Task):
    """What a task whose model has the methods `encode` and `decode` can do beyond training."""

    @property
    def vocabularies(self) -> tuple[tuple[int, ...], ...]:
        """How many codes there are, of each scale at each depth; empty for a model of continuous latents."""
        return ()

    @property
    def has_likelihood(self) -> bool:
        """Whether there is `log_likelihood(state, images, codes, labels) -> nats [b]`, `log p(x | codes)`."""
        return False

    def seen(self, images: jax.Array) -> jax.Array:
        """What the encoder is given of images [b h w c] in [-1, 1]; of their size."""
        return images

    def encode(self, state: State, images: jax.Array) -> Codes | jax.Array:
        """Codes (see `Codes`), or latents, float32 [b ... d], of images, uint8 [b h w c]."""
        codes = self.model.apply(state.eval_variables(), self.seen(to_float(images)), method='encode')
        return as_scales(codes) if self.vocabularies else codes

    def decode(self, state: State, codes: Codes | jax.Array, labels: jax.Array) -> jax.Array:
        """Images, uint8 [b h w c], of codes or latents, and of classes int32 [b] if it is conditioned."""
        given = (labels,) if self.num_labels else ()
        decoded = self.model.apply(state.eval_variables(), as_model(codes), *given, method='decode')
        return to_integers(decoded, self.spec.dtype)

    def lookup(self, state: State, codes: Codes) -> tuple[jax.Array, ...]:
        """The vectors [... d] that stand for codes, int32 [... depth] of each scale, where decoders begin."""
        return as_scales(self.model.apply(state.eval_variables(), as_model(codes), method='lookup'))


def as_scales(codes: Any) -> tuple[Any, ...]:
    """What a model has for each scale: models of one give it as it is."""
    return codes if isinstance(codes, tuple) else (codes,)


def as_model(codes: Any) -> Any:
    """What there is of each scale as a model takes it: as it is, where there is one."""
    return codes[0] if isinstance(codes, tuple) and len(codes) == 1 else codes


def check_size(spec: Spec, factors: Sequence[int], channels: int, key: str) -> None:
    """Checks that a model which divides the sizes of the grid by factors can take examples.

    Args:
        spec: of the examples.
        factors: must divide the sizes of their grid; one for all axes or one for each.
        channels: must be theirs.
        key: what in the config sets the factors, for the message.

    Raises:
        UserError: if it cannot.
    """
    along = per_axis(factors, spec.rank, 'strides')
    if any(size % factor for size, factor in zip(spec.grid, along, strict=True)):
        factor = 'x'.join(map(str, factors))
        raise UserError(
            f'examples of {spec.size_in_words} cannot be divided by {factor} ({key}); use a multiple of '
            f'{factor}, by config.data.image_size or config.data.pad.'
        )
    if spec.channels != channels:
        raise UserError(
            f'the examples have {plural(spec.channels, "channel")} and the model was made for {channels}; '
            f'set config.data.channels to {channels}.'
        )


def init_codes(
    key: jax.Array,
    state: TrainState,
    batches: Iterable[Batch],
    engine: Engine,
    *,
    model: Any,
    quantizer: Any,
    vectors: Callable[[TrainState, Batch], jax.Array],
    accumulate: int,
    method: str = 'init_codes',
) -> TrainState:
    """Lets a quantizer begin where the vectors of the first batches are, if it wants that.

    Args:
        key: a random key.
        state: the new state of the model.
        batches: training batches.
        engine: runs `vectors`.
        model: has the method.
        quantizer: the model's, of any kind.
        vectors: what the quantizer is given of a batch [b ... dim].
        accumulate: in how many parts a batch is encoded, one after another.
        method: hands a key and vectors to the quantizer's `init_from_data`.

    Raises:
        UserError: if there are fewer vectors than codes.
    """
    if not isinstance(quantizer, StartsFromData) or not quantizer.init_batches:
        return state

    def in_parts(state: TrainState, batch: Batch) -> jax.Array:
        return map_over_parts(functools.partial(vectors, state), batch, accumulate)

    compiled = engine.per_example(in_parts)
    taken = [compiled(state, batch) for batch in islice(batches, quantizer.init_batches)]
    found = np.concatenate(taken).reshape(-1, taken[0].shape[-1])

    @jax.jit
    def begin(variables: Any, key: jax.Array, vectors: jax.Array) -> Any:
        mutable = ['params', STATISTICS]
        return model.apply(variables, key, vectors, method=method, mutable=mutable)[1]

    try:
        placed = jax.device_get(begin({'params': state.params, **state.variables}, key, found))
    except UserError as error:  # of attributes of the quantizer, which are keys of this section
        raise UserError(f'config.quantizer: {error}') from error
    params = placed.pop('params', state.params)
    ema_params = None if state.ema_params is None else jax.tree.map(jnp.copy, params)
    return engine.put_state(
        state.replace(params=params, variables={**state.variables, **placed}, ema_params=ema_params)
    )


def errors(outputs: jax.Array, originals: jax.Array) -> dict[str, jax.Array]:
    """How far reconstructions are from their originals, for each example [b].

    Args:
        outputs: reconstructions, about in [-1, 1] [b *grid c].
        originals: as they travel, integers [b *grid c].

    Returns:
        'mse' and 'l1' of the outputs as they are, 'psnr' of the integers that they become.
    """
    x = to_float(originals)
    return {
        'mse': mean_square(outputs, x),
        'l1': mean_absolute(outputs, x),
        'psnr': psnr(to_integers(outputs, originals.dtype), originals),
    }


def of_scales(name: str, scales: Sequence[Any]) -> dict[str, Any]:
    """Names what there is of each scale: by the name alone where there is one, else with its number too."""
    if len(scales) == 1:
        return {name: scales[0]}
    return {f'{name}_scale_{i}': x for i, x in enumerate(scales)}


def learn_codes(model: Any, state: TrainState, batch_means: Any) -> tuple[TrainState, dict[str, jax.Array]]:
    """Lets the codebooks learn what they learn without gradients, after the optimizer's update.

    A dead code is replaced in the average of the parameters too: halfway to its new place it is no vector
    of anything, and so would stay dead in evaluation.

    Args:
        model: has the method `after_update`.
        state: of the model.
        batch_means: the collection of that name of the model's training calls, averaged over the batch.

    Returns:
        The new state, and numbers for the log.
    """
    variables = {'params': state.params, **state.variables, BATCH_MEANS: batch_means}
    metrics, changed = model.apply(variables, method='after_update', mutable=[STATISTICS, REVIVALS])
    revivals, averages = changed.pop(REVIVALS, {}), state.ema_params
    state = state.replace(
        params=revive(state.params, revivals),
        ema_params=None if averages is None else revive(averages, revivals),
        variables={**state.variables, **changed},
    )
    return state, metrics


def check_quantizer_parts(config: ConfigDict, quantizer: Any) -> None:
    """Refuses a step in parts with a quantizer whose loss is of the whole batch."""
    if getattr(quantizer, 'depends_on_batch', False):
        if config.quantizer.kind == 'lfq':
            check_parts(config, 'the entropy of the mean (config.lfq.diversity)', 'config.lfq.diversity=0')
        check_parts(config, "the quantizer's loss", 'another config.quantizer.kind')


def usage_of_batch(codes: Codes, vocabularies: Sequence[Sequence[int]]) -> dict[str, jax.Array]:
    """How the codes of a batch are used (see `vq_jax.ops.usage`), of each scale and depth."""
    return _named(codes, vocabularies, lambda scale, depth, k: usage(scale[..., depth], k))


def summarize(means: dict[str, Any], vocabularies: Sequence[Sequence[int]] = ()) -> dict[str, float]:
    """The means, with the use of codes over the whole set for their counts.

    Args:
        means: numbers, and 'codes' of each scale (see `of_scales`), a `CodeCounts` for each depth.
        vocabularies: how many codes there are, of each scale at each depth.
    """
    counts = _counts(means, vocabularies)
    numbers = {name: value for name, value in means.items() if not isinstance(value, tuple)}
    numbers |= _named(counts, vocabularies, lambda scale, depth, k: scale[depth].usage(k))
    return {name: float(value) for name, value in numbers.items()}


def reconstruction_media(
    predictions: dict[str, np.ndarray],
    means: dict[str, Any],
    vocabularies: Sequence[Sequence[int]],
    spec: Spec,
) -> dict[str, Media]:
    """Originals over reconstructions over code maps, of each scale and depth; histograms of code use.

    Args:
        predictions: 'images' and 'reconstructions', uint8 [b h w c], and 'codes' of each scale (see
            `of_scales`).
        means: counts of codes, as for `summarize`.
        vocabularies: as for `summarize`.
        spec: of the examples; images may be of another size.
    """
    images = predictions['images']
    spec = dataclasses.replace(spec, shape=images.shape[1:])
    shown = {'originals': images, 'reconstructions': predictions['reconstructions']}
    codes = [predictions[name] for name in of_scales('codes', vocabularies)]

    def code_map(scale: np.ndarray, depth: int, k: int) -> dict[str, np.ndarray]:
        one = scale[..., depth]
        return {code_caption('codes', one, k): code_images(one, k, image_size(spec))}

    def histogram(scale: tuple[CodeCounts, ...], depth: int, k: int) -> dict[str, sheets.Sheet]:
        return {'code_usage': sheets.histogram(scale[depth].shares, k)}

    shown |= _named(codes, vocabularies, code_map)
    return {
        **show('reconstructions', shown, spec),
        **_named(_counts(means, vocabularies), vocabularies, histogram),
    }


def code_caption(name: str, codes: np.ndarray, num_codes: int) -> str:
    """What a row of code maps shows: grids of codes [b h w] out of `num_codes`."""
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

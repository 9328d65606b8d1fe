"""What the tasks that rebuild images share."""

import functools
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import UserError, plural
from vq_jax.media import sheets
from vq_jax.ops.grids import per_axis
from vq_jax.ops.images import to_float, to_uint8
from vq_jax.ops.kmeans import kmeans
from vq_jax.ops.losses import mean_absolute, mean_square
from vq_jax.ops.metrics import psnr
from vq_jax.ops.parts import map_over_parts
from vq_jax.ops.quantization import code_shares
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS, code_usage, revive
from vq_jax.quantizers.vq import VectorQuantizer
from vq_jax.spec import Spec
from vq_jax.tasks.task import State, Task, check_parts
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import TrainState

Encoded = jax.Array | tuple[jax.Array, jax.Array]  # of one level, or of the top and the bottom one


class AutoencodingTask(Task):
    """What a task whose model has the methods `encode` and `decode` can do beyond training."""

    @property
    def num_codes(self) -> int | None:
        """How many codes there are; None for a model whose latents are continuous."""
        return None

    @property
    def has_likelihood(self) -> bool:
        """Whether there is `log_likelihood(state, images, codes, labels) -> nats [b]`, `log p(x | codes)`."""
        return False

    def seen(self, images: jax.Array) -> jax.Array:
        """What the encoder is given of images [b h w c] in [-1, 1]; of their size."""
        return images

    def encode(self, state: State, images: jax.Array) -> Encoded:
        """Codes, int32 [b h' w'], or latents, float32 [b ... d], of images, uint8 [b h w c].

        Of a model with two levels of codes, a pair: those of the top and those of the bottom.
        """
        return self.model.apply(state.eval_variables(), self.seen(to_float(images)), method='encode')

    def decode(self, state: State, codes: Encoded, labels: jax.Array) -> jax.Array:
        """Images, uint8 [b h w c], of codes or latents, and of classes int32 [b] if it is conditioned."""
        given = (labels,) if self.num_labels else ()
        return to_uint8(self.model.apply(state.eval_variables(), codes, *given, method='decode'))

    def lookup(self, state: State, codes: Encoded) -> Encoded:
        """The vectors [... d] that stand for codes, int32 [...], where the decoder begins; of each level."""
        return self.model.apply(state.eval_variables(), codes, method='lookup')


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
    project: Callable[[TrainState, Batch], jax.Array],
    accumulate: int,
    method: str = 'set_codes',
) -> TrainState:
    """Places the codes by k-means over the vectors of the first batches, if a codebook wants that.

    Args:
        key: a random key.
        state: the new state of the model.
        batches: training batches.
        engine: runs `project`.
        model: has the method `set_codes`.
        quantizer: the model's, of any kind.
        project: the vectors of a batch that are compared with the codes [b ... d].
        accumulate: in how many parts a batch is projected, one after another.
        method: the name of the method, of a model with several quantizers.

    Raises:
        UserError: if there are fewer vectors than codes.
    """
    if not isinstance(quantizer, VectorQuantizer) or quantizer.start != 'kmeans':
        return state

    def project_in_parts(state: TrainState, batch: Batch) -> jax.Array:
        return map_over_parts(functools.partial(project, state), batch, accumulate)

    compiled = engine.per_example(project_in_parts)
    taken = [compiled(state, batch) for batch in islice(batches, quantizer.init_batches)]
    vectors = np.concatenate(taken).reshape(-1, taken[0].shape[-1])
    if len(vectors) < quantizer.num_codes:
        raise UserError(
            f'k-means cannot place {quantizer.num_codes} codes (config.quantizer.num_codes) with the '
            f'{len(vectors)} vectors of {quantizer.init_batches} batches; raise '
            'config.quantizer.init_batches or config.batch_size, or set config.quantizer.start=random.'
        )
    cluster = jax.jit(kmeans, static_argnames=('k', 'cosine'))
    found = cluster(key, vectors, k=quantizer.num_codes, cosine=quantizer.cosine)
    centres, shares = jax.device_get(found)
    variables = {'params': state.params, **state.variables}
    _, placed = model.apply(variables, centres, shares, method=method, mutable=['params', STATISTICS])
    params = placed.pop('params')
    ema_params = None if state.ema_params is None else jax.tree.map(jnp.copy, params)
    return engine.put_state(
        state.replace(params=params, variables={**state.variables, **placed}, ema_params=ema_params)
    )


def errors(outputs: jax.Array, images: jax.Array) -> dict[str, jax.Array]:
    """How far reconstructions are from their originals, for each example [b].

    Args:
        outputs: reconstructions, about in [-1, 1] [b h w c].
        images: originals in [-1, 1] [b h w c].

    Returns:
        'mse' and 'l1' of the outputs as they are, 'psnr' of the bytes that they become.
    """
    return {
        'mse': mean_square(outputs, images),
        'l1': mean_absolute(outputs, images),
        'psnr': psnr(to_uint8(outputs), to_uint8(images)),
    }


def by_level(name: str, levels: Any) -> dict[str, Any]:
    """Names what a model has for each level of its codes.

    Args:
        name: of the only level, or of the bottom one; that of the top begins with 'top_'.
        levels: what there is, or a pair of it, top and bottom.
    """
    if not isinstance(levels, tuple):
        return {name: levels}
    top, bottom = levels
    return {f'top_{name}': top, name: bottom}


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


def code_shares_by_level(codes: Encoded, num_codes: int) -> dict[str, jax.Array]:
    """'code_shares', the share of each code in every image [b k], for each level (see `by_level`)."""
    shares = jax.vmap(code_shares, in_axes=(0, None))
    return by_level('code_shares', jax.tree.map(lambda level: shares(level, num_codes), codes))


def with_code_usage(means: dict[str, Any]) -> dict[str, Any]:
    """The means, with perplexity and share of codes in use over all examples for 'code_shares'."""
    metrics = {}
    for name, mean in means.items():
        if name.endswith('code_shares'):
            level = name.removesuffix('code_shares')
            metrics |= {f'{level}{use}': value for use, value in code_usage(mean).items()}
        else:
            metrics[name] = mean
    return metrics


def summarize(means: dict[str, np.ndarray]) -> dict[str, float]:
    """The means, with perplexity and share of codes in use over the whole set for 'code_shares'."""
    return {name: float(value) for name, value in with_code_usage(means).items()}


def code_images(
    predictions: dict[str, np.ndarray], means: dict[str, np.ndarray], num_codes: int
) -> dict[str, sheets.Sheet]:
    """Originals over reconstructions over code maps, the top's first; the histogram of code use.

    Args:
        predictions: 'images' and 'reconstructions', uint8 [b h w c], and 'codes' [b h' w'] of each level.
        means: 'code_shares' of each level, the share of each code over the data set [k].
        num_codes: k.
    """
    images = predictions['images']
    levels = [level for level in ('top_', '') if f'{level}codes' in predictions]
    shown = {'originals': images, 'reconstructions': predictions['reconstructions']}
    for level in levels:
        codes = predictions[f'{level}codes']
        name = code_caption(f'{level}codes', codes, num_codes)
        shown[name] = sheets.code_maps(codes, num_codes, images.shape[1:3])
    uses = {f'{level}code_usage': sheets.histogram(means[f'{level}code_shares']) for level in levels}
    return {'reconstructions': sheets.rows(shown), **uses}


def code_caption(name: str, codes: np.ndarray, num_codes: int) -> str:
    """What a row of code maps shows: grids of codes [b h w] out of `num_codes`."""
    return f'{name.replace("_", " ")}: {codes.shape[1]}x{codes.shape[2]} of {num_codes:,}, each in a colour'

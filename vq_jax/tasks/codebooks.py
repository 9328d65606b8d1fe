"""What codebooks learn without gradients: where they begin, and what follows an update."""

import functools
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vq_jax.errors import UserError
from vq_jax.models.autoencoder import Autoencoder
from vq_jax.ops.parts import map_over_parts
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS, StartsFromData, revive
from vq_jax.tasks.task import check_parts
from vq_jax.training.parallel import Batch, Engine
from vq_jax.training.state import TrainState


def init_codes(
    key: jax.Array,
    state: TrainState,
    batches: Iterable[Batch],
    engine: Engine,
    *,
    model: Autoencoder,
    encoded: Callable[[Batch], jax.Array],
    accumulate: int,
) -> TrainState:
    """Lets quantizers that want it begin where the vectors of the first batches are, the coarsest first.

    Args:
        key: a random key.
        state: the new state of the model.
        batches: training batches.
        engine: runs the encoder.
        model: has the quantizers.
        encoded: what its encoder is given of a batch [b *grid c].
        accumulate: in how many parts a batch is encoded, one after another.

    Raises:
        UserError: if there are fewer vectors than codes.
    """

    def vectors(state: TrainState, batch: Batch, scale: int) -> jax.Array:
        def of_part(batch: Batch) -> jax.Array:
            return model.apply(state.eval_variables(), encoded(batch), scale, method='vectors')

        return map_over_parts(of_part, batch, accumulate)

    def begin(variables: Any, key: jax.Array, vectors: jax.Array, scale: int) -> Any:
        mutable = ['params', STATISTICS]
        return model.apply(variables, key, vectors, scale, method='init_codes', mutable=mutable)[1]

    for scale, quantizer in enumerate(model.quantizers):
        if not isinstance(quantizer, StartsFromData) or not quantizer.init_batches:
            continue
        compiled = engine.per_example(functools.partial(vectors, scale=scale))
        taken = [compiled(state, batch) for batch in islice(batches, quantizer.init_batches)]
        found = np.concatenate(taken).reshape(-1, taken[0].shape[-1])
        variables, scale_key = {'params': state.params, **state.variables}, jax.random.fold_in(key, scale)
        try:
            placed = jax.jit(functools.partial(begin, scale=scale))(variables, scale_key, found)
        except UserError as error:  # of attributes of the quantizer, which are keys of this section
            raise UserError(f'config.quantizer: {error}') from error
        placed = jax.device_get(placed)
        params = placed.pop('params', state.params)
        ema_params = None if state.ema_params is None else jax.tree.map(jnp.copy, params)
        state = engine.put_state(
            state.replace(params=params, variables={**state.variables, **placed}, ema_params=ema_params)
        )
    return state


def learn_codes(
    model: Autoencoder, state: TrainState, batch_means: Any
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Lets the codebooks learn what they learn without gradients, after the optimizer's update.

    A dead code is replaced in the average of the parameters too: halfway to its new place it is no vector
    of anything, and so would stay dead in evaluation.

    Args:
        model: has the codebooks.
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

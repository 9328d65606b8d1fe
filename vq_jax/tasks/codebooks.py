"""What codebooks learn without gradients, after an update; and what they cannot learn in parts."""

from typing import Any

import jax
from ml_collections import ConfigDict

from vq_jax.models.autoencoder import Autoencoder
from vq_jax.quantizers.quantizer import BATCH_MEANS, REVIVALS, STATISTICS, revive
from vq_jax.tasks.task import check_parts
from vq_jax.training.state import TrainState


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

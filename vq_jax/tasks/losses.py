"""The weighted losses of an autoencoder: any number of its outputs, and that of its bottleneck."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vq_jax.models.observation import CATEGORICAL, Distribution
from vq_jax.ops.losses import mean_absolute, mean_square
from vq_jax.tasks.perceptual import Perceptual


@dataclasses.dataclass(frozen=True)
class OutputLoss:
    """A loss that compares what a decoder made with the original.

    Attributes:
        name: of its metric.
        weight: in the sum of losses.
        difference: takes outputs, about in [-1, 1] [b *grid c], or the distribution that they are; originals
            in [-1, 1] [b *grid c]; and the weights from elsewhere that the task reads. Returns [b].
    """

    name: str
    weight: float
    difference: Callable[[Any, jax.Array, Any], jax.Array]


@dataclasses.dataclass(frozen=True)
class BottleneckLoss:
    """How the loss of the bottleneck counts: that of a codebook, or the divergence of a Gaussian.

    Attributes:
        weight: in the sum of losses.
        warmup: training steps over which the weight rises from 0.
        per_value: whether it is divided by the values of an example, as nats for each.
    """

    weight: float = 1.0
    warmup: int = 0
    per_value: bool = False

    def __call__(self, loss: jax.Array, x: jax.Array, step: jax.Array | None = None) -> jax.Array:
        """The weighted loss [b], of that of the bottleneck [b] for examples [b ...].

        The step is one of training; None in evaluation, where the weight is the whole one.
        """
        if self.per_value:
            loss = loss / x[0].size
        if self.warmup and step is not None:
            loss = loss * jnp.minimum(1.0, step / self.warmup)
        return self.weight * loss


def reconstruction_loss(kind: str, weight: float) -> OutputLoss:
    """Mean squared ('mse') or absolute ('l1') error, or else `-log p(x | z)` of a head in nats a value.

    Of text, that is a position.
    """

    def nats(outputs: Distribution, x: jax.Array) -> jax.Array:
        values = x[0, ..., 0] if kind == CATEGORICAL else x[0]
        return -outputs.log_probability(x) / values.size

    difference = {'mse': mean_square, 'l1': mean_absolute}.get(kind, nats)
    return OutputLoss('reconstruction_loss', weight, lambda outputs, x, _: difference(outputs, x))


def perceptual_loss(perceptual: Perceptual, weight: float, dtype: str) -> OutputLoss:
    """The perceptual distance; the network of it computes in `dtype`."""
    return OutputLoss(
        'perceptual_loss', weight, lambda outputs, x, frozen: perceptual.distance(frozen, outputs, x, dtype)
    )

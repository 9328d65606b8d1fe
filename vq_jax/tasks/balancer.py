"""EnCodec's loss balancer: each loss of the outputs has its share of the gradient, whatever its scale."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_least, check_share
from vq_jax.ops.collectives import pmean
from vq_jax.ops.losses import squared_norm_each
from vq_jax.tasks.adversarial import AdversarialConfig
from vq_jax.tasks.task import check_parts
from vq_jax.training.config import build

BALANCE = 'balance'  # the collection of moving averages of gradient norms
_LEAST = 1e-12  # added to norms, which are 0 where a loss is at its lowest

Averages = dict[str, dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class BalancerConfig:
    """How the losses of the outputs, adversarial ones among them, are weighed against each other.

    Défossez et al. 2022 (EnCodec, arXiv:2210.13438), section 3.4. The loss of the bottleneck stays as it is.

    Attributes:
        enabled: scale the gradient of each loss with respect to the outputs so that its norm, on average, is
            its weight's share of all weights, times `total_norm`. Without, losses are multiplied by their
            weights.
        total_norm: of the gradients of an example together, whose mean over the batch is learned from.
            Published code has 1 and learns from the sum over the examples of a device: with as many as these
            here, the outputs count as much beside the bottleneck's loss as there.
        decay: of the moving averages of norms, a step.
    """

    enabled: bool = False
    total_norm: float = 1.0
    decay: float = 0.999

    def __post_init__(self) -> None:
        check_least(0, self, 'total_norm')
        check_share(self, 'decay', one=False)

    def init(self, names: Iterable[str]) -> Averages:
        """The averages of losses by name, before the first step."""
        return {name: {'sum': jnp.zeros(()), 'weight': jnp.zeros(())} for name in names}

    def balance(
        self,
        averages: Averages,
        gradients: Mapping[str, Any],
        weights: Mapping[str, float | jax.Array],
        axis_name: str | None,
    ) -> tuple[Any, Averages, dict[str, jax.Array]]:
        """The gradient of all losses together.

        Args:
            averages: of norms in the steps before.
            gradients: of each loss, the mean over the examples at hand, with respect to the outputs: trees of
                arrays [b ...].
            weights: of each; the others count as if they were not there.
            axis_name: the device axis, each of whose devices has as many examples.

        Returns:
            What to send back through the network, like one of the gradients; the averages after this step;
            and of each loss the average norm of an example's gradient and the factor that it got.
        """
        total = sum(jnp.float32(weights[name]) for name in gradients)
        updated, metrics, sums = dict(averages), {}, None
        for name, gradient in gradients.items():
            squares = squared_norm_each(gradient)
            # The root has no finite gradient at 0, but none is taken. A mean over b examples has 1 / b of
            # each's.
            norm = pmean(jnp.mean(len(squares) * jnp.sqrt(squares)), axis_name)
            before = averages[name]
            updated[name] = {
                'sum': self.decay * before['sum'] + norm,
                'weight': self.decay * before['weight'] + 1.0,
            }
            average = updated[name]['sum'] / updated[name]['weight']
            factor = self.total_norm * weights[name] / jnp.maximum(total, _LEAST) / (average + _LEAST)
            scaled = jax.tree.map(lambda x, factor=factor: (factor * x).astype(x.dtype), gradient)
            sums = scaled if sums is None else jax.tree.map(jnp.add, sums, scaled)
            metrics |= {f'{name}_gradient_norm': average, f'{name}_factor': factor}
        return sums, updated, metrics


def make_balancer(config: ConfigDict, adversarial: AdversarialConfig | None = None) -> BalancerConfig | None:
    """The balancer of a config's section 'balancer'; None if it is not enabled.

    Raises:
        UserError: for settings that it does not go together with.
    """
    balancer = build(BalancerConfig, config.balancer, 'balancer')
    if not balancer.enabled:
        return None
    check_parts(config, 'config.balancer.enabled=true', 'config.balancer.enabled=false')
    if adversarial and adversarial.adaptive:
        raise UserError(
            'config.balancer.enabled and config.adversarial.adaptive both set how much the adversarial loss '
            'counts; set one of them to false.'
        )
    return balancer

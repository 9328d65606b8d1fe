"""Optimizers and learning-rate schedules, from Optax, by name."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vq_jax.errors import UserError, check_least, check_share, on_device
from vq_jax.training.config import build

# What stands for keys that the section of an optimizer once had.
FORMER_KEYS = {
    'accumulate': 'set config.accumulate instead, with which a step is one update of that many batches, and '
    'divide config.steps and all other counts of steps by as much'
}


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How parameters are updated.

    Attributes:
        name: the rule.
        learning_rate: at its peak.
        schedule: its course after the warm-up: unchanged, or down to `final_share` of the peak at the
            end of the run (or of `config.schedule_steps`) along a line or half a cosine.
        warmup_steps: steps over which it rises from zero.
        final_share: what remains of the peak at the end, from 0 to 1.
        b1: decay of the first moment (momentum, for sgd).
        b2: decay of the second moment.
        eps: added to the denominator of Adam, above 0: gradients may be 0.
        weight_decay: decoupled decay (adamw, lion, sgd) of the matrices of linear layers and convolutions;
            not of biases, scales, embeddings, learned positions and codebooks.
        clip_norm: gradients whose global norm is greater are scaled down to it.
        ema_decay: decay of the moving average of the parameters that evaluation then uses; 0 keeps
            none.
    """

    name: Literal['adam', 'adamw', 'lion', 'sgd'] = 'adam'
    learning_rate: float = 3e-4
    schedule: Literal['constant', 'cosine', 'linear'] = 'constant'
    warmup_steps: int = 0
    final_share: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        check_least(0, self, 'learning_rate', 'warmup_steps', 'eps', 'weight_decay')
        check_share(self, 'final_share')
        check_share(self, 'b1', 'b2', 'ema_decay', one=False)
        if self.name in ('adam', 'adamw') and not self.eps:
            raise UserError(f'eps is 0, by which {self.name} divides gradients of 0; give 1e-8, say.')
        if self.clip_norm is not None and not on_device('clip_norm', self.clip_norm) > 0:
            raise UserError(f'clip_norm is {self.clip_norm}; give a number above 0, or None.')
        if self.name == 'adam' and self.weight_decay:
            raise UserError(
                f'weight_decay is {self.weight_decay}, and adam has none; choose adamw, or set it to 0.'
            )


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An Optax transformation and what the log and the state need to know of it.

    Attributes:
        transformation: gradients to updates.
        learning_rate: the rate at a training step, counted from 0.
        ema_decay: decay of the moving average of the parameters, 0 for none.
    """

    transformation: optax.GradientTransformation
    learning_rate: optax.Schedule
    ema_decay: float


def schedule_length(config: Mapping[str, Any]) -> int:
    """The training steps that the schedules of a full config are made for."""
    return config['schedule_steps'] or config['steps']


def model_optimizer(config: ConfigDict) -> Optimizer:
    """The optimizer of the model (beside a discriminator, of the generator) of a full config."""
    return make_optimizer(build(OptimizerConfig, config.optimizer, 'optimizer'), schedule_length(config))


def make_optimizer(config: OptimizerConfig, steps: int) -> Optimizer:
    """The optimizer of a run whose schedules are made for `steps` training steps (see `schedule_length`)."""
    warmup = config.warmup_steps
    peak, end = config.learning_rate, config.learning_rate * config.final_share
    rest = max(1, steps - warmup)
    course = {
        'constant': lambda: optax.constant_schedule(peak),
        'cosine': lambda: optax.cosine_decay_schedule(peak, rest, config.final_share),
        'linear': lambda: optax.linear_schedule(peak, end, rest),
    }[config.schedule]()
    schedule = course
    if warmup:
        rise = optax.linear_schedule(0.0, peak, warmup)
        schedule = optax.join_schedules([rise, course], [warmup])

    decay = {'weight_decay': config.weight_decay, 'mask': _decayed}
    rule = {
        'adam': lambda: optax.adam(schedule, config.b1, config.b2, config.eps),
        'adamw': lambda: optax.adamw(schedule, config.b1, config.b2, config.eps, **decay),
        'lion': lambda: optax.lion(schedule, config.b1, config.b2, **decay),
        # Not optax.sgd: what decays must not enter the momentum.
        'sgd': lambda: optax.chain(
            optax.trace(config.b1) if config.b1 else optax.identity(),
            optax.add_decayed_weights(**decay),
            optax.scale_by_learning_rate(schedule),
        ),
    }[config.name]()
    if config.clip_norm is not None:
        rule = optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)
    return Optimizer(
        transformation=rule,
        learning_rate=lambda step: jnp.asarray(schedule(step)),
        ema_decay=config.ema_decay,
    )


def _decayed(params: Any) -> Any:
    """Which parameters decay: those that layers multiply their inputs by, which Flax calls kernels.

    Not all that has two axes: the rows of tables are vectors of their own, each in use now and then, and
    would shrink in between.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', params)

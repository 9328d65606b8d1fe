"""The state of a training run: one pytree, changed only by steps."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from vq_jax.models.normalisation import BATCH_STATS
from vq_jax.ops.parts import Part, mean_over_parts
from vq_jax.spec import ConditionSpec, Spec
from vq_jax.training.optimizer import Optimizer


@struct.dataclass
class TrainState:
    """Everything that a step reads and writes.

    Attributes:
        step: steps done, int32 scalar.
        key: the run's random key; step s uses `step_key`.
        params: what the optimizer learns.
        variables: the model's other collections, such as codebooks learned by moving average.
        opt_state: the optimizer's own.
        ema_params: the moving average of the parameters, or None if the optimizer keeps none.
        ema_stats: that of the statistics of batch normalisation, which belong to the parameters they were
            seen with.
        frozen: what steps read and never change: weights from elsewhere. Not part of checkpoints.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    variables: Any
    opt_state: Any
    ema_params: Any
    ema_stats: Any = None
    frozen: Any = None

    @classmethod
    def create(cls, key: jax.Array, variables: Any, optimizer: Optimizer) -> 'TrainState':
        """The state before the first step, from what the model's `init` returned."""
        variables = dict(variables)
        params = variables.pop('params')
        stats = {k: v for k, v in variables.items() if k == BATCH_STATS}

        def averaged(tree: Any) -> Any:
            # A copy: a step that donates its state may not be given one buffer twice.
            return jax.tree.map(jnp.copy, tree) if optimizer.ema_decay else None

        return cls(
            step=jnp.zeros((), jnp.int32),
            key=key,
            params=params,
            variables=variables,
            opt_state=optimizer.transformation.init(params),
            ema_params=averaged(params),
            ema_stats=averaged(stats),
        )

    def step_key(self) -> jax.Array:
        """The key of this step: the same on all devices, and after a resume."""
        return jax.random.fold_in(self.key, self.step)

    def descend(
        self,
        loss_fn: Callable[[Any, Any, Part], tuple[jax.Array, dict[str, jax.Array]]],
        batch: Any,
        optimizer: Optimizer,
        accumulate: int,
        axis_name: str | None,
    ) -> tuple['TrainState', dict[str, jax.Array]]:
        """A whole step, where nothing is learned but the parameters.

        Args:
            loss_fn: parameters and a part of the batch to the loss, the mean over the part's examples, and
                metrics for the log, which are such means too.
            batch: arrays of this device's examples [b ...].
            optimizer: the one the state was created with.
            accumulate: in how many parts the loss and its gradient are computed, one after another.
            axis_name: the device axis, or None where the batch is the whole.

        Returns:
            The new state, and the metrics for the log.
        """
        gradient = functools.partial(jax.grad(loss_fn, has_aux=True), self.params)
        grads, metrics = mean_over_parts(gradient, batch, accumulate, axis_name)
        state, update = self.apply_gradients(grads, optimizer)
        return state.finish_step(optimizer), {**metrics, **update}

    def apply_gradients(self, grads: Any, optimizer: Optimizer) -> tuple['TrainState', dict[str, jax.Array]]:
        """One update of the parameters, but not yet of their moving average and of the step count.

        Args:
            grads: gradients, already averaged over devices.
            optimizer: the one the state was created with.

        Returns:
            The new state, and the global norm of the gradients and the learning rate for the log.
        """
        updates, opt_state = optimizer.transformation.update(grads, self.opt_state, self.params)
        metrics = {
            'gradient_norm': optax.tree.norm(grads),
            'learning_rate': optimizer.learning_rate(self.step),
        }
        params = optax.apply_updates(self.params, updates)
        return self.replace(params=params, opt_state=opt_state), metrics

    def finish_step(self, optimizer: Optimizer) -> 'TrainState':
        """Counts the step, and takes the new parameters into their moving average."""
        averages = self.ema_params, self.ema_stats
        if optimizer.ema_decay:
            # The average of the first steps is over few: its decay grows to the one asked for.
            decay = jnp.minimum(optimizer.ema_decay, (1 + self.step) / (10 + self.step))
            now = self.params, {k: self.variables[k] for k in self.ema_stats}
            averages = optax.incremental_update(now, averages, 1 - decay)
        return self.replace(step=self.step + 1, ema_params=averages[0], ema_stats=averages[1])

    def eval_variables(self) -> dict[str, Any]:
        """The model's variables for evaluation: with the averaged parameters if there are any."""
        if self.ema_params is None:
            return {'params': self.params, **self.variables}
        return {'params': self.ema_params, **self.variables, **self.ema_stats}

    @property
    def networks(self) -> dict[str, 'TrainState']:
        """The state of each network that learns, by name: of the one that there is, which may generate."""
        return {'generator': self}

    def with_networks(self, generator: 'TrainState') -> 'TrainState':
        """The state with new ones of `networks`."""
        return generator

    def for_inference(self) -> 'TrainState':
        """A state with nothing in it but what `eval_variables` returns."""
        variables = self.eval_variables()
        params = variables.pop('params')
        return TrainState(
            step=None, key=None, params=params, variables=variables, opt_state=None, ema_params=None
        )


@struct.dataclass
class AdversarialState:
    """The state of a generator and its discriminator; the run's step is the generator's.

    Attributes:
        generator: what evaluation and sampling use.
        discriminator: its own step counts its updates, which may begin later.
        frozen: as in `TrainState`; that of the two networks is None.
    """

    generator: TrainState
    discriminator: TrainState
    frozen: Any = None

    @property
    def step(self) -> jax.Array:
        """Steps done, int32 scalar."""
        return self.generator.step

    def eval_variables(self) -> dict[str, Any]:
        """The generator's variables for evaluation."""
        return self.generator.eval_variables()

    @property
    def networks(self) -> dict[str, TrainState]:
        """The state of each network that learns, by name."""
        return {'generator': self.generator, 'discriminator': self.discriminator}

    def with_networks(self, **networks: TrainState) -> 'AdversarialState':
        """The state with new ones of `networks`."""
        return self.replace(**networks)

    def for_inference(self) -> TrainState:
        """A state with nothing in it but what `eval_variables` returns."""
        return self.generator.for_inference()


def count_parameters(params: Any) -> int:
    """How many numbers a tree of arrays, or of their shapes, holds."""
    return sum(x.size for x in jax.tree.leaves(params))


def init_state(
    init: Callable[[jax.Array, Any], Any], key: jax.Array, spec: Spec, shardings: Any = None
) -> Any:
    """A task's state before the first step.

    Args:
        init: the task's own `init(key, batch)`.
        key: a random key.
        spec: of the examples.
        shardings: where each array of the state is to lie; None puts all on the default device.
    """
    batch = abstract_batch(1, spec)
    # Nearly all the time of an initialisation goes into compiling the random number generator for
    # every shape of a parameter; unoptimised code is compiled six times as fast and run once.
    options = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
    compiled = jax.jit(init, compiler_options=options, out_shardings=shardings)
    return compiled(key, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), batch))


def abstract_examples(b: int, spec: Spec) -> jax.ShapeDtypeStruct:
    """The shape [b ...] and type of b examples."""
    return jax.ShapeDtypeStruct((b, *spec.shape), spec.dtype)


def abstract_batch(
    b: int, spec: Spec, conditions: Mapping[str, ConditionSpec] = MappingProxyType({})
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and types of a batch of b examples, with conditions by name if a step reads them."""
    return {
        **{name: jax.ShapeDtypeStruct((b, *one.shape), one.dtype) for name, one in conditions.items()},
        'x': abstract_examples(b, spec),
        'label': jax.ShapeDtypeStruct((b,), jnp.int32),
        'mask': jax.ShapeDtypeStruct((b,), jnp.bool_),
    }

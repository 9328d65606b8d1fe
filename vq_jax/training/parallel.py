"""Two ways to run one step on many devices: `pmap`, and `jit` over a named mesh.

Both take the step as a task writes it, `step(state, batch, axis_name)`, and host batches; both keep the
state as an ordinary, unstacked pytree. `pmap` gives each device its part of the batch and the name of
the axis to reduce over, and is for models of which one device can hold the whole state. `jit` shows the step
the global batch and lets the compiler place the work; there, the state can be split over the devices too.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vq_jax.errors import UserError, check_least
from vq_jax.ops.sharding import AXES, DATA, FSDP
from vq_jax.spec import Spec
from vq_jax.training.state import abstract_batch, init_state

_LEAST_SPLIT = 2**16  # numbers: to gather fewer saves no memory worth the wait
_TPU_OPTIONS = {
    # Where a device has fewer than eight examples, this pass would move parts of the grid into the batch
    # before each convolution: matrix units are used better, but arrays are copied so often that a residual
    # block moves more than three times as many bytes.
    'xla_disable_hlo_passes': 'space-to-batch-converter',
}
_CPU_OPTIONS = {
    # YNNPACK, to which jaxlib 0.10.2 hands convolutions, is slower at kernel gradients. A later XLA may not
    # know the option, and then needs none.
    'xla_cpu_experimental_ynn_fusion_type': '',
    # Without this pass, `vq_jax.ops.barrier.cpu_barrier` holds until loops are fused, and what it returns
    # is computed once. With it, gradients are computed again wherever they are read, transposed too.
    'xla_disable_hlo_passes': 'cse_barrier_expander',
}

Batch = dict[str, Any]
Step = Callable[..., tuple[Any, dict[str, jax.Array]]]
TrainStep = Callable[[Any, Batch], tuple[Any, dict[str, jax.Array]]]
EvalStep = Callable[[Any, Batch], tuple[dict[str, jax.Array], dict[str, np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How a step runs on several devices.

    Attributes:
        engine: `pmap`, or `jit` over a mesh.
        shard_parameters: split parameters, optimizer state and moving averages over the devices (with `jit`
            only): less memory on each, more traffic between them.
        replicas: how many copies of what is split there are, each on an equal share of the devices (with
            `shard_parameters` only). One takes the least memory; one for each machine keeps parameters from
            travelling between machines.
    """

    engine: Literal['pmap', 'jit'] = 'pmap'
    shard_parameters: bool = False
    replicas: int = 1

    def __post_init__(self) -> None:
        check_least(1, self, 'replicas')


class Engine(abc.ABC):
    """A way to run on several devices. All batches are this process's part.

    Attributes:
        axis_name: the device axis, of which a step sees one device; None where it sees all.
    """

    axis_name: str | None = None
    _split: NamedSharding

    @abc.abstractmethod
    def shardings(self, state: Any) -> Any:
        """Where each array of a state lies; arrays may be given by their shapes and types."""

    def init_state(self, init: Callable[[jax.Array, Any], Any], key: jax.Array, spec: Spec) -> Any:
        """A task's state before the first step, of which each device computes what it keeps.

        Arguments are those of `vq_jax.training.state.init_state`.

        Raises:
            UserError: the memory of a device is less than its part of the state.
        """
        # Where the key lies is part of what is traced: so, once for the shapes and the state.
        key = self.put_state(key)
        shapes = jax.eval_shape(init, key, abstract_batch(1, spec))
        shardings = self.shardings(shapes)
        self._check_memory(sum(map(shard_bytes, jax.tree.leaves(shapes), jax.tree.leaves(shardings))))
        return init_state(init, key, spec, shardings)

    def _check_memory(self, needed: int) -> None:
        """Says when a device cannot hold its part of the state, or hardly, and what to do."""
        memory = device_memory()
        if memory is None or needed <= memory / 2:
            return
        gib = f'{needed / 2**30:.1f} of the {memory / 2**30:.1f} GiB of each device'
        if needed > memory:
            raise UserError(f'parameters, optimizer state and moving averages need {gib}; {self._for_more}.')
        logging.warning(
            'Parameters, optimizer state and moving averages take %s, before gradients and activations; if '
            'memory does not suffice, %s.',
            gib,
            self._for_more,
        )

    @property
    @abc.abstractmethod
    def _for_more(self) -> str:
        """What to do for a state that is too large."""

    @abc.abstractmethod
    def put_state(self, state: Any) -> Any:
        """Puts a state, equal in all processes, on the devices as the steps expect it."""

    @abc.abstractmethod
    def put_batch(self, batch: Batch) -> Batch:
        """Starts the transfer of a host batch to the devices."""

    @abc.abstractmethod
    def train_step(self, step: Step) -> TrainStep:
        """Compiles a training step; it takes a batch from `put_batch`, and its state is donated."""

    def eval_step(self, step: Callable[[Any, Batch], dict[str, jax.Array]]) -> EvalStep:
        """Compiles a step that returns per-example arrays [b ...]: floats are summed, integers kept.

        Sums are over the examples of all devices whose mask is True, and the number of these is added under
        the name 'examples'; they stay on the devices. Integers, such as codes, are returned for these
        examples, of all processes, as NumPy arrays.
        """

        def reduced(state: Any, batch: Batch) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
            sums, kept = _sums_and_integers(step(state, batch), batch['mask'])
            return jax.lax.psum(sums, self.axis_name) if self.axis_name else sums, kept

        compiled = one_at_a_time(self._compile(reduced, (None, 0)))

        def run(state: Any, batch: Batch) -> tuple[dict[str, jax.Array], dict[str, np.ndarray]]:
            sums, kept = compiled(state, self.put_batch(batch))
            kept = self._fetch(kept)
            mask = kept.pop('mask', None)  # of padding
            return sums, {name: x[mask] for name, x in kept.items()}

        return run

    @abc.abstractmethod
    def lower_train_step(self, step: Step, state: Any, batch: Batch) -> jax.stages.Lowered:
        """Lowers what `train_step` compiles, for devices that need not be there.

        Args:
            step: as for `train_step`.
            state: as `abstract` returns it.
            batch: likewise.
        """

    def abstract(self, state: Any, batch: Any) -> tuple[Any, Any]:
        """The shapes and types of arrays, with where their parts lie on the devices.

        Args:
            state: arrays of a whole state, or their shapes and types.
            batch: those of a whole batch, of all processes [b ...].
        """
        split = functools.partial(_abstract, sharding=self._split)
        return jax.tree.map(_abstract, state, self.shardings(state)), jax.tree.map(split, batch)

    def per_example(self, function: Callable[[Any, Batch], Any]) -> Callable[[Any, Batch], Any]:
        """Compiles a function that returns per-example arrays [b ...].

        It takes a host batch, and returns NumPy arrays for the examples of all processes.
        """
        compiled = self._compile(function, 0)
        return lambda state, batch: self._fetch(compiled(state, self.put_batch(batch)))

    @abc.abstractmethod
    def _compile(self, function: Callable[[Any, Batch], Any], axes: Any) -> Callable[[Any, Batch], Any]:
        """Compiles a function of a state and a batch; `axes` of what it returns is None if devices agree."""

    @abc.abstractmethod
    def _fetch(self, outputs: Any) -> Any:
        """Per-example arrays of a compiled function as NumPy arrays [b ...], of all processes."""


def make_engine(
    config: ParallelConfig, batch_size: int, devices: Sequence[jax.Device] | None = None
) -> Engine:
    """The engine named in the config.

    Args:
        config: see there.
        batch_size: over all devices.
        devices: to lower steps for, which need not be there; None takes all that there are, to run on.

    Raises:
        UserError: all devices cannot share a batch evenly, or keys contradict each other.
    """
    n = jax.device_count() if devices is None else len(devices)
    if batch_size % n:
        raise UserError(
            f'config.batch_size is {batch_size}, which {n} devices cannot share evenly; '
            f'use {batch_size // n * n or n} or another multiple of {n}.'
        )
    if config.engine == 'pmap' and config.shard_parameters:
        raise UserError(
            'config.parallel.shard_parameters needs config.parallel.engine=jit; pmap keeps a whole '
            'copy of the parameters on each device.'
        )
    if config.replicas > 1 and not config.shard_parameters:
        raise UserError(
            f'config.parallel.replicas is {config.replicas}, which means nothing without '
            'config.parallel.shard_parameters=true: each device has a whole copy of the parameters.'
        )
    if n % config.replicas:
        raise UserError(
            f'config.parallel.replicas is {config.replicas}, which does not divide {n} devices; use a number '
            'that does.'
        )
    # On one device both do the same, and `jit` can be told how to compile.
    if config.engine == 'jit' or n == 1:
        return JitEngine(config.replicas if config.shard_parameters else n, devices)
    return PmapEngine(devices)


class PmapEngine(Engine):
    """Data parallelism by `pmap`: each device has the whole state and a part of the batch."""

    axis_name = DATA
    _for_more = (
        'set config.parallel.engine=jit and config.parallel.shard_parameters=true, which split it over all '
        'devices'
    )

    def __init__(self, devices: Sequence[jax.Device] | None = None) -> None:
        self._mesh = Mesh(np.array(jax.local_devices() if devices is None else devices), (DATA,))
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._split = NamedSharding(self._mesh, PartitionSpec(DATA))

    def shardings(self, state: Any) -> Any:
        """Each device has all."""
        return jax.tree.map(lambda _: self._replicated, state)

    def put_state(self, state: Any) -> Any:
        """Copies the state to each of this process's devices."""
        return jax.device_put(state, self._replicated)

    def put_batch(self, batch: Batch) -> Batch:
        """Splits the batch over this process's devices: [b ...] becomes [devices b/devices ...]."""
        n = self._mesh.size
        split = jax.tree.map(lambda x: x.reshape(n, x.shape[0] // n, *x.shape[1:]), batch)
        return jax.device_put(split, self._split)

    def train_step(self, step: Step) -> TrainStep:
        """See `Engine.train_step`."""
        compiled = jax.pmap(
            functools.partial(step, axis_name=DATA),
            axis_name=DATA,
            in_axes=(None, 0),
            out_axes=(None, None),
            # With several processes, an unstacked state cannot be donated: its second step would
            # find the arrays deleted.
            donate_argnums=(0,) if jax.process_count() == 1 else (),
        )
        return one_at_a_time(compiled)

    def lower_train_step(self, step: Step, state: Any, batch: Batch) -> jax.stages.Lowered:
        """What JAX makes of `pmap`, which itself takes only devices that are there."""
        processes = {device.process_index for device in self._mesh.devices.flat}
        mapped = jax.shard_map(
            functools.partial(step, axis_name=DATA),
            mesh=self._mesh,
            in_specs=(PartitionSpec(), PartitionSpec(DATA)),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=(0,) if len(processes) == 1 else ()).lower(state, batch)

    def _compile(self, function: Callable[[Any, Batch], Any], axes: Any) -> Callable[[Any, Batch], Any]:
        return jax.pmap(function, axis_name=DATA, in_axes=(None, 0), out_axes=axes)

    def _fetch(self, outputs: Any) -> Any:
        outputs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), jax.device_get(outputs))
        if jax.process_count() == 1 or not jax.tree.leaves(outputs):
            return outputs
        return multihost_utils.process_allgather(outputs, tiled=True)


class JitEngine(Engine):
    """`jit` over a mesh: the step sees the global batch and no collectives.

    The mesh has two axes, 'data' and 'fsdp'. Batches are split over both; states over 'fsdp' (fully sharded
    data parallelism: Rajbhandari et al. 2020, arXiv:1910.02054, ZeRO stage 3), once for each place on 'data'.

    Args:
        replicas: how many whole copies of a state there are, places on 'data'; None means one on each device.
        devices: of the mesh, which need not be there; None takes all that there are.
    """

    def __init__(self, replicas: int | None = None, devices: Sequence[jax.Device] | None = None) -> None:
        devices = jax.devices() if devices is None else devices
        replicas = replicas or len(devices)
        shape, kinds = (replicas, len(devices) // replicas), (AxisType.Auto,) * len(AXES)
        self._mesh = jax.make_mesh(shape, AXES, axis_types=kinds, devices=devices)
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._split = NamedSharding(self._mesh, PartitionSpec(AXES))

    @property
    def _for_more(self) -> str:
        if self._mesh.size == 1:
            return 'use more devices, config.parallel.engine=jit and config.parallel.shard_parameters=true'
        if self._mesh.shape[FSDP] == 1:
            return 'set config.parallel.shard_parameters=true, which splits it over all devices'
        return 'use more devices, or fewer config.parallel.replicas'

    def shardings(self, state: Any) -> Any:
        """Splits the longest axis of each array that 'fsdp' divides; small arrays stay whole."""
        return jax.tree.map(self._sharding, state)

    def put_state(self, state: Any) -> Any:
        """Puts the state on all devices, split if parameters are to be sharded."""
        return jax.tree.map(_spread, state, self.shardings(state))

    def put_batch(self, batch: Batch) -> Batch:
        """Makes the global batch, split over the devices, of every process's part."""
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self._split, np.asarray(x)), batch
        )

    def train_step(self, step: Step) -> TrainStep:
        """See `Engine.train_step`."""
        return one_at_a_time(self._jitted(step))

    def lower_train_step(self, step: Step, state: Any, batch: Batch) -> jax.stages.Lowered:
        """See `Engine.lower_train_step`."""
        return self._jitted(step).lower(state, batch)

    def _jitted(self, step: Step) -> jax.stages.Wrapped:
        def constrained(state: Any, batch: Batch) -> tuple[Any, dict[str, jax.Array]]:
            state, metrics = step(state, batch, axis_name=None)
            # The layout that goes in comes out, so that the second step does not compile again.
            state = jax.lax.with_sharding_constraint(state, self.shardings(state))
            return state, jax.lax.with_sharding_constraint(metrics, self._replicated)

        options = _compiler_options(self._mesh.devices.flat[0].platform)
        return jax.jit(self._in_mesh(constrained), donate_argnums=0, compiler_options=options)

    def _compile(self, function: Callable[[Any, Batch], Any], axes: Any) -> Callable[[Any, Batch], Any]:
        return jax.jit(self._in_mesh(function), out_shardings=self._replicated)

    def _in_mesh(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, traced where `vq_jax.ops.sharding.split_batch` finds the mesh."""

        @functools.wraps(function)
        def traced(*args: Any) -> Any:
            with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):
                return function(*args)

        return traced

    def _fetch(self, outputs: Any) -> Any:
        return jax.device_get(outputs)

    def _sharding(self, x: Any) -> NamedSharding:
        places = self._mesh.shape[FSDP]
        axes = [i for i, n in enumerate(x.shape) if n % places == 0]
        if places == 1 or x.size < _LEAST_SPLIT or not axes:
            return self._replicated
        longest = max(axes, key=lambda i: x.shape[i])
        return NamedSharding(self._mesh, PartitionSpec(*[None] * longest, FSDP))


def this_process() -> dict[str, int]:
    """What the functions that make batches ask of this process, for its share of them."""
    return {'process_index': jax.process_index(), 'process_count': jax.process_count()}


def device_memory() -> int | None:
    """Bytes of memory of a device of this process; None where it does not tell, as CPUs do not."""
    return (jax.local_devices()[0].memory_stats() or {}).get('bytes_limit')


def ahead(batches: Iterator[Batch], engine: Engine) -> Iterator[Batch]:
    """Keeps two batches on the devices, or on their way there, ahead of the one in use."""
    queue: list[Batch] = []
    for batch in batches:
        queue.append(engine.put_batch(batch))
        if len(queue) > 2:
            yield queue.pop(0)
    yield from queue


def _abstract(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)


def shard_bytes(x: Any, sharding: NamedSharding) -> int:
    """Bytes of an array on each device."""
    return math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize


def _spread(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    """Puts an array, which each process has whole, on the devices of all."""
    if jax.process_count() == 1:
        return jax.device_put(x, sharding)
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return x  # it is there already
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        words = _spread(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(x))
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _sums_and_integers(
    values: dict[str, jax.Array], mask: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Sums of floats over the examples whose mask is True, and integers with the mask, if there are any."""

    def masked_sum(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, 0), axis=0)

    integers = {name: x for name, x in values.items() if jnp.issubdtype(x.dtype, jnp.integer)}
    sums = {name: masked_sum(x) for name, x in values.items() if name not in integers}
    return {**sums, 'examples': jnp.sum(mask)}, {**integers, 'mask': mask} if integers else {}


def _compiler_options(platform: str) -> dict[str, str] | None:
    """What a training step is compiled with."""
    if platform == 'tpu':
        return _TPU_OPTIONS
    return dict(filter(_is_known, _CPU_OPTIONS.items())) if platform == 'cpu' else None


def _is_known(option: tuple[str, str]) -> bool:
    try:
        jax.jit(lambda: 0.0, compiler_options=dict([option])).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        logging.info('XLA compiles without %s=%s: %s', *option, error)
        return False
    return True


def one_at_a_time(step: Callable[..., Any]) -> Callable[..., Any]:
    """On several devices made of one CPU, waits for each step.

    Steps in the queue there take each other's threads, and a collective can wait for ever.
    """
    if jax.default_backend() != 'cpu' or jax.device_count() == 1:
        return step
    return lambda *args: jax.block_until_ready(step(*args))

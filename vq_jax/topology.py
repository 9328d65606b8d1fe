"""Compiles a step for a slice of TPUs that is not there, and says what it takes of each chip.

    step = compile_step(config, Spec('image', (256, 256, 3)), 'v5e:4x4')
    step.fits, step.memory, step.roofline_seconds

The compiler is libtpu, which runs on any machine with Linux on x86-64: `pip install "jax[tpu]"`.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import math
import os
import re
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict

from vq_jax.data.sources.codes import PREFIX
from vq_jax.errors import UserError, first_line
from vq_jax.extensions import allowing, named_modules
from vq_jax.ops.keys import fold_in
from vq_jax.spec import Spec
from vq_jax.tasks import make_task
from vq_jax.tasks.captioner import CaptionerTask
from vq_jax.tasks.diffusion_sampling import DiffusionSampling
from vq_jax.tasks.prior import PriorTask
from vq_jax.tasks.task import Samples, State, Task
from vq_jax.training.config import build
from vq_jax.training.hlo import Collective, collectives, hbm_bytes, loops, repeated_flops
from vq_jax.training.parallel import Engine, ParallelConfig, PmapEngine, make_engine, shard_bytes
from vq_jax.training.state import abstract_batch

What = Literal['train', 'sample']


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of TPU.

    Attributes:
        flops: peak of bfloat16 matrix products, a second.
        bandwidth: of its memory (HBM), bytes a second.
        hbm: bytes of memory.
        usable: bytes of that which programs may use; the rest is the system's.
        shapes: of its slices.
        accelerator: what Google Cloud calls the type of a slice, before its number.
        cores: of a chip, which that number counts.
    """

    flops: float
    bandwidth: float
    hbm: int
    usable: int
    shapes: tuple[str, ...]
    accelerator: str
    cores: int = 1


_PLANES = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8', '8x8x16', '8x16x16')
_GIB = 2**30

# Peaks, memory and shapes: https://docs.cloud.google.com/tpu/docs, on its pages v4, v5e, v5p and v6e. What is
# usable is what libtpu 0.0.42.1 says to programs that are too large.
CHIPS = {
    'v4': Chip(275e12, 1200e9, 32 * _GIB, int(30.75 * _GIB), _CUBES, 'v4', cores=2),
    'v5e': Chip(197e12, 819e9, 16 * _GIB, int(15.75 * _GIB), _PLANES, 'v5litepod'),
    'v5p': Chip(459e12, 2765e9, 95 * _GIB, int(95.74 * _GIB), _CUBES, 'v5p', cores=2),
    'v6e': Chip(918e12, 1638e9, 32 * _GIB, int(31.25 * _GIB), _PLANES, 'v6e'),
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: chips of one kind, and how they are connected.

    Attributes:
        name: such as 'v5e:4x4'.
    """

    name: str

    def __post_init__(self) -> None:
        kind, _, shape = self.name.partition(':')
        if kind not in CHIPS:
            raise UserError(
                f'the topology {self.name} is not known; name a slice of TPUs ({", ".join(CHIPS)}), such '
                'as v5e:4x4: for other devices steps are compiled only where these are.'
            )
        shapes = CHIPS[kind].shapes
        if shape not in shapes:
            raise UserError(
                f'the topology {self.name} is not known; choose {kind}:{shapes[0]} or another slice of '
                f'{kind}: {", ".join(shapes[1:])}.'
            )

    @property
    def chip(self) -> Chip:
        """What it is made of."""
        return CHIPS[self.name.partition(':')[0]]

    @property
    def size(self) -> int:
        """How many chips there are."""
        return math.prod(self._shape)

    @property
    def accelerator_type(self) -> str:
        """What `launch_tpu.sh --type` and Google Cloud call it."""
        return f'{self.chip.accelerator}-{self.size * self.chip.cores}'

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(map(int, self.name.partition(':')[2].split('x')))

    def devices(self) -> list[jax.Device]:
        """The chips as JAX's devices, for which programs can be compiled but not run.

        Raises:
            UserError: the compiler is not installed, or too old for them.
        """
        if importlib.util.find_spec('libtpu') is None:
            raise UserError(
                'compiling for TPUs needs libtpu, which is not installed; run: pip install "jax[tpu]" -c '
                'constraints.txt.'
            )
        # Read when the library is loaded, which otherwise asks the network which slice this machine is of.
        os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
        os.environ.setdefault('TPU_ACCELERATOR_TYPE', self.accelerator_type)
        os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
        # It would keep others from the TPU of this machine, which is not used.
        os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
        options = {}
        if len(self._shape) == 2 and self.size <= 8:  # all of which one machine holds
            options['chips_per_host_bounds'] = (*self._shape, 1)
        if self.name.startswith('v4:'):  # both cores of a chip are one device
            options['chip_config_name'] = 'megacore'
        try:
            return topologies.get_topology_desc(platform='tpu', topology_name=self.name, **options).devices
        except RuntimeError as error:
            version, reason = importlib.metadata.version('libtpu'), first_line(error).rstrip('.')
            raise UserError(
                f'libtpu {version} does not compile for {self.name} ({reason}); install a newer one.'
            ) from error


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What a step takes of each chip of a slice, as the compiler says.

    Attributes:
        topology: the slice.
        arguments: bytes of what the step is given, by what it is, such as 'parameters'.
        memory: bytes that the step needs in all; where it does not fit, at least so many.
        temporaries: bytes of what it computes on the way; None where it does not fit.
        fits: whether the memory of a chip suffices.
        flops: floating-point operations by the compiler's count, and those of the products in a loop's runs
            after the first, which that leaves out (see `vq_jax.training.hlo.repeated_flops`); None, as all
            that follows, where the step does not fit.
        bytes_accessed: bytes that operations read and write, by the compiler's count: those of arrays in a
            chip's vector memory are among them, what an operation uses several times counts as often, and a
            loop counts once.
        hbm_bytes: bytes moved to and from its HBM (see `vq_jax.training.hlo.hbm_bytes`).
        collectives: what the chips send each other, by kind.
        loops: how often each loop runs that runs more than once.
        lower_seconds: processor time to trace and lower.
        compile_seconds: processor time to compile.
    """

    topology: Topology
    arguments: dict[str, int]
    memory: int
    temporaries: int | None
    fits: bool
    flops: float | None
    bytes_accessed: float | None
    hbm_bytes: int | None
    collectives: tuple[Collective, ...] | None
    loops: tuple[int, ...] | None
    lower_seconds: float
    compile_seconds: float

    @property
    def roofline_seconds(self) -> float | None:
        """The least time of a step: all operations at the chip's peak, or all bytes of HBM at its rate."""
        if self.flops is None:
            return None
        chip = self.topology.chip
        return max(self.flops / chip.flops, self.hbm_bytes / chip.bandwidth)

    @property
    def share_of_peak(self) -> float | None:
        """The share of the chip's peak that is reached in that time."""
        if self.flops is None:
            return None
        return self.flops / self.topology.chip.flops / self.roofline_seconds


def compile_step(
    config: ConfigDict, spec: Spec, topology: str, *, what: What = 'train', num_classes: int = 0
) -> CompiledStep:
    """Compiles a step of a config for a slice.

    The training step is that of the engine of the config, with all losses; published weights are arguments
    of it and are not read. A step of sampling is one token with a cache, one evaluation of a masked
    prior for all tokens, one step of a diffusion sampler, or, of what samples at once, a whole sample; of
    `config.batch_size` examples.

    Args:
        config: complete, such as `vq_jax.tasks.default_config` returns.
        spec: of the examples.
        topology: such as 'v5e:4x4'.
        what: which step.
        num_classes: of the data, for a model that depends on it.

    Raises:
        UserError: for what the user can mend: a topology that is not known, a batch that its chips cannot
            share, or a compiler that is not installed.
    """
    slice_ = Topology(topology)
    devices = slice_.devices()
    engine = make_engine(build(ParallelConfig, config.parallel, 'parallel'), config.batch_size, devices)
    with allowing(named_modules(config)):
        task = make_task(config, spec, num_classes)
    if what == 'sample':
        return _compile(slice_, functools.partial(_lower_sampling, engine, task, config.batch_size))
    batch = _batch(config, task, config.batch_size * task.accumulate)
    return _compile(slice_, functools.partial(_lower_training, engine, task, batch))


def _batch(config: ConfigDict, task: Task, b: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes and types of a batch of the data that a config names, which may be written codes."""
    batch = abstract_batch(b, task.spec, task.condition_specs)
    if isinstance(task, PriorTask | CaptionerTask) and config.data.name.startswith(PREFIX):
        del batch['x']
        batch['codes'] = jax.ShapeDtypeStruct((b, task.codec.written_spec.length), jnp.int32)
    return batch


def _compile(
    topology: Topology, lower: Callable[[], tuple[jax.stages.Lowered, dict[str, Any]]]
) -> CompiledStep:
    """Compiles what a function lowers; it also returns the arguments, by what they are."""
    start = time.process_time()
    lowered, arguments = lower()
    lower_seconds = time.process_time() - start
    start = time.process_time()
    sizes = {
        name: sum(shard_bytes(x, x.sharding) for x in jax.tree.leaves(tree))
        for name, tree in arguments.items()
    }
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        compiled, needed = None, _needed(error, sum(sizes.values()))
    step = functools.partial(
        CompiledStep,
        topology=topology,
        arguments={name: size for name, size in sizes.items() if size},
        lower_seconds=lower_seconds,
        compile_seconds=time.process_time() - start,
    )
    if compiled is None:
        names = 'temporaries', 'flops', 'bytes_accessed', 'hbm_bytes', 'collectives', 'loops'
        unknown = dict.fromkeys(names)
        return step(memory=max(needed, topology.chip.usable + 1), fits=False, **unknown)
    memory, cost, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    # What the step does not read, such as the tokenizer of written codes, is in the memory all the same.
    given = max(memory.argument_size_in_bytes, sum(sizes.values()))
    used = given + results + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    return step(
        memory=used,
        temporaries=memory.temp_size_in_bytes,
        fits=used <= topology.chip.usable,
        flops=cost['flops'] + repeated_flops(text),
        bytes_accessed=cost['bytes accessed'],
        hbm_bytes=hbm_bytes(text),
        collectives=collectives(text),
        loops=loops(text),
    )


def _needed(error: jax.errors.JaxRuntimeError, arguments: int) -> int:
    """The bytes that a program needs of a chip with too few, as the compiler says; raises any other error.

    It says so of all together, or of what is beside the arguments, of which there are so many bytes.
    """
    units = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
    of_all = re.search(r'Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm', str(error))
    of_some = re.search(r'temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM', str(error))
    if not (of_all or of_some):
        raise error
    number, unit = (of_all or of_some).groups()
    return int(float(number) * units[unit]) + (0 if of_all else arguments)


def _lower_training(engine: Engine, task: Task, batch: Any) -> tuple[jax.stages.Lowered, dict[str, Any]]:
    state = jax.eval_shape(task.init, jax.random.key(0), batch).replace(frozen=task.pretrained_shapes())
    state, batch = engine.abstract(state, batch)
    return engine.lower_train_step(task.train_step, state, batch), {**_parts(state), 'batch': batch}


def _lower_sampling(engine: Engine, task: Task, batch_size: int) -> tuple[jax.stages.Lowered, dict[str, Any]]:
    state = jax.eval_shape(task.init, jax.random.key(0), abstract_batch(1, task.spec)).for_inference()
    batch = abstract_batch(batch_size, task.spec, task.condition_specs)
    batch['number'] = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    step, carried = _sampling_step(task, state, batch)
    given = {'state': state, 'i': jax.ShapeDtypeStruct((), jnp.int32)}
    given, (carried, batch) = engine.abstract(given, (carried, batch))
    mesh, split = given['i'].sharding.mesh, batch['label'].sharding.spec
    if isinstance(engine, PmapEngine):
        specs = PartitionSpec(), split, split
        step = jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        lowered = jax.jit(step, donate_argnums=1).lower(given, carried, batch)
    return lowered, {**_parts(given['state']), 'cache': carried}


def _parts(state: State) -> dict[str, Any]:
    """A state by what it is for."""
    networks = state.networks.values()
    return {
        'parameters': [network.params for network in networks],
        'optimizer': [network.opt_state for network in networks],
        'moving average': [(network.ema_params, network.ema_stats) for network in networks],
        'other variables': [network.variables for network in networks],
        'frozen weights': state.frozen,
    }


def _sampling_step(task: Task, state: State, batch: Any) -> tuple[Callable[..., Any], Any]:
    """A step, and the shapes and types of what the step before it hands on to it.

    The step is a function of {'state', 'i': the number of the step}, of what is handed on, and of a batch; it
    returns what it hands on itself.
    """
    if isinstance(task, PriorTask):
        return _prior_step(task, state, batch)
    if isinstance(task, DiffusionSampling):
        sampling = dataclasses.replace(task.sampling, steps=1)

        def denoise(given: Any, carried: Any, batch: Any) -> Any:
            variables = given['state'].eval_variables()
            context = task.context(variables, batch['label'], task.conditions_of(batch), batch['x'])
            return task.visit(given['state'], _keys(batch), context, sampling)[0]

        return denoise, ()
    if isinstance(task, Samples):
        return lambda given, carried, batch: task.sample(given['state'], _keys(batch), batch['label']), ()
    raise UserError('this task samples nothing; leave --what=sample out.')


def _prior_step(task: PriorTask, state: State, batch: Any) -> tuple[Callable[..., Any], Any]:
    """One step, of one token or more, or of a masked prior one guess of all."""
    network, sampling, b = task.network, task.sampling, len(batch['label'])
    shapes = task.codec.code_spec.shapes
    coarser = jax.ShapeDtypeStruct((b, *shapes[task.scale - 1]), jnp.int32) if task.scale else None

    def context(state: State, batch: Any, coarser: Any) -> tuple[Any, Any]:
        variables = state.eval_variables()
        return variables, network.context(variables, batch['label'], coarser, task.conditions_of(batch))

    if network.masked:
        once = dataclasses.replace(sampling, steps=1)

        def guess(given: Any, coarser: Any, batch: Any) -> Any:
            variables, seen = context(given['state'], batch, coarser)
            return network.sample(variables, _keys(batch), seen, once)

        return guess, coarser

    def start(state: State, batch: Any, coarser: Any) -> Any:
        variables, seen = context(state, batch, coarser)
        *_, cache = network.causal_step(variables, b, seen, sampling)
        grow = network.model.grow
        return grow(cache, network.num_steps) if grow else cache

    def none_known(n: int) -> jax.Array:
        return network.to_steps(jnp.full((n, math.prod(network.shape)), -1))

    # Of an empty context the cache holds numbers too, which have no part for each device.
    cache, structure = jax.tree.flatten(jax.eval_shape(start, state, batch, coarser))
    split = [x.ndim > 0 for x in cache]

    def advance(given: Any, carried: Any, batch: Any) -> Any:
        parts = iter(carried['cache'])
        leaves = [
            next(parts) if here else jnp.zeros(x.shape, x.dtype) for x, here in zip(cache, split, strict=True)
        ]
        # What is made of the context is in the cache: nothing of it is computed here.
        n = len(batch['label'])
        codes = None if coarser is None else jnp.zeros((n, *coarser.shape[1:]), coarser.dtype)
        variables, seen = context(given['state'], batch, codes)
        step, choose, _ = network.causal_step(variables, n, seen, sampling)
        predicted, grown = step(carried['before'], given['i'], jax.tree.unflatten(structure, leaves))
        known = jax.lax.dynamic_index_in_dim(none_known(n), given['i'], axis=1, keepdims=False)
        tokens = choose(fold_in(_keys(batch), given['i']), predicted, known)
        kept = [x for x, here in zip(jax.tree.leaves(grown), split, strict=True) if here]
        return {'before': tokens, 'cache': kept}

    before = jax.eval_shape(lambda: none_known(b)[:, 0])
    return advance, {'before': before, 'cache': [x for x, here in zip(cache, split, strict=True) if here]}


def _keys(batch: Any) -> jax.Array:
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(batch['number'])

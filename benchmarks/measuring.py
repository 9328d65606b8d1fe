"""What benchmarks measure a training step with: ours, and that of a peer in PyTorch.

Images, or clips of video, are random bytes and already on the device.
"""

import dataclasses
import importlib
import importlib.util
import math
import os
import re
import statistics
import time

import jax
import numpy as np
from rows import LeftOutError

from vq_jax.spec import Spec
from vq_jax.tasks import make_task
from vq_jax.training.config import build
from vq_jax.training.flops import count_flops
from vq_jax.training.parallel import ParallelConfig, make_engine
from vq_jax.training.run_dir import flatten
from vq_jax.training.state import abstract_batch, init_state

_HOPPER = {'bfloat16': 989, 'tfloat32': 494, 'float32': 67}
_AMPERE = {'bfloat16': 312, 'tfloat32': 156, 'float32': 19.5}

# Dense peak in TFLOP/s by what JAX calls the device and what is multiplied, from the makers' data sheets.
PEAK_TFLOPS = {
    'NVIDIA H100 80GB HBM3': _HOPPER,
    'NVIDIA H200': _HOPPER,
    'NVIDIA H100 PCIe': {'bfloat16': 756, 'tfloat32': 378, 'float32': 51},
    'NVIDIA A100-SXM4-40GB': _AMPERE,
    'NVIDIA A100-SXM4-80GB': _AMPERE,
    'NVIDIA A100-PCIE-40GB': _AMPERE,
    'NVIDIA A100 80GB PCIe': _AMPERE,
    'TPU v4': {'bfloat16': 275},
}

# The peers of models of a task: module, what must be installed for it, and what it has of what a config can
# ask for.
_IMAGES = {'data.frames': (None,)}
_QUANTIZER = {
    'quantizer.kind': ('vq',),
    'quantizer.learning': ('moving_average',),
    'quantizer.cosine': (False,),
    'optimizer.ema_decay': (0.0,),
}
_DIFFUSION = {
    **_IMAGES,
    'model.upscale': (1,),
    'model.learned_variance': (False,),
    'latent.workdir': ('',),
}
_PEERS = {
    'vqvae': [
        ('torch_vqvae', 'torch', {**_QUANTIZER, 'model.top_stages': (0,), 'model.strides': ((2,),)}),
    ],
    'vqgan': [
        (
            'torch_vqgan',
            'torch',
            {
                **_IMAGES,
                **_QUANTIZER,
                'variant.backbone': ('residual',),
                'variant.bottleneck': ('quantizer',),
                'variant.class_conditional': (False,),
                'variant.source': ('image',),
                'perceptual.kind': ('random_vgg', 'lpips', 'none'),
                'adversarial.adaptive': (True,),
                'adversarial.start': (0,),
                'adversarial.loss': ('hinge',),
                'adversarial.r1': (0.0,),
                'adversarial.gradient_penalty': (0.0,),
                'adversarial.lecam': (0.0,),
                'discriminator.norm': ('batch',),
                'discriminator.spectral_norm': (False,),
                'discriminator.strides': ((2,),),
                'model.strides': ((2,),),
            },
        )
    ],
    'diffusion': [
        ('torch_unet', 'diffusers', {**_DIFFUSION, 'model.backbone': ('unet',)}),
        ('torch_dit', 'torch', {**_DIFFUSION, 'model.backbone': ('dit',), 'dit.dropout': (0.0,)}),
    ],
    'prior': [
        (
            'torch_transformer',
            'torch',
            {
                **_IMAGES,
                'model.kind': ('transformer',),
                'model.class_conditional': (False,),
                'tokenizer.workdir': ('',),
                'transformer.positions': ('learned',),
                'transformer.dropout': (0.0,),
                'optimizer.name': ('adam',),
                'optimizer.ema_decay': (0.0,),
            },
        )
    ],
}


class NoPeerError(LeftOutError):
    """Why something is measured alone."""


class Ours:
    """The project's own step, compiled by its engine.

    Attributes:
        flops: floating-point operations of a step, as XLA counts them before it optimizes.
        compile_seconds: until the end of the first step.
        temporary_mib: what the compiler planned beside the state and the batch, on one device; else None.
        memory_mib: the same with the state and the batch.
        waits: see `host_waits`; None on several devices.
    """

    def __init__(self, config, images):
        spec = Spec('image' if images.ndim == 4 else 'video', images.shape[1:])
        self.task = task = make_task(config, spec, num_classes=10)
        engine = make_engine(build(ParallelConfig, config.parallel, 'parallel'), len(images))
        state = init_state(task.init, jax.random.key(0), spec)
        self.state = engine.put_state(state.replace(frozen=task.pretrained()))
        shapes = abstract_batch(len(images), spec)
        rest = {k: np.ones(v.shape, v.dtype) for k, v in shapes.items()}
        self.batch = engine.put_batch({**rest, 'x': images})
        # XLA counts what a loop does once.
        whole = dataclasses.replace(task, accumulate=1) if task.accumulate > 1 else task
        self.flops = count_flops(whole.train_step, self.state, shapes)
        self.step = engine.train_step(task.train_step)
        self.temporary_mib = self.memory_mib = self.waits = None
        start = time.perf_counter()
        if jax.device_count() == 1:  # of several, the engine may wrap what it compiles
            self.step = self.step.lower(self.state, self.batch).compile()
            plan = self.step.memory_analysis()
            self.temporary_mib = plan.temp_size_in_bytes // 2**20
            arguments = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
            self.memory_mib = math.ceil((arguments + plan.temp_size_in_bytes) / 2**20)
            self.waits = host_waits(self.step.as_text())
        self.run(1)
        self.compile_seconds = time.perf_counter() - start

    def run(self, steps):
        """Runs so many steps to their end."""
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.batch)
        jax.block_until_ready((self.state, metrics))


def dispatch_seconds(ours, steps):
    """How long the host takes to hand a step to the devices, on average of so many in a row.

    Where this is as long as the step itself, the host waits inside of it.
    """
    jax.block_until_ready(ours.state)
    start = time.perf_counter()
    for _ in range(steps):
        ours.state, _ = ours.step(ours.state, ours.batch)
    seconds = time.perf_counter() - start
    jax.block_until_ready(ours.state)
    return seconds / steps


class Peer:
    """The same step in PyTorch, eager, or with its networks compiled by `torch.compile`.

    On GPUs in the way that is usual there: convolutions in the layout `channels_last`, Adam in one kernel,
    and products of float32 in TF32, as XLA makes them.

    Raises:
        NoPeerError: there is none of this model, or it is not installed.
    """

    def __init__(self, config, images, compiled=False):
        module = _find_peer(config)
        self.torch = torch = import_torch()
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if self.device == 'cpu':
            torch.set_num_threads(cores())
        else:
            torch.set_float32_matmul_precision('high')
        self.module = importlib.import_module(module)

        def prepare(network):
            network = network.to(self.device)
            if self.device == 'cuda':
                last = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
                network = network.to(memory_format=last)
            return torch.compile(network) if compiled else network

        self.step = self.module.make_step(config, images.shape[-1], self.device, dtype_of(config), prepare)
        self.images = torch.from_numpy(images).to(self.device)
        if self.device == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        self.run(1)
        self.memory_mib = torch.cuda.max_memory_allocated() // 2**20 if self.device == 'cuda' else None

    def run(self, steps):
        """Runs so many steps to their end."""
        for _ in range(steps):
            loss = self.step(self.images)
        loss.item()


def import_torch():
    """PyTorch; raises `NoPeerError` where it is not installed, or cannot use the GPU that JAX does."""
    if importlib.util.find_spec('torch') is None:
        raise NoPeerError('torch is not installed')
    torch = importlib.import_module('torch')
    if jax.default_backend() == 'gpu' and not torch.cuda.is_available():
        raise NoPeerError(f'torch {torch.__version__} cannot use the GPU')
    return torch


def _find_peer(config):
    """The name of the module of the peer of a model."""
    peers = _PEERS.get(config.task)
    if not peers:
        raise NoPeerError(f'there is no peer of the task {config.task}')
    asked = flatten(config.to_dict())
    lacking = {}
    for name, package, has in peers:
        lacks = [f'--config.{key}={values[0]}' for key, values in has.items() if asked[key] not in values]
        if not lacks and importlib.util.find_spec(package) is None:
            raise NoPeerError(f'{package}, which {name}.py needs, is not installed')
        if not lacks:
            return name
        lacking[name] = lacks
    name = min(lacking, key=lambda name: len(lacking[name]))
    raise NoPeerError(f'without {name}.py, which would need {" ".join(lacking[name])}')


def alternate(functions, rounds, calls=1):
    """Seconds a call of each function, by name, in alternating blocks of so many calls."""
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls):
                function()
            seconds[name].append((time.perf_counter() - start) / calls)
    return seconds


def ratios(ours, theirs):
    """The median, the least and the greatest of theirs / ours, block by block."""
    pairs = [b / a for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(pairs), min(pairs), max(pairs)


def peak_of(device, dtype):
    """The dense peak of a device in TFLOP/s for products of a type, and the type's name; None if unknown.

    GPUs round the factors of products of float32 to TF32, unless `jax_default_matmul_precision` says more.
    """
    rounded = jax.config.jax_default_matmul_precision in (None, 'default', 'tensorfloat32')
    if dtype == 'float32' and rounded and not device.startswith('TPU'):
        dtype = 'tfloat32'
    peak = PEAK_TFLOPS.get(device, {}).get(dtype)
    return None if peak is None else (peak, dtype)


def flop_rate(flops, seconds, dtype):
    """TFLOP/s of steps of so many seconds, and the share of the peak where that is known."""
    reached = flops / seconds / 1e12
    line = f'{reached:.3f} TFLOP/s'
    if peak := peak_of(jax.devices()[0].device_kind, dtype):
        line += f', {reached / peak[0] / jax.device_count():.3f} of the {peak[1]} peak'
    return line


# Of the text of a compiled program: a loop, a branch, a call back into Python, and what goes to the host.
_MAY_WAIT = re.compile(r' = .*? (while|conditional|infeed|outfeed|send|recv|custom-call)\(')
_PYTHON = re.compile(r'custom_call_target="[^"]*(callback|host)[^"]*"', re.IGNORECASE)
_NAME = re.compile(r'op_name="([^"]*)"')


def host_waits(program):
    """Instructions of a compiled program at which a GPU may wait for the host, and where they come from.

    They are loops whose number of rounds is not known before, and branches: the host waits until it knows the
    condition, and only then starts what comes next. So do callbacks into Python and transfers.

    Args:
        program: the text of the program as XLA optimized it.
    """
    waits = []
    for line in program.splitlines():
        if not (found := _MAY_WAIT.search(line)):
            continue
        kind = found[1]
        if kind == 'while' and 'known_trip_count' in line:
            continue
        if kind == 'custom-call' and not _PYTHON.search(line):
            continue
        if kind in ('send', 'recv') and 'is_host_transfer=true' not in line:
            continue
        name = _NAME.search(line)
        waits.append(f'{kind} of {name[1]}' if name else kind)
    return waits


def dtype_of(config):
    """What the layers of a config compute in."""
    # Of several networks, a VAE or diffusion model names one as backbone, and a prior as kind.
    name = config.model.get('backbone') or config.model.get('kind') or 'model'
    name = {'maskgit': 'transformer'}.get(name, 'generator' if config.task == 'gan' else name)
    return config[name].get('dtype', 'float32')  # connected layers have none


def cores():
    """How many this process may use."""
    return len(os.sched_getaffinity(0))

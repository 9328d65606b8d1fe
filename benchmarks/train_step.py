"""Speed and memory of a training step, beside the same model in PyTorch where that is installed.

    python benchmarks/train_step.py --config configs/image/vqvae_cifar10.py [--batch_size 64] [--profile DIR]

The peers are in `torch_vqvae.py` and `torch_vqgan.py`, written for the purpose, and in `torch_unet.py`, the
U-Net of diffusers; other models have none, and their own figures are printed alone. Blocks of steps of the
two alternate, so that whatever else the machine does hits both; medians over the blocks are printed, and
their ratio. Images are random bytes and already on the device. Compile time is that of a cold start. Peak
memory is that of a process of its own (of the device, on GPUs); temporary memory is what the compiler planned
for a step on one device, beside the state and the batch.
"""

import dataclasses
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from vq_jax import cli
from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks import make_task
from vq_jax.training.config import build
from vq_jax.training.parallel import ParallelConfig, make_engine
from vq_jax.training.run_dir import flatten
from vq_jax.training.state import abstract_batch, init_state

# Dense peak in TFLOP/s by what JAX calls the device, from the makers' data sheets.
PEAK_TFLOPS = {
    ('NVIDIA H100 80GB HBM3', 'bfloat16'): 989,
    ('NVIDIA H100 80GB HBM3', 'float32'): 67,
    ('NVIDIA H200', 'bfloat16'): 989,
    ('NVIDIA H200', 'float32'): 67,
    ('TPU v4', 'bfloat16'): 275,
}

# The module of each task's peer, what must be installed for it, and what it has of what a config can ask for.
_QUANTIZER = {
    'quantizer.kind': ('vq',),
    'quantizer.learning': ('moving_average',),
    'quantizer.cosine': (False,),
    'optimizer.ema_decay': (0.0,),
}
_PEERS = {
    'vqvae': ('torch_vqvae', 'torch', {**_QUANTIZER, 'model.top_stages': (0,), 'model.strides': ((2,),)}),
    'vqgan': (
        'torch_vqgan',
        'torch',
        {
            **_QUANTIZER,
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
    ),
    'diffusion': (
        'torch_unet',
        'diffusers',
        {
            'model.backbone': ('unet',),
            'model.upscale': (1,),
            'model.learned_variance': (False,),
            'latent.workdir': ('',),
        },
    ),
}

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in a folder of configs/.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', None, "Instead of the config's.")
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Alternating blocks of each.')
STEPS = flags.DEFINE_integer('steps', 5, 'Steps in a block.')
PEER = flags.DEFINE_bool('peer', True, 'Measure PyTorch too, if it is installed.')
_MEMORY_OF = flags.DEFINE_enum('memory_of', None, ['vq_jax', 'torch'], 'Only the peak memory of one.')
_PROFILE = flags.DEFINE_string('profile', None, 'A directory for a trace of one block of our steps.')


class Ours:
    """The project's own step, compiled by its engine."""

    def __init__(self, config, images):
        self.task = task = make_task(config, Spec('image', images.shape[1:]), num_classes=10)
        engine = make_engine(build(ParallelConfig, config.parallel, 'parallel'), len(images))
        state = init_state(task.init, jax.random.key(0), Spec('image', images.shape[1:]))
        self.state = engine.put_state(state.replace(frozen=task.pretrained()))
        shapes = abstract_batch(len(images), Spec('image', images.shape[1:]))
        rest = {k: np.ones(v.shape, v.dtype) for k, v in shapes.items()}
        self.batch = engine.put_batch({**rest, 'x': images})
        # XLA counts what a loop does once.
        whole = dataclasses.replace(task, accumulate=1) if task.accumulate > 1 else task
        lowered = jax.jit(whole.train_step).lower(self.state, shapes)
        self.flops = lowered.cost_analysis()['flops']
        self.step, self.temporary_mib = engine.train_step(task.train_step), None
        start = time.perf_counter()
        if jax.device_count() == 1:  # of several, the engine may wrap what it compiles
            self.step = self.step.lower(self.state, self.batch).compile()
            self.temporary_mib = self.step.memory_analysis().temp_size_in_bytes // 2**20
        self.run(1)
        self.compile_seconds = time.perf_counter() - start

    def run(self, steps):
        """Runs so many steps to their end."""
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.batch)
        jax.block_until_ready((self.state, metrics))


class Peer:
    """The same step in PyTorch, eager."""

    def __init__(self, config, images):
        import torch

        self.torch = torch
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        if self.device == 'cpu':
            torch.set_num_threads(cores())
        self.module = importlib.import_module(_PEERS[config.task][0])
        self.step = self.module.make_step(config, images.shape[-1], self.device, dtype_of(config))
        self.images = torch.from_numpy(images).to(self.device)
        self.run(1)

    def run(self, steps):
        """Runs so many steps to their end."""
        for _ in range(steps):
            loss = self.step(self.images)
        loss.item()


def main():
    config = cli.read_config(CONFIG)
    if BATCH_SIZE.value:
        config.batch_size = BATCH_SIZE.value
    size, channels = config.data.image_size, config.data.channels
    for name, value in (('image_size', size), ('channels', channels)):
        if value is None:
            raise UserError(f'the config leaves {name} to the data set; give --config.data.{name}=NUMBER.')
    rng = np.random.default_rng(0)
    b = config.batch_size * config.accumulate
    images = rng.integers(0, 256, (b, size, size, channels), np.uint8)
    if _MEMORY_OF.value:
        {'vq_jax': Ours, 'torch': Peer}[_MEMORY_OF.value](config, images).run(3)
        print(json.dumps({'peak_mib': _peak_mib(_MEMORY_OF.value)}))
        return

    ours = Ours(config, images)
    peer = Peer(config, images) if has_peer(config) else None
    if _PROFILE.value:
        with jax.profiler.trace(_PROFILE.value):
            ours.run(STEPS.value)
    seconds = {'vq_jax': [], 'torch': []}
    for _ in range(ROUNDS.value):
        for name, runner in (('vq_jax', ours), ('torch', peer)):
            if runner is not None:
                start = time.perf_counter()
                runner.run(STEPS.value)
                seconds[name].append((time.perf_counter() - start) / STEPS.value)

    device, dtype = jax.devices()[0].device_kind, dtype_of(config)
    print(f'{device}, {cores()} cores, Python {platform.python_version()}, jax {jax.__version__}')
    print(f'batch {b}, {size}x{size}x{channels}, {dtype}')
    for name, times in seconds.items():
        if times:
            median = statistics.median(times)
            print(
                f'{name:8} {median * 1e3:8.1f} ms a step ({min(times) * 1e3:.1f} to '
                f'{max(times) * 1e3:.1f}) {b / median:9.1f} images/s  '
                f'{flop_rate(ours.flops, median, dtype)}  peak memory {_memory_of(name)} MiB'
            )
    print(f'first step of vq_jax, compilation included: {ours.compile_seconds:.1f} s')
    if ours.temporary_mib is not None:
        print(f'temporary memory of the compiled step of vq_jax: {ours.temporary_mib} MiB')
    if peer is not None:
        ratios = [b / a for a, b in zip(seconds['vq_jax'], seconds['torch'], strict=True)]
        print(
            f'speed of vq_jax / speed of torch {peer.torch.__version__}: '
            f'{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})'
        )


def flop_rate(flops, seconds, dtype):
    """TFLOP/s of steps of so many seconds, and the share of the peak where that is known."""
    reached, device = flops / seconds / 1e12, jax.devices()[0].device_kind
    line = f'{reached:.3f} TFLOP/s'
    if (device, dtype) in PEAK_TFLOPS:
        peak = PEAK_TFLOPS[device, dtype] * jax.device_count()
        line += f', {reached / peak:.3f} of the {dtype} peak'
    return line


def _memory_of(name):
    """Peak memory in MiB of a process that does nothing but a few steps of one of them."""
    command = [sys.executable, *sys.argv, f'--memory_of={name}']
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])['peak_mib']


def _peak_mib(name):
    if jax.default_backend() != 'cpu':
        if name == 'torch':
            import torch

            return torch.cuda.max_memory_allocated() // 2**20
        return jax.devices()[0].memory_stats()['peak_bytes_in_use'] // 2**20
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) // 2**10


def dtype_of(config):
    """What the layers of a config compute in."""
    # Of several networks, a VAE or diffusion model names one as backbone, and a prior as kind.
    name = config.model.get('backbone') or config.model.get('kind') or 'model'
    name = {'maskgit': 'transformer'}.get(name, 'generator' if config.task == 'gan' else name)
    return config[name].get('dtype', 'float32')  # connected layers have none


def has_peer(config):
    """Whether a peer of this model is wanted, installed and does the same; prints what it does not."""
    if not PEER.value or config.task not in _PEERS:
        return False
    name, package, has = _PEERS[config.task]
    if importlib.util.find_spec(package) is None:
        return False
    asked = flatten(config.to_dict())
    lacks = [f'--config.{key}={values[0]}' for key, values in has.items() if asked[key] not in values]
    if lacks:
        print(f'without {name}.py, which would need {" ".join(lacks)}')
    return not lacks


def cores():
    """How many this process may use."""
    import os

    return len(os.sched_getaffinity(0))


if __name__ == '__main__':
    cli.main(main, required=('config',))

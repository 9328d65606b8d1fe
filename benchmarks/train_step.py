"""Speed and memory of a training step, beside the same model in PyTorch where that is installed.

    python benchmarks/train_step.py --config configs/image/vqvae_cifar10.py [--batch_size 64] [--profile DIR]

The peers are in `torch_vqvae.py`, `torch_vqgan.py`, `torch_dit.py` and `torch_transformer.py`, written for
the purpose, and in `torch_unet.py`, the U-Net of diffusers; other models have none, and their own figures are
printed alone. Blocks of steps of the two alternate, so that whatever else the machine does hits both; medians
over the blocks are printed, and their ratio. Images, or clips of video where the config gives
`config.data.frames`, are random bytes and already on the device. Compile time
is that of a cold start. Peak memory is that of a process of its own (of the device, on GPUs); temporary
memory is what the compiler planned for a step on one device, beside the state and the batch.
"""

import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags
from measuring import NoPeerError, Ours, Peer, alternate, cores, dtype_of, flop_rate, ratios
from ml_collections import config_flags

from vq_jax import cli
from vq_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in a folder of configs/.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', None, "Instead of the config's.")
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Alternating blocks of each.')
STEPS = flags.DEFINE_integer('steps', 5, 'Steps in a block.')
PEER = flags.DEFINE_bool('peer', True, 'Measure PyTorch too, if it is installed.')
_MEMORY_OF = flags.DEFINE_enum('memory_of', None, ['vq_jax', 'torch'], 'Only the peak memory of one.')
_PROFILE = flags.DEFINE_string('profile', None, 'A directory for a trace of one block of our steps.')


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
    frames = (config.data.frames,) if config.data.frames else ()
    images = rng.integers(0, 256, (b, *frames, size, size, channels), np.uint8)
    if _MEMORY_OF.value:
        {'vq_jax': Ours, 'torch': Peer}[_MEMORY_OF.value](config, images).run(3)
        print(json.dumps({'peak_mib': _peak_mib(_MEMORY_OF.value)}))
        return

    ours = Ours(config, images)
    peer = peer_of(config, images)
    if _PROFILE.value:
        with jax.profiler.trace(_PROFILE.value):
            ours.run(STEPS.value)
    runners = {'vq_jax': ours} if peer is None else {'vq_jax': ours, 'torch': peer}
    blocks = {name: lambda r=runner: r.run(STEPS.value) for name, runner in runners.items()}
    seconds = {
        name: [block / STEPS.value for block in times]
        for name, times in alternate(blocks, ROUNDS.value).items()
    }

    device, dtype = jax.devices()[0].device_kind, dtype_of(config)
    print(f'{device}, {cores()} cores, Python {platform.python_version()}, jax {jax.__version__}')
    spec = ours.task.spec
    print(f'batch {b}, {"x".join(map(str, spec.shape))}, {dtype}')
    for name, times in seconds.items():
        median = statistics.median(times)
        print(
            f'{name:8} {median * 1e3:8.1f} ms a step ({min(times) * 1e3:.1f} to '
            f'{max(times) * 1e3:.1f}) {b / median:9.1f} {spec.plural}/s  '
            f'{flop_rate(ours.flops, median, dtype)}  peak memory {_memory_of(name)} MiB'
        )
    print(f'first step of vq_jax, compilation included: {ours.compile_seconds:.1f} s')
    if ours.temporary_mib is not None:
        print(f'temporary memory of the compiled step of vq_jax: {ours.temporary_mib} MiB')
    if peer is not None:
        median, least, most = ratios(seconds['vq_jax'], seconds['torch'])
        version = peer.torch.__version__
        print(f'speed of vq_jax / speed of torch {version}: {median:.2f} ({least:.2f} to {most:.2f})')


def peer_of(config, images):
    """The peer of a model if one is wanted; None, with the reason on a line, where there is none."""
    if not PEER.value:
        return None
    try:
        return Peer(config, images)
    except NoPeerError as error:
        print(error)
        return None


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


if __name__ == '__main__':
    cli.main(main, required=('config',))

"""Speed of diffusion models: training, and sampling against steps, beside PyTorch where it is installed.

    python benchmarks/diffusion.py --config configs/image/ddpm_mnist.py [--sampling_steps 10,25] [--draw 16]

Flags and conditions are those of `train_step.py`: blocks of the two alternate, medians are printed and their
ratio; of training also our TFLOP/s, and their share of the peak where that is known. Both draw by DDIM,
without guidance. A latent model is measured by a config whose `config.latent.workdir` is a run; its times
hold encoding and decoding, and it has no peer. The peers, `torch_unet.py` and `torch_dit.py`, have the cosine
schedule and the prediction of v; Fourier features of a config (`config.model.fourier`) are computed by ours
alone. Parameters of both are counted.
"""

import platform
import statistics

import jax
import measuring
import numpy as np
import train_step
from absl import flags

from vq_jax import cli

_SAMPLING_STEPS = flags.DEFINE_list('sampling_steps', ['10', '25', '50'], 'Steps of the sampler.')
_DRAW = flags.DEFINE_integer('draw', 16, 'Images drawn at once.')


def main():
    config = cli.read_config(train_step.CONFIG)
    if train_step.BATCH_SIZE.value:
        config.batch_size = train_step.BATCH_SIZE.value
    config.sampling.guidance, config.sampling.sampler = 1.0, 'ddim'
    shape = config.data.image_size, config.data.image_size, config.data.channels
    b = config.batch_size * config.accumulate
    images = np.random.default_rng(0).integers(0, 256, (b, *shape), np.uint8)
    ours = measuring.Ours(config, images)
    runners, dtype = {'vq_jax': ours}, measuring.dtype_of(config)
    if peer := train_step.peer_of(config, images):
        runners['torch'] = peer

    print(f'{jax.devices()[0].device_kind}, {measuring.cores()} cores, Python {platform.python_version()}')
    print(f'jax {jax.__version__}, {shape[0]}x{shape[1]}x{shape[2]}, {dtype}')
    sizes = {'vq_jax': sum(leaf.size for leaf in jax.tree.leaves(ours.state.params))}
    if 'torch' in runners:
        peer = runners['torch'].module.make(config, shape[-1])
        sizes['torch'] = sum(parameter.numel() for parameter in peer.parameters())
    print('parameters: ' + '  '.join(f'{name} {size:,}' for name, size in sizes.items()))
    steps = train_step.STEPS.value
    seconds = alternate({name: lambda r=runner: r.run(steps) for name, runner in runners.items()})
    show(f'training, batch {b}, images/s', seconds, lambda s: b * steps / s)
    median = statistics.median(seconds['vq_jax']) / steps
    print(f'training, vq_jax: {measuring.flop_rate(ours.flops, median, dtype)}', flush=True)

    for number in map(int, _SAMPLING_STEPS.value):
        draws = {'vq_jax': ours_drawing(ours, number)}
        if 'torch' in runners:
            peer = runners['torch']
            sample = peer.module.make_sampler(config, shape, _DRAW.value, peer.device, dtype)
            draws['torch'] = lambda sample=sample, number=number: sample(number)
        show(
            f'{_DRAW.value} samples at once, {number} steps, seconds a sample',
            alternate(draws),
            lambda s: s / _DRAW.value,
        )


def ours_drawing(ours, steps):
    """A function that draws images with the state that was trained, compiled."""
    import dataclasses

    task = ours.task
    sampling = dataclasses.replace(task.sampling, steps=steps)
    keys = jax.random.split(jax.random.key(0), _DRAW.value)
    labels = np.zeros(_DRAW.value, np.int32)
    draw = jax.jit(lambda state: task.sample(state, keys, labels, sampling))
    return lambda: jax.device_get(draw(ours.state))


def alternate(functions):
    """Seconds of each function, by name, in alternating calls after one to warm up."""
    for function in functions.values():
        function()
    return measuring.alternate(functions, train_step.ROUNDS.value)


def show(title, seconds, value):
    """Prints the medians, and the ratio of speeds of each pair of calls."""
    line = '  '.join(f'{name} {value(statistics.median(times)):.4g}' for name, times in seconds.items())
    if 'torch' in seconds:
        median, least, most = measuring.ratios(seconds['vq_jax'], seconds['torch'])
        line += f'  speed of vq_jax / torch {median:.2f} ({least:.2f} to {most:.2f})'
    print(f'{title}: {line}', flush=True)


if __name__ == '__main__':
    cli.main(main, required=('config',))

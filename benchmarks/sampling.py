"""Speed of drawing tokens, with a cache and without, beside PyTorch where it is installed.

    python benchmarks/sampling.py [--lengths 64,256] [--batches 1,8] [--depth 6 --width 256 --heads 8]
    python benchmarks/sampling.py --network pixelcnn --depth 12 --width 64
    python benchmarks/sampling.py --lengths 1024 --norecomputed

A transformer, or a PixelCNN, which has no peer here, with random parameters draws sequences at temperature
1. For each length and batch, blocks of one drawing each alternate; medians are printed. 'recomputed' puts
the sequence through the network anew for each token: ours at its full length, which needs one compilation,
PyTorch's as far as it is drawn; --norecomputed leaves both out, which take long for long sequences. On
accelerators whose memory bandwidth is known, the share of it that the transformer's cached loop reaches is
printed: each token reads once all weights of layers, in the type that they compute in, rows of the tables of
vectors, and the cache, as long as it is in its stretch.
"""

import dataclasses
import importlib.util
import math
import os
import platform
import statistics
import time

import jax
import jax.numpy as jnp
from absl import flags

from vq_jax import cli
from vq_jax.models.pixelcnn import PixelCNN, PixelCNNSizes
from vq_jax.models.transformer import Transformer, TransformerSizes
from vq_jax.sampling.autoregressive import Choice, generate, generate_without_cache, stretches

# Bytes a second from the makers' data sheets, by what JAX calls the device.
BANDWIDTH = {
    'NVIDIA H100 80GB HBM3': 3.35e12,
    'NVIDIA H200': 4.8e12,
    'TPU v4': 1.2e12,
}

_NETWORK = flags.DEFINE_enum('network', 'transformer', ['transformer', 'pixelcnn'], 'What draws.')
_LENGTHS = flags.DEFINE_list('lengths', ['64', '256'], 'Tokens of a sequence; squares.')
_BATCHES = flags.DEFINE_list('batches', ['1', '8'], 'Sequences at once.')
_DEPTH = flags.DEFINE_integer('depth', 6, 'Blocks, or layers.')
_WIDTH = flags.DEFINE_integer('width', 256, 'Width of the vectors, or channels.')
_HEADS = flags.DEFINE_integer('heads', 8, 'Heads of attention.')
_TOKENS = flags.DEFINE_integer('tokens', 1024, 'How many tokens there are.')
_DTYPE = flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'], 'What the layers compute in.')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Alternating blocks.')
_RECOMPUTED = flags.DEFINE_bool('recomputed', True, 'Measure the loops without a cache too.')
_PEER = flags.DEFINE_bool('peer', True, 'Measure PyTorch too, if it is installed.')


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What draws how many tokens; the attributes are those of the flags."""

    network: str
    depth: int
    width: int
    heads: int
    tokens: int
    dtype: str


def ours(drawn, length, batch):
    """Two functions that sample, the parameters, and how often the first was compiled."""
    side = math.isqrt(length)
    k = drawn.tokens
    if drawn.network == 'pixelcnn':
        model = PixelCNN(PixelCNNSizes(drawn.depth, drawn.width, dtype=drawn.dtype), k, (side, side))
        shape = side, side
    else:
        sizes = TransformerSizes(drawn.depth, drawn.width, drawn.heads, dtype=drawn.dtype)
        model = Transformer(sizes, k, k, (side, side))
        shape = (length,)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *shape), int))

    @jax.jit
    def cached(variables, seed):
        def step(before, i, cache):
            return model.apply(variables, before, i, cache, method='step')

        start = model.apply(variables, batch, method='start')
        keys = jax.random.split(jax.random.key(seed), batch)
        return generate(step, start, keys, length, Choice(), grow=model.grow)

    @jax.jit
    def recomputed(variables, seed):
        def network(tokens):
            logits = model.apply(variables, tokens.reshape(batch, *shape))
            return logits.reshape(batch, length, k)

        keys = jax.random.split(jax.random.key(seed), batch)
        return generate_without_cache(network, keys, length, Choice())

    return (
        lambda seed: jax.block_until_ready(cached(variables, seed)),
        lambda seed: jax.block_until_ready(recomputed(variables, seed)),
        variables['params'],
        cached._cache_size,
    )


def peers(drawn, length, batch):
    """The same two functions in PyTorch."""
    import torch
    import torch_transformer

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sizes = drawn.depth, drawn.width, drawn.heads
    model = torch_transformer.Transformer(drawn.tokens, length, *sizes)
    model = model.to(device, getattr(torch, drawn.dtype)).eval()
    return [
        lambda seed, cached=cached: torch_transformer.draw(model, batch, length, cached).cpu()
        for cached in (True, False)
    ]


def bytes_a_token(drawn, parameters, length, batch):
    """What a transformer with a cache reads for each token, on average."""
    layers = jnp.dtype(drawn.dtype).itemsize  # the parameters are converted once, before the loop
    read = 0
    for name, part in parameters.items():
        size = sum(x.size for x in jax.tree.leaves(part))
        if name in ('token', 'label', 'position'):  # tables, of which each sequence reads a row
            read += 4 * batch * drawn.width
        else:
            read += size * (4 if name == 'head' else layers)  # logits are float32
    slots = sum(end * (end - start) for start, end in stretches(length)) / length
    return read + 2 * drawn.depth * batch * slots * drawn.width * layers


def main():
    device = jax.devices()[0].device_kind
    cores = len(os.sched_getaffinity(0))
    print(f'{device}, {cores} cores, Python {platform.python_version()}, jax {jax.__version__}')
    drawn = Drawn(
        _NETWORK.value, _DEPTH.value, _WIDTH.value, _HEADS.value, tokens=_TOKENS.value, dtype=_DTYPE.value
    )
    sizes = f'depth {drawn.depth}, width {drawn.width}'
    print(f'{drawn.network}: {sizes}, {drawn.tokens} tokens, {drawn.dtype}')
    has_peer = _PEER.value and drawn.network == 'transformer'
    with_torch = has_peer and importlib.util.find_spec('torch') is not None
    for length in map(int, _LENGTHS.value):
        for batch in map(int, _BATCHES.value):
            cached, recomputed, parameters, compilations = ours(drawn, length, batch)
            runners = {'cached': cached, 'recomputed': recomputed}
            if with_torch:
                runners['torch, cached'], runners['torch, recomputed'] = peers(drawn, length, batch)
            if not _RECOMPUTED.value:
                runners = {name: run for name, run in runners.items() if 'recomputed' not in name}
            seconds = {name: [] for name in runners}
            for run in runners.values():
                run(0)
            for seed in range(1, _ROUNDS.value + 1):
                for name, run in runners.items():
                    start = time.perf_counter()
                    run(seed)
                    seconds[name].append(time.perf_counter() - start)
            number = sum(x.size for x in jax.tree.leaves(parameters))
            print(f'length {length}, batch {batch}, {number:,} parameters, {compilations()} compilation')
            medians = {name: statistics.median(times) for name, times in seconds.items()}
            for name, median in medians.items():
                print(
                    f'  {name:18} {batch / median:9.2f} samples/s, {median / length * 1e3:8.3f} ms a token, '
                    f'{median / medians["cached"]:6.1f} times the time of the cached loop'
                )
            if device in BANDWIDTH and drawn.network == 'transformer':
                reached = bytes_a_token(drawn, parameters, length, batch) * length / medians['cached']
                print(f'  share of the memory bandwidth: {reached / BANDWIDTH[device]:.3f}')


if __name__ == '__main__':
    cli.main(main)

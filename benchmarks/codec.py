"""How fast neural codecs encode and decode, beside the same networks in PyTorch where that is installed.

    python benchmarks/codec.py --config configs/audio/codec_24k.py [--seconds 10] [--chunk 1]

Parameters are random, and sounds are noise. Real-time factors are seconds of sound in a second. Encoder and
decoder are those of `torch_codec.py`, without the quantizer. Blocks of calls of the two alternate, and
medians are printed, with the least and the greatest ratio. Of a causal codec, chunks of so many positions
are then encoded to codes and decoded one after the other, by us alone.
"""

import platform
import statistics
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from measuring import NoPeerError, alternate, cores, import_torch, ratios
from ml_collections import config_flags

from vq_jax import cli
from vq_jax.errors import UserError
from vq_jax.models.convolution import fold_weight_norm
from vq_jax.models.seanet import SEANetSizes
from vq_jax.run import Run
from vq_jax.spec import Spec
from vq_jax.tasks import make_task
from vq_jax.tasks.restore import Restored
from vq_jax.training.config import build
from vq_jax.training.state import count_parameters, init_state

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment, a file in a folder of configs/.')
SECONDS = flags.DEFINE_float('seconds', 10.0, 'Of sound, rounded down to whole positions.')
RATE = flags.DEFINE_integer('rate', None, "Samples in a second, instead of the config's.")
CHUNK = flags.DEFINE_integer('chunk', 1, 'Positions of a chunk.')
ROUNDS = flags.DEFINE_integer('rounds', 5, 'Alternating blocks of each.')
PEER = flags.DEFINE_bool('peer', True, 'Measure PyTorch too, if it is installed.')


def main():
    config = cli.read_config(CONFIG)
    if config.task != 'vqgan' or config.variant.backbone != 'seanet':
        raise UserError('the config has no codec; give one with config.variant.backbone=seanet.')
    sizes = build(SEANetSizes, config.seanet, 'seanet')
    hop, rate = sizes.factors[0], RATE.value or config.data.sample_rate or 8000
    positions = max(1, int(SECONDS.value * rate / hop))
    seconds = positions * hop / rate
    spec = Spec('audio', (positions * hop, 1), rate)
    task = make_task(config, spec)
    state = init_state(task.init, jax.random.key(0), spec)
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, (1, positions * hop, 1)).astype(np.float32)
    vectors = rng.normal(size=(1, positions, sizes.features)).astype(np.float32)

    device = jax.devices()[0].device_kind
    print(f'{device}, {cores()} cores, Python {platform.python_version()}, jax {jax.__version__}')
    print(f'{seconds:.2f} s of sound at {rate} Hz, {positions} positions, {sizes.dtype}')
    ours = _ours(task, state, sound, vectors)
    theirs = _theirs(sizes, sound, vectors)
    for name, (function, parameters) in ours.items():
        runners = {'vq_jax': function, **({'torch': theirs[name]} if theirs else {})}
        times = alternate(runners, ROUNDS.value)
        line = f'{name}, {parameters:,} parameters, real-time factor:'
        line += ''.join(f' {by} {seconds / statistics.median(t):.2f}' for by, t in times.items())
        if theirs:
            line += ', speed of vq_jax / speed of torch: {:.2f} ({:.2f} to {:.2f})'.format(
                *ratios(times['vq_jax'], times['torch'])
            )
        print(line)
    if task.streams:
        _stream(Run(Restored(config, task, state, spec, 0, Path())), positions, rate)


def _ours(task, state, sound, vectors):
    """A call of each network, and the number of its parameters, by name."""
    params = fold_weight_norm(state.for_inference().params)
    given = {'encoder': jnp.asarray(sound), 'decoder': jnp.asarray(vectors)}
    calls = {}
    for name, x in given.items():
        module = getattr(task.model, name)
        compiled = jax.jit(lambda params, x, module=module: module.apply({'params': params}, x))
        calls[name] = (
            lambda compiled=compiled, params=params[name], x=x: jax.block_until_ready(compiled(params, x)),
            count_parameters(params[name]),
        )
        calls[name][0]()
    return calls


def _theirs(sizes, sound, vectors):
    """The same calls in PyTorch; None, with the reason on a line, where there is none."""
    if not PEER.value:
        return None
    try:
        torch = import_torch()
    except NoPeerError as error:
        print(error)
        return None
    import torch_codec

    on = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.set_num_threads(cores())
    calls = {}
    for name, x in (('encoder', sound), ('decoder', vectors)):
        network = getattr(torch_codec, name)(sizes, 1).to(on).eval()
        x = torch.from_numpy(x).to(on).transpose(1, 2).contiguous()

        def call(network=network, x=x):
            with torch.inference_mode():
                network(x)
            if on == 'cuda':
                torch.cuda.synchronize()

        calls[name] = call
        call()
    return calls


def _stream(run, positions, rate):
    """Encodes and decodes chunk after chunk."""
    stream = run.stream()
    size = CHUNK.value * stream.hop
    chunk = np.random.default_rng(0).normal(0, 3000, (1, size, 1)).astype(np.int16)
    codes = stream.encode(chunk)
    calls = {
        'encoding': lambda: jax.block_until_ready(stream.encode(chunk)),
        'decoding': lambda: jax.block_until_ready(stream.decode(codes)),
    }
    for call in calls.values():
        call()
    times = alternate(calls, ROUNDS.value, max(1, min(50, positions // CHUNK.value)))
    told = ', '.join(f'{name} {1e3 * statistics.median(t):.2f} ms' for name, t in times.items())
    print(f'a chunk of {CHUNK.value} positions, {1e3 * size / rate:.1f} ms of sound: {told}')


if __name__ == '__main__':
    cli.main(main, required=('config',))

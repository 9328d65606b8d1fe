"""How time and memory of a training step grow with batch, resolution, codes and tokens, against theory.

    python benchmarks/scaling.py --output benchmarks/scaling.json --plot docs/images/scaling.png

Of a VQ-VAE, and of a causal transformer over pixels, one size is made larger and the others stay. Steps are
compiled first, and then taken in rounds, one of each size after another, so that whatever else the machine
does hits all of them; the least time of a step counts. Memory is what the compiler planned beside the state
and the batch, on one device. `--replot` draws what the file already holds.
"""

import datetime
import itertools
import json
import platform
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from measuring import Ours, cores

from vq_jax import cli
from vq_jax.config_files import find_config, get_config

_OUTPUT = flags.DEFINE_string('output', None, 'The JSON file of what was measured.')
_PLOT = flags.DEFINE_string('plot', None, 'The PNG file of the plot, if there is to be one.')
_REPLOT = flags.DEFINE_bool('replot', False, 'Measure nothing: plot the file that is there.')
_MINUTES = flags.DEFINE_float('minutes', 2, 'How long to take steps, after all are compiled.')
_TINY = flags.DEFINE_bool('tiny', False, 'The two least sizes of each alone.')

_STEPS = 3  # of a size in a round, at most
_SECONDS = 0.3  # of a size in a round, after which there is no other step
_TABLE = 2**20  # numbers of the table of `ops.nearest` on CPUs, at most


def vqvae(batch, side, codes):
    """The step of the quickstart's VQ-VAE, narrower, of square images in colour."""
    config = get_config(find_config('quickstart'))
    config.model.channels, config.quantizer.num_codes = 64, codes
    return config, (batch, side, side, 3)


def transformer(tokens):
    """The step of a causal transformer of two blocks over the pixels of two grey images."""
    config = get_config(find_config('quickstart_prior'))
    config.tokenizer.workdir = ''
    config.transformer.depth, config.transformer.width, config.transformer.heads = 2, 64, 2
    height = 2 ** (tokens.bit_length() // 2)
    return config, (2, height, tokens // height, 1)


def tables(codes, vectors=2048):
    """Bytes of a table of vectors and codes, a block of it at a time: as `vqvae(8, 64, codes)` has them."""
    return 4 * min(vectors * codes, _TABLE)


# What grows, the config and shape of its step, its sizes, and theory up to a factor: operations, and bytes.
# None stands for the operations that XLA counts.
SCALES = {
    'batch': (lambda n: vqvae(n, 32, 256), (4, 8, 16, 32, 64, 128), lambda n: n, lambda n: n),
    'side of images': (lambda n: vqvae(4, n, 256), (16, 32, 64, 128, 256), lambda n: n**2, lambda n: n**2),
    'codes': (lambda n: vqvae(8, 64, n), (256, 1024, 4096, 16384, 65536), lambda n: n, tables),
    'tokens': (transformer, (64, 128, 256, 512, 1024, 2048), None, lambda n: n**2),
}


def main():
    path = Path(_OUTPUT.value)
    measured = json.loads(path.read_text()) if _REPLOT.value else measure()
    path.write_text(json.dumps(measured, indent=1) + '\n')
    for name, rows in measured['scales'].items():
        print(f'{name}: each time as large, times what it took before; theory in brackets')
        for before, row in itertools.pairwise(rows):
            grown = (f'{row[of] / before[of]:.2f} ({row[by] / before[by]:.2f})' for of, by in _COMPARED)
            print(f'{row["size"]:8,}  {row["ms"]:9.2f} ms  {row["mib"]:9.2f} MiB  {"  ".join(grown)}')
    if _PLOT.value:
        plot(measured, _PLOT.value)


_COMPARED = (('ms', 'theory_of_time'), ('mib', 'theory_of_memory'))


def measure():
    """A row for each size of each scale."""
    runs = {}
    for name, (make, sizes, operations, memory) in SCALES.items():
        for size in sizes[:2] if _TINY.value else sizes:
            config, shape = make(size)
            images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            ours = Ours(config, images)
            row = {
                'size': size,
                'gflop': ours.flops / 1e9,
                'mib': ours.step.memory_analysis().temp_size_in_bytes / 2**20,
                'theory_of_time': operations(size) if operations else ours.flops,
                'theory_of_memory': memory(size),
            }
            runs[name, size] = ours, row, []
            print(f'{name} {size:,}: compiled in {ours.compile_seconds:.1f} s', flush=True)
    end, rounds = time.perf_counter() + 60 * _MINUTES.value, 0
    while not rounds or time.perf_counter() < end:
        rounds += 1
        for ours, _, seconds in runs.values():
            took = []
            while len(took) < _STEPS and sum(took) < _SECONDS:
                start = time.perf_counter()
                ours.run(1)
                took.append(time.perf_counter() - start)
            seconds += took
    scales = {name: [] for name in SCALES}
    for (name, _), (_, row, seconds) in runs.items():
        scales[name].append({**row, 'ms': min(seconds) * 1e3, 'steps': len(seconds)})
    return {
        'device': f'{jax.devices()[0].device_kind}, {cores()} cores, {platform.machine()}',
        'jax': jax.__version__,
        'python': platform.python_version(),
        'date': datetime.date.today().isoformat(),
        'rounds': rounds,
        'scales': scales,
    }


def plot(measured, path):
    """Draws time above and memory below, theory as lines that end in the largest size."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    with matplotlib.rc_context({'font.size': 8, 'axes.spines.top': False, 'axes.spines.right': False}):
        figure = Figure(figsize=(8.4, 3.9), layout='constrained')
        panels = figure.subplots(2, len(measured['scales']), sharex='col', squeeze=False)
        for column, (name, rows) in zip(panels.T, measured['scales'].items(), strict=True):
            sizes = [row['size'] for row in rows]
            for axes, (of, by), colour in zip(column, _COMPARED, ('C0', 'C1'), strict=True):
                theory = [row[by] / rows[-1][by] * rows[-1][of] for row in rows]
                axes.plot(sizes, theory, color='0.6', linestyle='--', label='theory')
                axes.plot(sizes, [row[of] for row in rows], color=colour, marker='o', markersize=3)
                axes.set_xscale('log', base=2)
                axes.set_yscale('log')
                axes.yaxis.set_major_formatter('{x:,g}')
                axes.yaxis.set_minor_formatter(NullFormatter())
                axes.grid(alpha=0.3)
            column[1].set_xticks(sizes, [f'{size:,}' for size in sizes], rotation=45)
            column[1].minorticks_off()
            column[1].set_xlabel(name)
        panels[0, 0].set_ylabel('a step, ms')
        panels[1, 0].set_ylabel('temporary memory, MiB')
        panels[0, 0].legend(frameon=False)
        figure.savefig(path, dpi=100, metadata={'Software': None})


if __name__ == '__main__':
    cli.main(main, required=('output',))

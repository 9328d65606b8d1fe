"""Time and memory of each quantizer, beside vector-quantize-pytorch where that is installed.

    python benchmarks/quantizers.py [--kinds vq,fsq] [--codes 1024,16384,262144] [--peer_gib 6]

65,536 vectors, 256 examples of 16x16 positions, in float32: of 64 numbers, and with more than 16,384 codes of
8. 'train' is the values, the loss and all gradients, and what the codebook learns without gradients; 'encode'
is the codes alone. Where one step would take longer than `--seconds`, as a sixteenth of the vectors tells,
fewer are taken, and the table says how many.

The peer is eager, and has the options nearest to ours; it holds tables of vectors and codes, and is given as
many vectors as fit in `--peer_gib`. Blocks of it and of ours, with as many vectors, alternate, and medians of
the ratios of neighbours are printed: above 1, ours is faster. IBQ, the sampled codes of Gumbel-softmax and
entropies by groups of bits have no peer there.

Memory of ours is what the compiler planned for a training step of all vectors, inputs and results included;
that of the peer is what its process grew by in its first training step, in a process of its own.
"""

import functools
import importlib.metadata
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from measuring import NoPeerError, alternate, cores, import_torch, ratios

from vq_jax.quantizers import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    GumbelQuantizer,
    IndexBackpropagationQuantizer,
    LookupFreeQuantizer,
    ResidualQuantizer,
    SimVectorQuantizer,
    VectorQuantizer,
)
from vq_jax.quantizers.quantizer import BATCH_MEANS, STATISTICS, after_update

_KINDS = flags.DEFINE_list('kinds', None, 'These alone, of those that the table has.')
_CODES = flags.DEFINE_list('codes', None, 'Numbers of codes, powers of two.')
_ROUNDS = flags.DEFINE_integer('rounds', 3, 'Alternating blocks of each.')
_SECONDS = flags.DEFINE_float('seconds', 10, 'The longest step of ours.')
_PEER = flags.DEFINE_bool('peer', True, 'Measure the peer too, if it is installed.')
_PEER_GIB = flags.DEFINE_float('peer_gib', 6, 'Memory that the peer may take, as it is estimated.')
_TINY = flags.DEFINE_bool('tiny', False, 'Toy sizes.')
_MEMORY_OF = flags.DEFINE_string('memory_of', None, 'Only the memory of the peer: kind,codes,vectors.')

DEPTH = 2  # of the residual quantizer, and groups of the grouped one
LEVELS = {2**10: (8, 5, 5, 5), 2**14: (8, 8, 8, 6, 5), 2**18: (8,) * 6}  # of FSQ; of others, fours

# Bytes of the peer for each pair of a vector and a code, about.
_BYTES = {'vq': 28, 'cosine': 28, 'rotation': 28, 'residual': 56, 'grouped': 56, 'simvq': 12}
_BYTES |= {'lfq': 40, 'bsq': 40}


def levels(k):
    """Those of FSQ for about so many codes."""
    return LEVELS.get(k, (4,) * ((k.bit_length() - 1) // 2))


def ours(kind, k, d):
    """A quantizer of ours."""
    vq = functools.partial(VectorQuantizer, k, codebook_init='random')
    bits = k.bit_length() - 1
    return {
        'vq': lambda: vq(d),
        'cosine': lambda: vq(d, cosine=True),
        'rotation': lambda: vq(d, estimator='rotation'),
        'residual': lambda: ResidualQuantizer(vq(d), DEPTH),
        'grouped': lambda: GroupedQuantizer(vq(d // DEPTH), DEPTH),
        'simvq': lambda: SimVectorQuantizer(k, d),
        'ibq': lambda: IndexBackpropagationQuantizer(k, d),
        'bsq': lambda: BinarySphericalQuantizer(bits, d, group_bits=None),
        'bsq_groups': lambda: BinarySphericalQuantizer(bits, d, group_bits=bits // 2),
        'lfq': lambda: LookupFreeQuantizer(bits, d),
        'fsq': lambda: FiniteScalarQuantizer(levels(k), d, normalise=False),  # as published
        'gumbel': lambda: GumbelQuantizer(k, d),
    }[kind]()


KINDS = ('vq', 'cosine', 'rotation', 'residual', 'grouped', 'simvq', 'ibq', 'bsq', 'bsq_groups', 'lfq', 'fsq')
KINDS += ('gumbel',)


def theirs(kind, k, d):
    """The peer's, a PyTorch module."""
    import vector_quantize_pytorch as peer

    vq = {'decay': 0.99, 'commitment_weight': 0.25, 'threshold_ema_dead_code': 2, 'rotation_trick': False}
    lfq = {'dim': d, 'codebook_size': k, 'commitment_loss_weight': 0.25}
    return {
        'vq': lambda: peer.VectorQuantize(d, k, **vq),
        'cosine': lambda: peer.VectorQuantize(d, k, **vq, use_cosine_sim=True),
        'rotation': lambda: peer.VectorQuantize(d, k, **vq | {'rotation_trick': True}),
        'residual': lambda: peer.ResidualVQ(dim=d, num_quantizers=DEPTH, codebook_size=k, **vq),
        'grouped': lambda: peer.VectorQuantize(
            d, k, **vq, heads=DEPTH, separate_codebook_per_head=True, codebook_dim=d // DEPTH
        ),
        'simvq': lambda: peer.SimVQ(d, k, rotation_trick=False),
        'bsq': lambda: peer.LFQ(**lfq, spherical=True),
        'lfq': lambda: peer.LFQ(**lfq),
        'fsq': lambda: peer.FSQ(list(levels(k)), d),
    }[kind]()


class Ours:
    """Training and encoding with a quantizer of ours, compiled for so many vectors.

    Attributes:
        memory_mib: see the module.
    """

    def __init__(self, kind, k, vectors):
        quantizer = ours(kind, k, vectors.shape[-1])
        rng = np.random.default_rng(1)

        def like_the_vectors(path, x):
            return jnp.asarray(rng.normal(size=x.shape), x.dtype) if path[-1].key == 'codebook' else x

        variables = jax.jit(quantizer.init)(jax.random.key(0), vectors[:1])
        self.variables = jax.tree_util.tree_map_with_path(like_the_vectors, variables)
        self.weights = jnp.asarray(rng.normal(size=vectors.shape), jnp.float32)
        self.vectors = jnp.asarray(vectors)

        def loss(params, z, fixed):
            rngs = {'codebook': jax.random.key(2)}
            out, means = quantizer.apply(
                {'params': params, **fixed},
                z,
                train=True,
                step=jnp.int32(0),
                mutable=[BATCH_MEANS],
                rngs=rngs,
            )
            return jnp.mean(out.values * self.weights) + jnp.mean(out.loss), (out.values, out.codes, means)

        def train(variables, z):
            params, fixed = variables.get('params', {}), {STATISTICS: variables.get(STATISTICS, {})}
            gradients, (values, codes, means) = jax.grad(loss, (0, 1), has_aux=True)(params, z, fixed)
            _, learned = quantizer.apply(
                {'params': params, **fixed, **means}, method=after_update, mutable=[STATISTICS]
            )
            return gradients, values, codes, learned

        def encode(variables, z):
            return quantizer.apply(variables, z).codes

        self._train = jax.jit(train).lower(self.variables, self.vectors).compile()
        self._encode = jax.jit(encode).lower(self.variables, self.vectors).compile()
        plan = self._train.memory_analysis()
        sizes = plan.temp_size_in_bytes, plan.argument_size_in_bytes, plan.output_size_in_bytes
        self.memory_mib = sum(sizes) // 2**20

    def train(self):
        """A training step."""
        jax.block_until_ready(self._train(self.variables, self.vectors))

    def encode(self):
        """The codes."""
        jax.block_until_ready(self._encode(self.variables, self.vectors))


class Theirs:
    """The same with the peer.

    Raises:
        NoPeerError: it is not installed.
    """

    def __init__(self, kind, k, vectors):
        if importlib.util.find_spec('vector_quantize_pytorch') is None:
            raise NoPeerError('vector-quantize-pytorch is not installed')
        self.torch = torch = import_torch()
        torch.set_num_threads(cores())
        torch.manual_seed(0)
        self.module = theirs(kind, k, vectors.shape[-1])
        self.vectors = torch.from_numpy(vectors).requires_grad_()
        self.weights = torch.randn(vectors.shape)

    def train(self):
        """A training step."""
        self.module.train()
        values, _, *loss = self.module(self.vectors)
        total = (values * self.weights).mean() + sum(one.sum() for one in loss)
        total.backward()
        self.vectors.grad = None
        self.module.zero_grad()

    def encode(self):
        """The codes."""
        self.module.eval()
        with self.torch.no_grad():
            self.module(self.vectors)


def vectors_of(n, d):
    """So many random vectors, 256 of an example or all of one."""
    z = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    return z.reshape(-1, min(n, 256), d)


def width(k):
    """How many numbers vectors have."""
    return 64 if k <= 2**14 else 8


def measure(kind, k, n):
    """A row of the table."""
    d = width(k)
    full = Ours(kind, k, vectors_of(n, d))
    few = max(1, n // 16)
    first = Ours(kind, k, vectors_of(few, d))
    seconds = _timed(first.train)
    taken = n
    while taken > few and seconds * taken / few > _SECONDS.value:
        taken //= 2
    runs = full if taken == n else Ours(kind, k, vectors_of(taken, d))
    row = {'kind': kind, 'codes': k, 'dim': d, 'mib': full.memory_mib, 'vectors': taken}
    row |= {name: statistics.median(_timed(run) for _ in range(_rounds(run))) for name, run in _steps(runs)}
    if not _PEER.value:
        return row
    try:
        return row | beside(kind, k, n, d, {n: full, few: first, taken: runs})
    except NoPeerError as error:
        return row | {'reason': str(error)}


def beside(kind, k, n, d, made):
    """What a row says of the peer."""
    if kind in ('ibq', 'gumbel', 'bsq_groups'):
        raise NoPeerError('has none')
    fits = n
    while fits * k * _BYTES.get(kind, 0) > _PEER_GIB.value * 2**30:
        fits //= 2
    if not fits:
        raise NoPeerError(f'needs more than {_PEER_GIB.value:g} GiB for one vector')
    vectors = vectors_of(fits, d)
    peer = Theirs(kind, k, vectors)
    mine = made.get(fits) or Ours(kind, k, vectors)
    row = {'peer_vectors': fits, 'peer_mib': _memory_of(kind, k, fits)}
    for name in ('train', 'encode'):
        pair = {'ours': getattr(mine, name), 'theirs': getattr(peer, name)}
        alternate(pair, 1)
        taken = alternate(pair, _rounds(pair['ours']))
        row[f'peer_{name}'] = statistics.median(taken['theirs'])
        row[f'{name}_ratio'] = ratios(taken['ours'], taken['theirs'])
    return row


def table(rows):
    """Rows as Markdown."""
    names = ('kind', 'codes, dim', 'vectors', 'train, s', 'encode, s', 'MiB')
    names += ('peer: vectors', 'train, s', 'encode, s', 'MiB', 'speed, training', 'encoding')
    lines = [f'| {" | ".join(names)} |', f'|{" --- |" * len(names)}']
    for row in rows:
        cells = [row['kind'], f'{row["codes"]:,}, {row["dim"]}', f'{row["vectors"]:,}']
        cells += [f'{row["train"]:.3g}', f'{row["encode"]:.3g}', f'{row["mib"]:,}']
        if 'peer_vectors' in row:
            cells += [f'{row["peer_vectors"]:,}', f'{row["peer_train"]:.3g}', f'{row["peer_encode"]:.3g}']
            cells += [f'{row["peer_mib"]:,}']
            cells += [
                '{:.2f} ({:.2f} to {:.2f})'.format(*row[f'{name}_ratio']) for name in ('train', 'encode')
            ]
        else:
            cells += [row.get('reason', ''), '', '', '', '', '']
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(_):
    if _MEMORY_OF.value:
        kind, k, n = _MEMORY_OF.value.split(',')
        peer = Theirs(kind, int(k), vectors_of(int(n), width(int(k))))
        before = _status('VmRSS')
        peer.train()
        print(json.dumps({'mib': _status('VmHWM') - before}))
        return
    codes = [int(k) for k in _CODES.value or ((2**4, 2**6) if _TINY.value else LEVELS)]
    n = 2**8 if _TINY.value else 2**16
    kinds = _KINDS.value or KINDS
    print(f'{cores()} cores, Python {platform.python_version()}, jax {jax.__version__}, {_versions()}')
    rows = []
    for k in codes:
        for kind in kinds:
            rows.append(measure(kind, k, n))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


def _steps(runs):
    return ('train', runs.train), ('encode', runs.encode)


def _timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _rounds(run):
    """As many as were asked for, or one of what takes seconds; the first call, which is not counted."""
    return _ROUNDS.value if _timed(run) < 2 else 1


def _memory_of(kind, k, n):
    command = [sys.executable, *sys.argv, f'--memory_of={kind},{k},{n}']
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])['mib']


def _status(name):
    """In MiB, what the kernel says of this process."""
    return int(Path('/proc/self/status').read_text().split(f'{name}:')[1].split()[0]) // 2**10


def _versions():
    names = [name for name in ('torch', 'vector_quantize_pytorch') if importlib.util.find_spec(name)]
    return ', '.join(f'{name} {importlib.metadata.version(name)}' for name in names) or 'without a peer'


if __name__ == '__main__':
    app.run(main)

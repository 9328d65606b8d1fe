"""All that is to be known of one GPU, in one call of a bounded time.

    python benchmarks/gpu.py --output out --minutes 11

Measures training steps (float32 and bfloat16, beside PyTorch, eager and compiled, where it is installed),
sampling with a cache, and the nearest-code search; repeats steps, and resumes a run in another process, bit
for bit; and trains a VQ-VAE and a prior with the time that is left. The table of all comes last. Each row is
written to `rows.jsonl` as soon as it is known, so that a stop loses nothing.

Each part is a process of its own, which is given a share of the time that is left and is ended when that is
over; what fails becomes a row with its reason, and the rest goes on. The exit status is 1 if anything of ours
failed. `--parts` chooses some, which then have all the time; `--tiny` does all in toy sizes, also on a CPU.

A step's FLOP are those that XLA counts in the program before it optimizes, and its memory is what the
compiler planned for it, with the state and the batch; of PyTorch, the most that it had allocated.
"""

import dataclasses
import functools
import gc
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags
from rows import OURS, LeftOutError, Rows, failures, share, table

from vq_jax import cli
from vq_jax.errors import UserError
from vq_jax.files import write_atomically
from vq_jax.processes import end_with

EAGER, COMPILED = 'torch', 'torch.compile'
DTYPES = ('bfloat16', 'float32')
_GRACE = 5.0  # seconds that a part gets beyond its share, to end by itself
_DETERMINISTIC = '--xla_gpu_deterministic_ops=true'

_OUTPUT = flags.DEFINE_string('output', None, 'A folder for rows, table and images.')
_MINUTES = flags.DEFINE_float('minutes', 11.0, 'The time for all.')
_PARTS = flags.DEFINE_list('parts', None, 'Which parts, in this order; by default all.')
_DATA_DIR = flags.DEFINE_string(
    'data_dir', None, 'Where cifar10 is, if it is there; by default TFDS_DATA_DIR. Else built-in data.'
)
_RUNS = flags.DEFINE_string('runs', None, 'A folder for runs and compiled programs; by default OUTPUT/runs.')
_TINY = flags.DEFINE_bool('tiny', False, 'Toy sizes, which show that all parts work.')
_SECONDS = flags.DEFINE_float(
    'seconds', None, 'Do the parts in this process, within so many; what the script does by itself.'
)


@dataclasses.dataclass(frozen=True)
class Job:
    """What a part needs to know.

    Attributes:
        rows: where its rows go.
        output: the folder for images and logs.
        runs: the folder for runs.
        data_dir: where data sets are; None as `DataConfig` has it.
        tiny: toy sizes.
        end: when the time of the part is over, as `time.monotonic` counts.
    """

    rows: Rows
    output: Path
    runs: Path
    data_dir: str | None
    tiny: bool
    end: float

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def need(self, seconds: float) -> None:
        """Raises `LeftOutError` if less time is left."""
        if self.left() < seconds:
            raise LeftOutError('no time was left')


@dataclasses.dataclass(frozen=True)
class Model:
    """A model whose training step is measured.

    Attributes:
        config: one that comes with the package.
        changes: of its keys.
        dtypes: its keys that say what is computed in.
        tiny: further changes for toy sizes.
    """

    config: str
    changes: dict[str, object]
    dtypes: tuple[str, ...]
    tiny: dict[str, object]


MODELS = {
    'vqvae': Model(
        'vqvae_cifar10',
        {},
        ('model.dtype',),
        {'model.channels': 8, 'model.residual_channels': 4, 'quantizer.num_codes': 16, 'quantizer.dim': 4},
    ),
    'gpt': Model(
        'prior_mnist',
        {
            'batch_size': 64,
            'data.pad': 0,
            'data.image_size': 16,
            'tokenizer.workdir': '',  # the values of 256 pixels are the tokens
            'model.class_conditional': False,
            'sampling.guidance': 1.0,
            'transformer.depth': 12,
            'transformer.width': 768,
            'transformer.heads': 12,
            'transformer.dropout': 0.0,
            'optimizer.name': 'adam',
            'optimizer.weight_decay': 0.0,
            'optimizer.ema_decay': 0.0,
        },
        ('transformer.dtype',),
        {'transformer.depth': 1, 'transformer.width': 16, 'transformer.heads': 2, 'data.image_size': 4},
    ),
    'dit': Model(
        'ldm_imagenet',
        {
            'batch_size': 64,
            'data.image_size': 32,  # as the latents' grid, in which 256 patches are the tokens
            'latent.workdir': '',
            'model.learned_variance': False,
            'dit.depth': 12,
            'dit.width': 768,
            'dit.heads': 12,
            'dit.remat': False,
        },
        ('dit.dtype',),
        {'dit.depth': 1, 'dit.width': 16, 'dit.heads': 2, 'data.image_size': 8},
    ),
    'unet': Model(
        'ddpm_cifar10',
        {},
        ('unet.dtype',),
        {
            'unet.channels': 32,
            'unet.head_channels': 8,
            'unet.multipliers': (1, 1),
            'unet.attention_resolutions': (),
            'unet.residual_blocks': 1,
            'data.image_size': 8,
        },
    ),
    'vqgan': Model(
        'vqgan_imagenet:f16_1024',
        {
            'batch_size': 8,
            'quantizer.learning': 'moving_average',
            'perceptual.kind': 'random_vgg',  # LPIPS's size, without its weights
            'adversarial.start': 0,
            'optimizer.ema_decay': 0.0,
        },
        ('model.dtype', 'discriminator.dtype'),
        {
            'model.channels': 8,
            'model.multipliers': (1, 1),
            'model.residual_blocks': 1,
            'model.attention_resolutions': (),
            'model.features': 4,
            'quantizer.code_dim': 4,
            'quantizer.num_codes': 16,
            'discriminator.channels': 8,
            'discriminator.stages': 1,
            'perceptual.kind': 'none',
            'data.image_size': 16,
        },
    ),
}


def config_of(name: str, dtype: str, tiny: bool, **changes):
    """The complete config of a model."""
    from vq_jax.config_files import find_config, get_config
    from vq_jax.tasks import complete_config

    model = MODELS[name]
    config = complete_config(get_config(find_config(model.config)))
    changes = model.changes | dict.fromkeys(model.dtypes, dtype) | changes
    if tiny:
        changes |= {**model.tiny, 'batch_size': 4}
    config.update_from_flattened_dict(changes)
    return config


def images_of(config):
    """Random bytes [b h w c] as a config asks for them."""
    import numpy as np

    shape = config.batch_size, config.data.image_size, config.data.image_size, config.data.channels
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def steps(name: str, job: Job) -> None:
    """Measures the training step of a model, beside PyTorch, and in one type beside `torch.compile`."""
    compared, took = {}, 0.0
    for dtype in DTYPES[-1:] if job.tiny else DTYPES:
        start, what = time.monotonic(), f'step of {name}'
        with job.rows.trying(what, OURS, dtype):
            job.need(took)
            compared[dtype] = step = Compared(job, what, dtype, config_of(name, dtype, job.tiny))
            step.beside(EAGER)
        free()
        took = time.monotonic() - start
    for dtype, step in list(compared.items())[:1]:
        with job.rows.trying(what, COMPILED, dtype):
            job.need(45.0)
            step.beside(COMPILED)


class Compared:
    """The step of a config, measured alone and then beside peers."""

    def __init__(self, job, what, dtype, config):
        import jax
        import measuring

        self.job, self.what, self.dtype, self.config = job, what, dtype, config
        self.images = images_of(config)
        self.ours = measuring.Ours(config, self.images)
        with jax.transfer_guard('disallow'):  # what a step needs is on the device
            self.ours.run(1)
        first = measuring.alternate({OURS: lambda: self.ours.run(1)}, 1)[OURS][0]
        self.n, self.rounds = (1, 1) if job.tiny else (max(2, min(50, round(0.4 / first))), 5)
        self.dispatch = measuring.dispatch_seconds(self.ours, self.n)
        self.seconds = [s / self.n for s in measuring.alternate({OURS: self.block}, 1)[OURS]]
        self.row()

    def block(self):
        """Makes as many of our steps as are measured at once."""
        self.ours.run(self.n)

    def row(self):
        """Writes what is known of ours."""
        import jax
        import measuring

        ours, median, b = self.ours, statistics.median(self.seconds), len(self.images)
        tflops, device = ours.flops / median / 1e12, jax.devices()[0]
        peak = measuring.peak_of(device.device_kind, self.dtype)
        waits = f'; the host may wait for {", ".join(ours.waits)}' if ours.waits else ''
        self.job.rows.add(
            self.what,
            OURS,
            self.dtype,
            ms=median * 1e3,
            blocks_ms=[s * 1e3 for s in self.seconds],
            examples_per_s=b / median,
            tflops=tflops,
            share_of_peak=tflops / peak[0] if peak else None,
            peak=f'{peak[0]} TFLOP/s, {peak[1]}' if peak else None,
            memory_mib=ours.memory_mib,
            process_peak_mib=(device.memory_stats() or {}).get('peak_bytes_in_use', 0) // 2**20,
            compile_seconds=ours.compile_seconds,
            dispatch_ms=self.dispatch * 1e3,
            waits=ours.waits,
            note=f'batch {b}, handed over in {self.dispatch * 1e3:.2f} ms{waits}',
        )

    def beside(self, by):
        """Measures a peer in turn with ours."""
        import measuring

        with self.job.rows.trying(self.what, by, self.dtype):
            peer = measuring.Peer(self.config, self.images, compiled=by == COMPILED)
            blocks = {OURS: self.block, by: lambda: peer.run(self.n)}
            seconds = measuring.alternate(blocks, self.rounds)
            mine, theirs = ([s / self.n for s in seconds[name]] for name in (OURS, by))
            median = statistics.median(theirs)
            self.job.rows.add(
                self.what,
                by,
                self.dtype,
                ms=median * 1e3,
                blocks_ms=[s * 1e3 for s in theirs],
                examples_per_s=len(self.images) / median,
                memory_mib=peer.memory_mib,
                ratio=measuring.ratios(mine, theirs),
                note=f'torch {peer.torch.__version__}',
            )
            self.seconds += mine
            self.row()


def free():
    """Gives back the memory of what is not used any more."""
    import jax

    gc.collect()
    jax.clear_caches()
    if 'torch' in sys.modules:
        import torch

        torch.compiler.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def sampling(job: Job) -> None:
    """Measures how fast a transformer of GPT's size draws 256 tokens with a cache."""
    import jax
    import measuring
    import sampling as draws  # the script beside this one

    drawn = draws.Drawn('transformer', 12, 768, 12, tokens=1024, dtype='bfloat16')
    length = 256
    if job.tiny:
        drawn, length = draws.Drawn('transformer', 1, 16, 2, tokens=16, dtype='float32'), 4
    for batch in (1,) if job.tiny else (1, 64):
        what = f'{length} tokens, batch {batch}'
        with job.rows.trying(what, OURS, drawn.dtype):
            cached, _, parameters, _ = draws.ours(drawn, length, batch)
            seeds = iter(range(10_000))
            cached(next(seeds))  # compiles
            runners = {OURS: lambda cached=cached, seeds=seeds: cached(next(seeds))}
            with job.rows.trying(what, EAGER, drawn.dtype):
                measuring.import_torch()
                theirs = draws.peers(drawn, length, batch)[0]
                theirs(0)
                runners[EAGER] = lambda theirs=theirs: theirs(0)
            seconds = measuring.alternate(runners, 1 if job.tiny else 5)
            reached = draws.bytes_a_token(drawn, parameters, length, batch) * length
            bandwidth = draws.BANDWIDTH.get(jax.devices()[0].device_kind)
            for by, times in seconds.items():
                median = statistics.median(times)
                figures = {'ms': median * 1e3, 'examples_per_s': batch / median}
                note = f'{median / length * 1e3:.3f} ms a token'
                if by != OURS:
                    figures['ratio'] = measuring.ratios(seconds[OURS], times)
                elif bandwidth:
                    figures['share_of_bandwidth'] = reached / median / bandwidth
                    note += f', {figures["share_of_bandwidth"]:.3f} of the memory bandwidth'
                job.rows.add(what, by, drawn.dtype, **figures, note=note)
        free()


def nearest(job: Job) -> None:
    """Measures the nearest-code search, and compares codes with those found in float64."""
    import jax
    import measuring
    import numpy as np

    from vq_jax.ops.nearest import nearest_code

    n, k, d = (64, 16, 4) if job.tiny else (65_536, 16_384, 256)
    rng = np.random.default_rng(0)
    z, codebook = (rng.normal(size=shape).astype(np.float32) for shape in ((n, d), (k, d)))
    what, dtype = f'nearest of {k:,} codes, {n:,} x {d}', 'float32'
    arguments = jax.device_put((z, codebook))
    search = jax.jit(nearest_code).lower(*arguments).compile()
    codes = np.asarray(search(*arguments))
    few = np.float64(z[:256])
    exact = np.argmin(
        np.square(np.float64(codebook)).sum(1) - 2 * few @ np.float64(codebook.T), axis=1
    )  # less what is the same for all codes
    wrong = int(np.sum(codes[: len(few)] != exact))
    if wrong > len(few) // 100:
        raise RuntimeError(f'{wrong} of {len(few)} codes are others than in float64')
    runners = {OURS: lambda: jax.block_until_ready(search(*arguments))}
    notes = {OURS: f'{len(few) - wrong} of {len(few)} as in float64'}
    with job.rows.trying(what, EAGER, dtype):
        torch = measuring.import_torch()
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        theirs = [torch.from_numpy(x).to(device) for x in (z, codebook)]
        found = torch.cdist(*theirs).argmin(1).cpu().numpy()
        notes[EAGER] = f'cdist and argmin; {np.mean(found == codes):.5f} of the codes are ours'

        def search_theirs():
            torch.cdist(*theirs).argmin(1)
            if device == 'cuda':
                torch.cuda.synchronize()

        runners[EAGER] = search_theirs
    seconds = measuring.alternate(runners, 1 if job.tiny else 7)
    for by, times in seconds.items():
        median = statistics.median(times)
        tflops = 2 * n * k * d / median / 1e12
        figures = {'ms': median * 1e3, 'examples_per_s': n / median, 'tflops': tflops}
        if by == OURS:
            # The search asks for products of float32 as they are.
            peak = measuring.PEAK_TFLOPS.get(jax.devices()[0].device_kind, {}).get('float32')
            figures['share_of_peak'] = tflops / peak if peak else None
            figures['memory_mib'] = search.memory_analysis().temp_size_in_bytes // 2**20
            figures['waits'] = measuring.host_waits(search.as_text())
        else:
            figures['ratio'] = measuring.ratios(seconds[OURS], times)
        job.rows.add(what, by, dtype, **figures, note=notes[by])


def repeat(job: Job) -> None:
    """Makes ten steps twice from one state, and compares what was learned bit for bit."""
    import jax
    import measuring

    for name in ('vqvae', 'gpt'):
        what, dtype = f'ten steps of {name} twice', DTYPES[-1 if job.tiny else 0]
        with job.rows.trying(what, OURS, dtype):
            config = config_of(name, dtype, job.tiny)
            ours = measuring.Ours(config, images_of(config))
            start = jax.tree.map(jax.numpy.copy, ours.state)  # a step donates its state
            ended, seconds = [], 0.0
            for _ in range(2):
                ours.state = jax.tree.map(jax.numpy.copy, start)
                before = time.perf_counter()
                ours.run(10)
                seconds = (time.perf_counter() - before) / 10
                ended.append(host(ours.state.replace(frozen=None)))
            count = check_equal(*ended)
            job.rows.add(what, OURS, dtype, ms=seconds * 1e3, note=f'{count} arrays are equal bit for bit')
        free()


def host(state):
    """The arrays of a state by name, random keys as numbers."""
    import jax
    import numpy as np

    def array(x):
        key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if key else x)

    return {jax.tree_util.keystr(path): array(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}


def check_equal(a, b):
    """How many arrays there are; raises `RuntimeError` if two of a name differ in a bit."""
    different = [name for name in a.keys() | b.keys() if a[name].tobytes() != b[name].tobytes()]
    if different:
        raise RuntimeError(f'{len(different)} of {len(a)} arrays differ, {min(different)} for one')
    return len(a)


def short_run(job):
    """The config of a run of twenty steps with a checkpoint after ten."""
    config = config_of('vqvae', 'float32', job.tiny, **data_of(job))
    config.update(steps=20, log_every=10, eval_every=20, checkpoint_every=10, best_metric=None)
    config.data.eval_split = 'test[:64]'
    return config


def resume_begin(job: Job) -> None:
    """Trains twenty steps."""
    import vq_jax

    vq_jax.fit(vq_jax.Experiment.build(short_run(job)), job.runs / 'whole')


def resume_end(job: Job) -> None:
    """Goes on with those of another process from the checkpoint after ten, and compares bit for bit."""
    import vq_jax

    whole, resumed = job.runs / 'whole', job.runs / 'resumed'
    if not (whole / 'checkpoints' / '20').exists():
        raise LeftOutError('there is no run to compare with; ask for resume_begin before')
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / 'checkpoints' / '20')
    vq_jax.fit(vq_jax.Experiment.build(short_run(job)), resumed)
    count = check_equal(*(host(vq_jax.load(workdir).state) for workdir in (whole, resumed)))
    job.rows.add(
        'resumed after ten steps of vqvae', note=f'{count} arrays are equal bit for bit after twenty'
    )


def data_of(job):
    """The keys of a config that name the data: CIFAR-10 if it is there, else what is built in."""
    from vq_jax.data.sources.tfds import data_dir, find

    if job.tiny:
        return {'data.name': 'digits', 'data.image_size': 8, 'data.channels': 1}
    if find('cifar10', data_dir(job.data_dir)):
        return {'data.name': 'cifar10', 'data.data_dir': job.data_dir}
    return {'data.name': 'photos'}


def run(job: Job) -> None:
    """Trains a VQ-VAE and a prior over its codes, for the time that is left."""
    import vq_jax
    from vq_jax.config_files import find_config, get_config
    from vq_jax.media.sheets import grid, png
    from vq_jax.tasks import complete_config

    vqvae, prior = job.runs / 'vqvae', job.runs / 'prior'
    data, dtype = data_of(job), DTYPES[-1 if job.tiny else 0]
    with job.rows.trying('run of vqvae', OURS, dtype):
        train(job, 'vqvae', config_of('vqvae', dtype, job.tiny, **data), vqvae, 0.5 * job.left(), dtype)
        sheet = vq_jax.load(vqvae).evaluate().media['reconstructions']
        write_atomically(job.output / 'reconstructions.png', png(sheet.captioned()))
    with job.rows.trying('run of prior', OURS, dtype):
        config = complete_config(get_config(find_config('prior_cifar10')))
        depth, width, heads = (1, 16, 2) if job.tiny else (8, 512, 8)
        config.update_from_flattened_dict(
            {
                **data,
                'tokenizer.workdir': str(vqvae),
                'model.kind': 'transformer',
                'model.class_conditional': True,
                'transformer.depth': depth,
                'transformer.width': width,
                'transformer.heads': heads,
                'transformer.dropout': 0.1,
                'transformer.dtype': dtype,
                'optimizer.schedule': 'constant',  # so that the run can be made as long as there is time
                'optimizer.warmup_steps': 100,
                'optimizer.ema_decay': 0.999,
                'batch_size': 4 if job.tiny else 128,
            }
        )
        train(job, 'prior', config, prior, 0.85 * job.left(), dtype)
        samples = vq_jax.load(prior).sample(4 if job.tiny else 100)
        write_atomically(job.output / 'samples.png', png(grid(samples)))


def train(job, name, config, workdir, seconds, dtype):
    """Trains for so many seconds: first a few steps, which say how many there is time for."""
    import vq_jax

    start, few = time.monotonic(), 2 if job.tiny else 300
    config.update(steps=few, log_every=few // 2, eval_every=10**6, checkpoint_every=10**6)
    metrics = vq_jax.fit(vq_jax.Experiment.build(config), workdir)
    took, speed = time.monotonic() - start, speed_of(workdir)
    # What comes beside the steps is compiled by then, and takes about half as long again.
    beside = max(0.0, took - few * speed)
    more = 2 if job.tiny else int(0.9 * (seconds - took - 0.5 * beside) / speed)
    if more > 0:
        config.steps = few + more
        config.log_every = max(1, config.steps // 50)
        config.eval_every = max(1, config.steps // 4)
        metrics = vq_jax.fit(vq_jax.Experiment.build(config), workdir)
    shutil.copy(workdir / 'metrics.jsonl', job.output / f'{name}.jsonl')
    shown = ', '.join(f'{key} {value:.4g}' for key, value in metrics.items())
    note = f'{config.steps:,} steps of batch {config.batch_size} of {config.data.name}: {shown}'
    speed = speed_of(workdir)
    figures = {'ms': speed * 1e3, 'examples_per_s': config.batch_size / speed, 'metrics': metrics}
    job.rows.add(f'run of {name}', OURS, dtype, **figures, note=note)


def speed_of(workdir):
    """Seconds a step, as the log of a run said last."""
    import json

    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return [line['seconds_per_step'] for line in lines if line['split'] == 'speed'][-1]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the whole.

    Attributes:
        run: does it.
        weight: about the seconds that it takes; it has a share of the time in proportion.
        process: of toy sizes, parts with the same number share a process.
        xla_flags: for its process, beside those that are set.
    """

    run: Callable[[Job], None]
    weight: float
    process: int = 0
    xla_flags: str = ''


PARTS = {
    'vqvae': Part(functools.partial(steps, 'vqvae'), 60),
    'repeat': Part(repeat, 45, process=1, xla_flags=_DETERMINISTIC),
    'resume_begin': Part(resume_begin, 30, process=1, xla_flags=_DETERMINISTIC),
    'resume_end': Part(resume_end, 25, process=2, xla_flags=_DETERMINISTIC),
    'gpt': Part(functools.partial(steps, 'gpt'), 75),
    'dit': Part(functools.partial(steps, 'dit'), 75),
    'nearest': Part(nearest, 20),
    'sampling': Part(sampling, 35),
    'unet': Part(functools.partial(steps, 'unet'), 85),
    'vqgan': Part(functools.partial(steps, 'vqgan'), 110),
    'run': Part(run, 140),
}


def main():
    output = Path(_OUTPUT.value)
    runs = Path(_RUNS.value or output / 'runs')
    names = list(PARTS) if _PARTS.value is None else _PARTS.value
    if unknown := [name for name in names if name not in PARTS]:
        raise UserError(f'--parts names {unknown[0]}, and the parts are {", ".join(PARTS)}.')
    rows = Rows(output / 'rows.jsonl')
    if _SECONDS.value is not None:
        end = time.monotonic() + _SECONDS.value
        do(names, Job(rows, output, runs, _DATA_DIR.value, _TINY.value, end))
        return
    for flag, folder in ('output', output), ('runs', runs):
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f'--{flag} {folder} is not empty; give another.')
        folder.mkdir(parents=True, exist_ok=True)
    try:
        schedule(names, runs, rows, time.monotonic() + 60 * _MINUTES.value)
    finally:
        shown = table(rows.read())
        write_atomically(output / 'table.md', shown + '\n')
        print(shown, flush=True)
    if failures(rows.read()):
        sys.exit(1)


def do(names: list[str], job: Job) -> None:
    """Does parts in this process."""
    end_with(sys.stdin.fileno())
    cli.use_compilation_cache()
    import jax

    device = jax.devices()[0]
    versions = f'Python {platform.python_version()}, jax {jax.__version__}'
    backend = ' '.join(device.client.platform_version.split())
    kind = f'{jax.device_count()} x {device.device_kind}, {os.cpu_count()} cores'
    job.rows.add('machine', note=f'{kind}, {versions}, {backend}')
    for name in names:
        with job.rows.keeping_errors(name):
            PARTS[name].run(job)


def schedule(names: list[str], runs: Path, rows: Rows, end: float) -> None:
    """Does parts in processes, each with its share of the time until the end."""
    waiting = groups(names)
    while waiting:
        weights = [sum(PARTS[name].weight for name in group) for group in waiting]
        group = waiting.pop(0)
        seconds = share(end - time.monotonic() - _GRACE, weights)
        print(f'{", ".join(group)}: {seconds:.0f} s', file=sys.stderr, flush=True)
        what = ' and '.join(group)
        if seconds < 5:
            rows.add(what, state='left out', reason='no time was left')
            continue
        status = in_process(group, seconds, runs)
        if status is None:
            rows.give_up(what, f'not done when the time of the part, {seconds:.0f} s, was over')
        elif status:
            rows.give_up(what, f'the process ended with status {status}')


def groups(names: list[str]) -> list[list[str]]:
    """The parts of each process."""
    if not _TINY.value:
        return [[name] for name in names]
    numbers = dict.fromkeys(PARTS[name].process for name in names)
    return [[name for name in names if PARTS[name].process == number] for number in numbers]


def in_process(group: list[str], seconds: float, runs: Path) -> int | None:
    """The exit status of a process that does parts; None if it was ended when its time was over."""
    flags_of_all = [f'--output={_OUTPUT.value}', f'--runs={runs}', f'--tiny={_TINY.value}']
    if _DATA_DIR.value:
        flags_of_all.append(f'--data_dir={_DATA_DIR.value}')
    project = Path(__file__).resolve().parents[1]
    environment = os.environ | {
        # Of blanks alone, XLA takes the first for the name of a file.
        'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {PARTS[group[0]].xla_flags}'.strip(),
        'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',  # PyTorch needs memory beside us
        'JAX_PLATFORMS': _with_cpu(os.environ.get('JAX_PLATFORMS', '')),
        'JAX_COMPILATION_CACHE_DIR': os.environ.get('JAX_COMPILATION_CACHE_DIR') or str(runs / 'compiled'),
        'PYTHONPATH': f'{project}{os.pathsep}{os.environ.get("PYTHONPATH", "")}',
    }
    command = [sys.executable, __file__, f'--parts={",".join(group)}', f'--seconds={seconds}', *flags_of_all]
    # It ends with this process, which closes its input, and is the leader of a group of its own, with which
    # what it started ends.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=sys.stderr, env=environment, start_new_session=True
    )
    try:
        return process.wait(seconds + _GRACE)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:  # else its number may be that of another process by now
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _with_cpu(platforms: str) -> str:
    """What JAX_PLATFORMS names, and CPUs, which count operations (see `count_flops`)."""
    named = platforms.split(',') if platforms else []
    return ','.join([*named, 'cpu'] if named and 'cpu' not in named else named)


if __name__ == '__main__':
    cli.main(main, required=('output',))

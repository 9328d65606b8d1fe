"""Which TPU slices the ImageNet configs fit, and what a training step takes there.

    pip install "jax[tpu]" -c constraints.txt
    python benchmarks/topologies.py [--only vqgan_imagenet.py:f16_1024,v5e:4x4]

Compiles the training step of each config for each slice in `ROWS` (see `vq_jax.topology`): without a TPU, on
one core, from minutes to half an hour each. What is done is kept in `topologies.json` beside this file, so
that it goes on after a stop; `docs/slices.md` is written anew after each. Where a config is built on the run
of another, an untrained one stands in.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import platform
import tempfile
from pathlib import Path

import jax
from absl import flags

from vq_jax import cli
from vq_jax.config_files import get_config
from vq_jax.errors import UserError
from vq_jax.files import write_atomically
from vq_jax.spec import Spec
from vq_jax.tasks import complete_config, make_task
from vq_jax.topology import compile_step
from vq_jax.training.checkpoints import Checkpoints
from vq_jax.training.config import to_json
from vq_jax.training.run_dir import (
    CHECKPOINTS,
    DataFacts,
    facts_to_seal,
    write_config,
    write_data_facts,
)
from vq_jax.training.state import init_state

ROOT = Path(__file__).parent.parent
RECORDS = Path(__file__).with_suffix('.json')
PAGE = ROOT / 'docs' / 'slices.md'
FOLDER = 'configs/image'
CLASSES = 1000
# The configs of the runs that others are built on.
BUILT_ON = {
    'runs/kl_f8_imagenet': 'kl_f8_imagenet.py',
    'runs/vqgan_f16_16384': 'vqgan_imagenet.py:f16_16384',
}
CONFIGS = (
    'vqvae_imagenet.py',
    'vqvae2_imagenet.py',
    'ldm_imagenet.py',
    'kl_f8_imagenet.py',
    'vqgan_imagenet.py:f16_1024',
    'vqgan_imagenet.py:f16_16384',
    'vqgan_imagenet.py:f8',
    'prior_imagenet.py:b',
    'prior_imagenet.py:l',
    'prior_imagenet.py:xl',
    'prior_imagenet.py:xxl',
)
# Each config on one slice, two that compile quickly on others too, and one on a whole pod.
OTHERS = ('v4:2x2x4', 'v6e:2x4', 'v5p:2x2x1')
QUICK = ('vqvae_imagenet.py', 'prior_imagenet.py:b')
ROWS = (
    *((config, 'v5e:4x4') for config in CONFIGS),
    *((config, topology) for topology in OTHERS for config in QUICK),
    ('vqvae_imagenet.py', 'v5e:16x16'),
)
NAMES = tuple(zip(*ROWS, strict=True))  # configs, and slices

_ONLY = flags.DEFINE_list('only', None, 'Names of configs, of slices, or of both, to compile no others.')

HEAD = """# Which TPU slices the ImageNet configs fit

A training step of each config, at its own batch and with all losses, compiled for slices by
`python benchmarks/topologies.py` (see [Many devices](pods.md#does-it-fit)). Nothing here was run on a TPU.
For each chip: the memory that the step needs, of what programs may use; operations; bytes to and from HBM,
and those that the compiler counts, vector memory among them; the roofline's time for operations and HBM,
and the share of the chip's peak that it allows; what chips send each other.

| config | slice | memory, GiB | fits | TFLOP | HBM, GB | accessed, GB | roofline, ms | of peak | sent |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def wanted(row):
    """Whether --only leaves a row in."""
    only = set(_ONLY.value or ())
    return all(name in only or not only & set(names) for name, names in zip(row, NAMES, strict=True))


def load_config(name):
    """The full config of a file of `FOLDER`, and the spec of its images."""
    config = complete_config(get_config(str(ROOT / FOLDER / name)))
    size = config.data.image_size
    return config, Spec('image', (size, size, config.data.channels))


def names(name):
    """What the config may be called, as in `launch_tpu.sh`: also without the argument that is its default."""
    file, _, argument = name.partition(':')
    is_default = bool(argument) and load_config(file)[0] == load_config(name)[0]
    return [name.replace('.py', ''), *([Path(file).stem] if is_default else [])]


def make_untrained_run(name, folder):
    """Writes the run of a config before its first step, as far as inference needs it."""
    config, spec = load_config(name)
    task = make_task(config, spec, CLASSES)
    state = init_state(task.init, jax.random.key(0), spec).for_inference()
    facts = DataFacts(spec=spec, num_classes=CLASSES)
    sealed = {'config': to_json(config), 'data': facts_to_seal(facts), 'inference_only': True}
    with contextlib.closing(Checkpoints(folder / CHECKPOINTS, sealed=sealed)) as checkpoints:
        checkpoints.save(0, state, {}, None)
    write_data_facts(folder, facts)
    write_config(folder, to_json(config))


def compile_row(name, topology):
    """The record of a config on a slice."""
    config, spec = load_config(name)
    with tempfile.TemporaryDirectory() as folder:
        for section in {'latent', 'tokenizer'} & set(config):
            if run := config[section].workdir:
                make_untrained_run(BUILT_ON[run], Path(folder))
                config[section].workdir = folder
            if section == 'tokenizer':  # whose codes are written first, as that config says
                config.data.name = 'codes:'
        step = compile_step(config, spec, topology, num_classes=CLASSES)
    return {
        **dataclasses.asdict(step),
        'topology': topology,
        'config': f'{FOLDER}/{name}',
        'names': names(name),
        'usable': step.topology.chip.usable,
        'accelerator_type': step.topology.accelerator_type,
        'roofline_seconds': step.roofline_seconds,
        'share_of_peak': step.share_of_peak,
        'jax': jax.__version__,
        'libtpu': importlib.metadata.version('libtpu'),
        'python': platform.python_version(),
        'date': str(datetime.date.today()),
    }


def read_records():
    return json.loads(RECORDS.read_text()) if RECORDS.exists() else []


def page(records):
    """The table of all rows."""
    done = {(r['config'].removeprefix(f'{FOLDER}/'), r['topology']): r for r in records}
    lines = []
    for row in filter(done.get, ROWS):
        (name, topology), record = row, done[row]
        slice_ = f'{topology} ({record["accelerator_type"]})'
        gib = 2**30
        memory = f'{record["memory"] / gib:.2f} of {record["usable"] / gib:.2f}'
        if not record['fits'] and record['flops'] is None:
            lines.append(f'| `{name}` | {slice_} | at least {memory} | no | | | | | | |')
            continue
        sent = ', '.join(
            f'{c["count"]:,} {c["kind"]} of {c["bytes"] / 2**20:,.0f} MiB' for c in record['collectives']
        )
        least = 'at least ' if record['loops'] else ''
        lines.append(
            f'| `{name}` | {slice_} | {memory} | {"yes" if record["fits"] else "no"} | '
            f'{record["flops"] / 1e12:.3g} | {record["hbm_bytes"] / 1e9:.3g} | '
            f'{least}{record["bytes_accessed"] / 1e9:.3g} | '
            f'{record["roofline_seconds"] * 1e3:.3g} | {record["share_of_peak"]:.0%} | {sent} |'
        )
    for config in CONFIGS:
        if slices := [topology for name, topology in ROWS if name == config and (name, topology) not in done]:
            lines.append(f'| `{config}` | {", ".join(slices)} | not run | | | | | | | |')
    versions = sorted({f'jax {r["jax"]}, libtpu {r["libtpu"]}, Python {r["python"]}' for r in records})
    days = sorted({r['date'] for r in records})
    minutes = [f'{r["compile_seconds"] / 60:.0f}' for r in records]
    tail = ''
    if records:
        when = ' to '.join(dict.fromkeys((days[0], days[-1])))
        took = ' to '.join(dict.fromkeys((min(minutes, key=int), max(minutes, key=int))))
        tail = (
            f'\nCompiled with {"; ".join(versions)}, {when}, in {took} '
            'minutes of an x86-64 core each. Of what a loop does, products and bytes of HBM count as often '
            'as it runs, and all else once.\n'
        )
    return HEAD + '\n'.join(lines) + '\n' + tail


def main():
    jax.config.update('jax_platforms', 'cpu')
    if unknown := set(_ONLY.value or ()) - {name for names in NAMES for name in names}:
        raise UserError(
            f'--only names {", ".join(sorted(unknown))}; choose among CONFIGS and the slices in ROWS.'
        )
    for name, topology in filter(wanted, ROWS):
        records = read_records()
        if any((r['config'], r['topology']) == (f'{FOLDER}/{name}', topology) for r in records):
            continue
        print(f'{name} on {topology} ...', flush=True)
        record = compile_row(name, topology)
        print(f'  fits: {record["fits"]}, {record["compile_seconds"]:.0f} s', flush=True)
        write_atomically(RECORDS, json.dumps([*read_records(), record], indent=1) + '\n')
        write_atomically(PAGE, page(read_records()))
    write_atomically(PAGE, page(read_records()))


if __name__ == '__main__':
    cli.main(main)

"""Starts whole runs as a user does, and compares what they leave."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import vq_jax
from vq_jax.tasks import default_config

ROOT = Path(__file__).parent.parent
CPU = {'JAX_PLATFORMS': 'cpu'}


def several(devices):
    """The environment of a process that has so many."""
    # Which is no part of the key of what is compiled.
    count = f'--xla_force_host_platform_device_count={devices}'
    return {'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} {count}'}


def start(arguments, *, module='vq_jax.train', devices=1, cwd=ROOT, signalled=None):
    """Starts a command; `signalled` is a file or folder, and a signal that it gets when that is complete."""
    environment = os.environ | CPU | several(devices)
    if signalled:
        path, number = signalled
        hooks = f'{ROOT / "tests" / "hooks"}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
        environment |= {'PYTHONPATH': hooks, 'SIGNAL_AT': str(path), 'SIGNAL': str(int(number))}
    return subprocess.Popen(
        [sys.executable, '-m', module, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, *, status=0):
    """What it printed; its exit status must be the given one, if any is."""
    output, errors = process.communicate()
    assert status is None or process.returncode == status, output + errors
    return output, errors


# Reads the libraries, and then runs the commands that it is told, each in a process of its own.
FORKS = """
import gc, json, os, runpy, sys
import orbax.checkpoint, vq_jax.data.sources.builtin, vq_jax.fitting, vq_jax.run  # nothing is computed yet

gc.freeze()
gc.set_threshold(100_000)  # as in tests/conftest.py
for line in sys.stdin:
    if not (pid := os.fork()):
        break
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    sys.exit()
module, sys.argv[1:], cwd, environment, *files = json.loads(line)
for descriptor, file in enumerate(files):
    os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), descriptor)
os.chdir(cwd)
os.environ.update(environment)
runpy.run_module(module, run_name='__main__', alter_sys=True)
"""


@functools.cache
def forks(environment):
    """A process that does so in the given environment, until the tests end."""
    return subprocess.Popen(
        [sys.executable, '-c', FORKS],
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(arguments, *, status=0, module='vq_jax.train', devices=1, cwd=ROOT, signalled=None):
    """What a command prints, as `start` and `finish`.

    Unless it is to get a signal, it is a fork of a process that has read the libraries, because to read them
    takes most of the time of many commands.
    """
    if signalled:
        process = start(arguments, module=module, devices=devices, cwd=cwd, signalled=signalled)
        return finish(process, status=status)
    environment = os.environ | CPU
    del environment['PYTEST_CURRENT_TEST']
    server = forks(frozenset(environment.items()))
    with tempfile.TemporaryDirectory() as folder:
        files = [f'{folder}/output', f'{folder}/errors']
        command = [module, [str(word) for word in arguments], str(cwd), several(devices), os.devnull, *files]
        print(json.dumps(command), file=server.stdin, flush=True)
        ended = int(server.stdout.readline())
        output, errors = (Path(file).read_text() for file in files)
    assert status is None or ended == status, output + errors
    return output, errors


def refused(module, *commands, shows=False):
    """The errors of a command that refuses each of several lists of arguments.

    What it shows beside them is nothing, unless it may show how far it has come.
    """
    shown, errors = zip(*(run(words, module=module, status=2) for words in commands), strict=True)
    assert shows or not any(shown)
    return errors


def small_gan(steps=2):
    """The config of a run of the fewest parts: no codebook, no best checkpoint, and four images a step."""
    config = default_config('gan')
    config.steps = steps
    config.batch_size = 4
    config.best_metric = None
    config.log_every = config.eval_every = config.checkpoint_every = 2
    config.data.image_size = 8
    config.data.eval_split = 'test[:4]'
    config.generator.channels = config.discriminator.channels = 2
    return config


def wait_for(path, process, size=0):
    """Waits for a file of a process, of some bytes at least, however long that takes."""
    while not path.exists() or path.stat().st_size < size:
        assert process.poll() is None, f'it ended without {path}'
        time.sleep(0.05)


def arrays(workdir, step=None):
    """The state of a run, the last one or that of a step; its random keys as numbers."""

    def array(x):
        key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if key else x)

    return jax.tree.map(array, vq_jax.load(workdir, step).state)


def assert_equal_runs(a, b):
    jax.tree.map(np.testing.assert_array_equal, arrays(a), arrays(b))
    assert logged(a) == logged(b)


def logged(workdir):
    """The log without the lines that measure time."""
    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return [line for line in lines if line['split'] != 'speed']


# A few steps of plain gradient descent, each of which is saved and logged. Adam divides each gradient by
# its own size: where one is zero but for rounding, as that of a transformer's key biases is, it makes whole
# steps of the rounding.
DESCENT = [
    '--config.steps=4',
    '--config.log_every=1',
    '--config.eval_every=4',
    '--config.checkpoint_every=1',
    '--config.keep_checkpoints=4',
    '--config.optimizer.name=sgd',
    '--config.optimizer.learning_rate=0.1',
    '--config.optimizer.schedule=constant',
    '--config.optimizer.warmup_steps=0',
]


def assert_same_descent(a, b, but_for=()):
    """Two runs with `DESCENT` differ by the order in which floats are added, and by no more.

    Named metrics may differ otherwise.

    The bound of an array is a thousandth of what has changed in it since the first step, and a few units in
    its last digit. The momentum of plain descent is the sum of the gradients, and is compared too.
    """

    def compare(path, x, y, first):
        if not np.issubdtype(x.dtype, np.floating):
            return np.testing.assert_array_equal(x, y, jax.tree_util.keystr(path))
        bound = 1e-3 * np.abs(x - first).max(initial=0) + 3e-7 * np.abs(x).max(initial=0) + 1e-7
        np.testing.assert_allclose(x, y, 0, bound, err_msg=jax.tree_util.keystr(path))

    jax.tree_util.tree_map_with_path(compare, arrays(a, 4), arrays(b, 4), arrays(a, 1))
    for x, y in zip(logged(a), logged(b), strict=True):
        assert x.pop('split') == y.pop('split')
        # Of a warning, what stands before its numbers.
        assert x.pop('text', '').partition(':')[0] == y.pop('text', '').partition(':')[0]
        x, y = ({name: value for name, value in line.items() if name not in but_for} for line in (x, y))
        assert x == pytest.approx(y, rel=1e-3, abs=1e-5)

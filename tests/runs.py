"""Starts whole runs as a user does, and compares what they leave."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import vq_jax
from vq_jax.tasks import default_config

ROOT = Path(__file__).parent.parent


def start(arguments, *, module='vq_jax.train', devices=1, cwd=ROOT, signalled=None):
    """Starts a command; `signalled` is a file or folder, and a signal that it gets when that is complete."""
    environment = os.environ | {
        'JAX_PLATFORMS': 'cpu',
        # XLA would end a process one of whose devices was 40 seconds late for the others.
        'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={devices} '
        '--xla_cpu_collective_call_terminate_timeout_seconds=3600',
    }
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


def run(arguments, **options):
    status = options.pop('status', 0)
    return finish(start(arguments, **options), status=status)


# Reads the libraries, and then starts the command once for each list of arguments, in a process of its own.
FORKS = """
import gc, json, os, runpy, sys, traceback
import vq_jax.run, vq_jax.fitting  # and with them nearly everything; nothing is computed yet

module = sys.argv[1]
gc.freeze()
for arguments in json.load(sys.stdin):
    if not (pid := os.fork()):
        status, sys.argv[1:] = 1, arguments
        try:
            runpy.run_module(module, run_name='__main__', alter_sys=True)
        except SystemExit as ended:
            status = ended.code
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(status, end='\\0', file=sys.stderr, flush=True)
"""


def refused(module, *commands, shows=False):
    """The errors of a command that refuses each of several lists of arguments.

    What it shows beside them is nothing, unless it may show how far it has come.

    It is started for each as `run` does, but that all share the time that it takes to read the libraries.
    """
    process = subprocess.run(
        [sys.executable, '-c', FORKS, module],
        input=json.dumps([[str(word) for word in command] for command in commands]),
        cwd=ROOT,
        env=os.environ | {'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
    )
    *ended, rest = process.stderr.split('\0')
    assert process.returncode == 0 and len(ended) == len(commands) and not rest, process.stderr
    assert shows or not process.stdout
    errors, statuses = [text[:-1] for text in ended], [text[-1:] for text in ended]
    assert set(statuses) == {'2'}, process.stderr
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


def assert_same_descent(a, b):
    """Two runs with `DESCENT` differ by the order in which floats are added, and by no more.

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
        assert x == pytest.approx(y, rel=1e-3, abs=1e-5)

"""Starts whole runs as a user does, and compares what they leave."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

import vq_jax

ROOT = Path(__file__).parent.parent


def start(arguments, *, module='vq_jax.train', devices=1, cwd=ROOT):
    environment = os.environ | {
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={devices}',
    }
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
    output, errors = process.communicate(timeout=240)
    assert status is None or process.returncode == status, output + errors
    return output, errors


def run(arguments, **options):
    status = options.pop('status', 0)
    return finish(start(arguments, **options), status=status)


# Reads the libraries, and then starts the command once for each list of arguments, in a process of its own.
FORKS = """
import gc, json, os, runpy, sys, traceback
import vq_jax.run, vq_jax.training.loop  # and with them nearly everything; nothing is computed yet

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
        timeout=240,
    )
    *ended, rest = process.stderr.split('\0')
    assert process.returncode == 0 and len(ended) == len(commands) and not rest, process.stderr
    assert shows or not process.stdout
    errors, statuses = [text[:-1] for text in ended], [text[-1:] for text in ended]
    assert set(statuses) == {'2'}, process.stderr
    return errors


def wait_for(path, process):
    for _ in range(2400):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.05)
    raise AssertionError(f'{path} never came')


def arrays(workdir):
    """The state of a run; its random keys as numbers."""

    def array(x):
        key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if key else x)

    return jax.tree.map(array, vq_jax.load(workdir).state)


def assert_equal_runs(a, b):
    jax.tree.map(np.testing.assert_array_equal, arrays(a), arrays(b))
    assert logged(a) == logged(b)


def logged(workdir):
    """The log without the lines that measure time."""
    lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return [line for line in lines if line['split'] != 'speed']


def assert_close(a, b, rtol=1e-3, atol=2e-5):
    """Parameters and what is learned beside them are equal but for the order in which floats are added."""
    a, b = arrays(a), arrays(b)
    assert a.step == b.step
    for name in ('generator', 'discriminator') if hasattr(a, 'generator') else ('',):
        x, y = (getattr(state, name) if name else state for state in (a, b))
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol),
            (x.params, x.variables),
            (y.params, y.variables),
        )

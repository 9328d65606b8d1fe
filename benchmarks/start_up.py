"""How long whole processes take to start: imports, `--help`, and training to the end of its first step.

    python benchmarks/start_up.py [--config quickstart] [--rounds 5]

The processes alternate, so that whatever else the machine does hits all of them; medians are printed, with
the least and the most. Processor time is of all threads; where it is less than the time that passed, the
machine did something else meanwhile. Training is the command itself, which is ended when it says that the
first step is made. `warm` finds all that it compiles in the compilation cache, which a start that does not
count has filled; `cold` begins with an empty one. The data set is prepared before.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
from absl import flags
from measuring import cores

from vq_jax import cli

_CONFIG = flags.DEFINE_string('config', 'quickstart', 'The experiment that is trained.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'How often each process is started.')
_COLD = flags.DEFINE_integer('cold', 1, 'In how many of the rounds training begins with an empty cache too.')

_FIRST_STEP = b'compiled, and one step made'


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        _train(folder, 'warm')
        starts = {
            'python -c pass': lambda: _run('-c', 'pass'),
            'import jax': lambda: _run('-c', 'import jax'),
            'import jax, flax.linen, optax': lambda: _run('-c', 'import jax, flax.linen, optax'),
            'import vq_jax': lambda: _run('-c', 'import vq_jax'),
            'vq_jax.train --help': lambda: _run('-m', 'vq_jax.train', '--help', until=b'--helpfull'),
            'first step, warm': lambda: _train(folder, 'warm'),
        }
        seconds = {name: [] for name in starts}
        for round in range(_ROUNDS.value):
            for name, start in starts.items():
                seconds[name].append(start())
            if round < _COLD.value:
                seconds.setdefault('first step, cold', []).append(_train(folder, f'cold{round}'))
    print(f'{platform.machine()}, {cores()} cores, Python {platform.python_version()}, jax {jax.__version__}')
    for name, times in seconds.items():
        passed, used = (
            f'{statistics.median(column):6.2f} s ({min(column):.2f} to {max(column):.2f})'
            for column in zip(*times, strict=True)
        )
        print(f'{name:30} {passed}, of the processor {used}')


def _train(folder, cache):
    """Trains to the end of the first step, with a compilation cache in a folder."""
    workdir = tempfile.mkdtemp(dir=folder)
    words = (f'--config={_CONFIG.value}', f'--workdir={workdir}')
    return _run(
        '-m', 'vq_jax.train', *words, until=_FIRST_STEP, JAX_COMPILATION_CACHE_DIR=str(folder / cache)
    )


def _run(*words, until=None, **environment):
    """Seconds that pass, and those of the processor, of Python, until it ends or prints something."""
    environment = {**os.environ, 'PYTHONUNBUFFERED': '1', **environment}
    environment.pop('PYTHONDONTWRITEBYTECODE', None)  # compiled modules are kept, as they are by default
    start, seen = time.perf_counter(), until is None
    process = subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if until and until in line:
            seen = True
            process.kill()
            break
    _, status, used = os.wait4(process.pid, 0)
    passed = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # or `Popen` would wait for it too
    process.stdout.close()
    if not seen or (until is None and process.returncode):
        raise RuntimeError(f'{" ".join(words)} failed:\n{b"".join(lines).decode()}')
    return passed, used.ru_utime + used.ru_stime


if __name__ == '__main__':
    cli.main(main)

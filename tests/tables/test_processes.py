"""Where rows are run, and what becomes of them when they are stopped."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.runs import wait_for
from vq_jax.errors import UserError
from vq_jax.tables.processes import Slot, Workers, _share, find_slots


def test_places_on_this_machine():
    (slot,) = find_slots(1)
    assert slot.environment == {} and slot.hardware.startswith(f'{len(os.sched_getaffinity(0))} ')


def test_shares():
    assert [p.hardware[-18:] for p in _share(2, 'cpu', 'cpu', 1, None)] == [', shared by 2 rows'] * 2
    (whole,) = _share(1, 'gpu', 'H100', 4, '0,1,2,3')
    assert whole == Slot('4 H100', {})
    several = _share(3, 'gpu', 'H100', 4, None)
    assert several == [Slot('1 H100', {'CUDA_VISIBLE_DEVICES': str(i)}) for i in range(3)]
    named = _share(2, 'gpu', 'H100', 2, '5,GPU-7')
    assert [slot.environment['CUDA_VISIBLE_DEVICES'] for slot in named] == ['5', 'GPU-7']
    with pytest.raises(UserError, match='--jobs is 3, but there are 2 GPUs; give 2 or fewer'):
        _share(3, 'gpu', 'H100', 2, None)
    with pytest.raises(UserError, match='a process takes all of 4 TPU v4; leave --jobs out'):
        _share(2, 'tpu', 'TPU v4', 4, None)


SLEEPER = """
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path(sys.argv[1], 'told').touch()
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1], 'ready').touch()
while not pathlib.Path(sys.argv[1], 'told').exists() or len(sys.argv) > 2:
    time.sleep(0.01)
sys.exit(7)
"""


@pytest.fixture
def sleeper(tmp_path, monkeypatch):
    """A module that runs until it is told to stop, or even longer."""
    (tmp_path / 'sleeper.py').write_text(SLEEPER)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    return ['sleeper', str(tmp_path)]


@pytest.mark.parametrize('stubborn, signals, status', [(False, 1, 7), (True, 2, -signal.SIGKILL)])
def test_a_signal_is_passed_on_once_and_the_second_kills(sleeper, tmp_path, stubborn, signals, status):
    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell started the tests in the background

    def tell():
        for name in ('ready', 'told')[:signals]:
            while not (tmp_path / name).exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=tell, daemon=True).start()
    with Workers() as workers, workers.alone(tmp_path / '.row.lock') as lock:
        arguments = [*sleeper, 'stubborn'] if stubborn else sleeper
        assert workers.run(arguments, Slot('here', {}), tmp_path / 'log', lock) == status
        assert workers.stopping
    assert signal.getsignal(signal.SIGINT) is before


def test_the_environment_and_the_output(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    (tmp_path / 'shows.py').write_text("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
    with Workers() as workers, workers.alone(tmp_path / '.row.lock') as lock:
        for number in '32':
            slot = Slot('', {'CUDA_VISIBLE_DEVICES': number})
            assert workers.run(['shows'], slot, tmp_path / 'log', lock) == 0
    assert (tmp_path / 'log').read_text() == '3\n2\n'


def test_a_process_ends_with_whoever_started_it(sleeper, tmp_path):
    """It holds the lock until then, so that nobody writes beside it."""
    script = (
        'import sys, pathlib\nfrom vq_jax.tables.processes import Slot, Workers\n'
        'with Workers() as workers, workers.alone(pathlib.Path(sys.argv[1], ".row.lock")) as lock:\n'
        '    workers.run(["sleeper", sys.argv[1]], Slot("", {}), None, lock)\n'
    )
    parent = subprocess.Popen([sys.executable, '-c', script, str(tmp_path)])
    wait_for(tmp_path / 'ready', parent)
    parent.kill()
    parent.wait()
    with Workers() as workers, workers.alone(tmp_path / '.row.lock'):
        assert not (tmp_path / 'told').exists()  # which alone would have ended it otherwise

"""The benchmark of a GPU does all its parts in toy sizes, and its rows, shares and peaks are right."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from tests.runs import CPU, ROOT


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')


def gpu(*flags):
    """What the script prints, and its exit status."""
    command = [sys.executable, ROOT / 'benchmarks' / 'gpu.py', *flags]
    environment = os.environ | CPU | {'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr, done.returncode


def test_rows(tmp_path):
    from rows import LeftOutError, Rows, failures, table

    rows = Rows(tmp_path / 'rows.jsonl')
    assert rows.read() == []
    rows.add('step', dtype='float32', ms=2000.0, note='early')
    with rows.trying('step', 'torch', 'float32'):
        raise LeftOutError('it is not installed')
    with rows.trying('search'):
        # As another process sees them, before the end.
        assert [row['state'] for row in Rows(rows.path).read()] == ['ok', 'left out', 'begun']
        raise MemoryError('no room\nfor it')
    rows.add(
        'step', dtype='float32', ms=1234.5, tflops=1.5, share_of_peak=0.25, memory_mib=1024, note='a | b'
    )
    rows.add('draw', 'torch', ms=1.0, ratio=(1.5, 1.0, 2.0))
    rows.add('walk', tflops=1.0, share_of_peak=None)
    assert table(rows.read()).splitlines()[2:] == [
        '| step | float32 | vq_jax | 1,234.50 |  | 1.50 | 0.250 | 1,024 |  | a / b |',
        '| step | float32 | torch |  |  |  |  |  |  | left out: it is not installed |',
        '| search |  | vq_jax |  |  |  |  |  |  | failed: MemoryError: no room |',
        '| draw |  | torch | 1.00 |  |  |  |  | 1.50 (1.00 to 2.00) |  |',
        '| walk |  | vq_jax |  |  | 1.00 | unknown |  |  |  |',
    ]
    assert [row['what'] for row in failures(rows.read())] == ['search']
    with rows.trying('search', 'torch'):
        raise RuntimeError  # of a peer
    assert len(failures(rows.read())) == 1


def test_rows_of_a_process_that_was_ended(tmp_path):
    from rows import Rows, failures

    rows = Rows(tmp_path / 'rows.jsonl')
    rows.add('step')
    rows.add('step', 'torch', state='begun')
    rows.give_up('vqvae', 'it took too long')
    assert [(row['by'], row['state']) for row in rows.read()] == [('vq_jax', 'ok'), ('torch', 'failed')]
    assert failures(rows.read()) == []  # what was going on was theirs
    rows.give_up('vqvae', 'it took too long')
    (row,) = failures(rows.read())
    assert row['what'] == 'vqvae' and row['reason'] == 'it took too long'


def test_shares_of_the_time():
    from rows import share

    weights, left = [10.0, 30.0, 60.0], 600.0
    assert share(left, weights) == 60.0
    assert share(left, weights[1:]) == 200.0  # what the first did not use is shared
    for i in range(3):
        left -= share(left, weights[i:])
    assert left == pytest.approx(0.0)


def test_peaks():
    from measuring import peak_of

    assert peak_of('NVIDIA H200', 'bfloat16') == (989, 'bfloat16')
    assert peak_of('NVIDIA H200', 'float32') == (494, 'tfloat32')
    with jax.default_matmul_precision('highest'):
        assert peak_of('NVIDIA H200', 'float32') == (67, 'float32')
    assert peak_of('TPU v4', 'float32') is None
    assert peak_of('cpu', 'bfloat16') is None


def test_what_the_host_waits_for():
    from measuring import host_waits

    def waits(function):
        return host_waits(jax.jit(function).lower(jnp.ones((8, 8))).compile().as_text())

    def product(x):
        return x @ x

    assert waits(lambda x: jax.lax.fori_loop(0, 5, lambda _, x: x @ x, x)) == []
    assert waits(lambda x: jax.lax.scan(lambda c, row: (c + row @ row, row), 0.0, x)) == []
    (loop,) = waits(lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9.0, product, x))
    assert loop.startswith('while of ')
    (branch,) = waits(lambda x: jax.lax.cond(x[0, 0] > 0.0, product, jnp.linalg.inv, x))
    assert branch.startswith('conditional of ')
    shape = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    (call,) = waits(lambda x: jax.pure_callback(lambda x: x, shape, x))
    assert call.startswith('custom-call of ')


def test_parts_that_are_not_there(tmp_path):
    _, errors, status = gpu('--parts=step', f'--output={tmp_path}')
    assert status == 2 and errors.startswith('error: --parts names step, and the parts are vqvae, repeat, ')


@pytest.mark.slow
def test_all_parts(tmp_path):
    import json

    output = tmp_path / 'out'
    # No part is ended because the machine is busy.
    printed, errors, status = gpu('--tiny', '--minutes=600', f'--output={output}')
    assert status == 0, errors
    assert printed == (output / 'table.md').read_text()
    rows = [json.loads(line) for line in (output / 'rows.jsonl').read_text().splitlines()]
    ours = {row['what']: row for row in rows if row['by'] == 'vq_jax'}
    assert {row['state'] for row in ours.values()} == {'ok'}
    for name in ('vqvae', 'gpt', 'dit', 'unet', 'vqgan'):
        row = ours[f'step of {name}']
        assert row['ms'] > 0 and row['tflops'] > 0 and row['memory_mib'] > 0
    for name in ('gpt', 'dit', 'unet'):
        assert ours[f'step of {name}']['waits'] == []
    for name in ('run of vqvae', 'run of prior'):
        assert ours[name]['metrics']['loss'] > 0
    assert {'reconstructions.png', 'samples.png', 'vqvae.jsonl', 'prior.jsonl'} <= set(os.listdir(output))

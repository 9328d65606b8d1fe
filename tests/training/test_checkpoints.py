"""Checkpoints: written whole, read bit for bit, damage noticed."""

import asyncio
import contextlib
import gc
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from tests.runs import CPU, several
from vq_jax.errors import UserError
from vq_jax.training import checkpoints as checkpoints_module
from vq_jax.training.checkpoints import Checkpoints
from vq_jax.training.manifest import seal, start_checksums, unseal


def make_state(seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {'w': jax.random.normal(keys[0], (33, 7)), 'b': jnp.zeros((0, 3))}
    return {
        'step': jnp.asarray(seed, jnp.int32),
        'key': keys[1],
        'params': params,
        'half': jax.random.normal(keys[2], (5,)).astype(jnp.bfloat16),
        'flags': jnp.asarray([True, False, seed % 2 == 0]),
        'opt': optax.adam(1e-3).init(params),
        'none': None,
    }


def assert_equal(a, b):
    def data(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(data(x)), np.asarray(data(y)))


def save(directory, steps, **options):
    checkpoints = Checkpoints(directory, keep=10, **options)
    for step in steps:
        checkpoints.save(step, make_state(step), {'batches': step}, {'loss': 1 / (step + 1)})
    checkpoints.close()


def restore(directory, step=None, **options):
    checkpoints = Checkpoints(directory, **options)
    try:
        return checkpoints.restore(make_state(), step)
    finally:
        checkpoints.close()


def test_round_trip_is_bit_for_bit(tmp_path):
    save(tmp_path, [3])
    step, state, position = restore(tmp_path)
    assert (step, position) == (3, {'batches': 3})
    assert_equal(state, make_state(3))


def test_none_at_all(tmp_path):
    assert restore(tmp_path) is None


def test_newest_and_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2, best='psnr', best_mode='max')
    for step, psnr in enumerate([float('inf'), 9.0, 3.0, None, float('nan'), 4.0], 1):
        metrics = None if psnr is None else {'psnr': psnr}
        checkpoints.save(step, make_state(step), {}, metrics)
    checkpoints.wait()
    assert checkpoints.steps() == [2, 5, 6] and checkpoints.best_step() == 2
    checkpoints.close()


def test_the_state_may_be_donated_at_once(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = {'w': jnp.arange(2**20, dtype=jnp.float32)}
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    checkpoints.save(1, state, {}, None)
    state = overwrite(state)
    jax.block_until_ready(state)
    _, restored, _ = checkpoints.restore(state)
    np.testing.assert_array_equal(restored['w'], np.arange(2**20, dtype=np.float32))
    checkpoints.close()


def test_kinds_of_leaf_and_their_placement_come_back(tmp_path):
    second = jax.sharding.SingleDeviceSharding(jax.devices()[-1])
    state = {
        'placed': jax.device_put(jnp.arange(6.0), second),
        'weak': jnp.asarray(1 / 3),
        'whole': 5,
        'real': 1 / 3,
        'double': np.linspace(0, 1, 7),
        'scalar': np.float64(2 / 3),
        'bytes': np.arange(5, dtype=np.uint8),
    }
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {}, None)
    _, restored, _ = checkpoints.restore(state)
    checkpoints.close()
    assert {k: type(v) for k, v in restored.items()} == {k: type(v) for k, v in state.items()}
    for name, value in state.items():
        assert np.asarray(restored[name]).dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(restored[name], value)
    assert restored['placed'].sharding == second and restored['placed'].committed
    assert restored['weak'].weak_type and not restored['weak'].committed


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'int32', 'uint8', 'bool'])
def test_every_single_change_alters_the_checksum(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)) > 0, dtype)
    changes = [x] + [x.at[i, j].set((1 - x[i, j]).astype(dtype)) for i in range(4) for j in range(5)]
    changes += [x.at[0].set(x[1]).at[1].set(x[0])] if bool(jnp.any(x[0] != x[1])) else []
    numbers = {start_checksums({'x': change})()['x'] for change in changes}
    assert len(numbers) == len(changes)
    assert start_checksums({'x': np.asarray(x)})() == start_checksums({'x': x})()


def test_an_array_other_than_the_one_saved_is_noticed(tmp_path, monkeypatch):
    save(tmp_path, [1, 2])
    load = checkpoints_module._load_arrays

    def load_wrongly(folder, *rest):
        arrays = load(folder, *rest)
        if folder.parent.name == '2':
            arrays["['params']['w']"] = arrays["['params']['w']"].at[3, 3].add(1e-3)
        return arrays

    monkeypatch.setattr(checkpoints_module, '_load_arrays', load_wrongly)
    assert restore(tmp_path)[0] == 1


def test_one_flipped_bit_anywhere_is_noticed(tmp_path, caplog):
    save(tmp_path / 'good', [1, 2])
    files = [p.relative_to(tmp_path / 'good') for p in (tmp_path / 'good' / '2').rglob('*')]
    files = [p for p in files if (tmp_path / 'good' / p).stat().st_size]
    files = [p for p in files if (tmp_path / 'good' / p).is_file()]
    assert len(files) >= 4
    for number, name in enumerate(files):
        directory = tmp_path / f'flip{number}'
        shutil.copytree(tmp_path / 'good', directory)
        content = bytearray((directory / name).read_bytes())
        content[len(content) // 2] ^= 4
        (directory / name).write_bytes(content)
        step, state, _ = restore(directory)
        assert step == 1, name
        assert_equal(state, make_state(1))
        assert (directory / 'damaged' / '2').is_dir()


@pytest.mark.parametrize('damage', ['truncated', 'missing', 'emptied'])
def test_other_damage_is_noticed(damage, tmp_path):
    save(tmp_path, [1, 2])
    largest = max((tmp_path / '2').rglob('*'), key=lambda p: p.stat().st_size if p.is_file() else 0)
    if damage == 'truncated':
        largest.write_bytes(largest.read_bytes()[:-5])
    elif damage == 'missing':
        largest.unlink()
    else:
        shutil.rmtree(tmp_path / '2')
        (tmp_path / '2').mkdir()
    assert restore(tmp_path)[0] == 1
    save(tmp_path, [2])  # its number is free again
    assert restore(tmp_path)[0] == 2


@pytest.mark.parametrize(
    'key, value',
    [('step', '3'), ('position', []), ('metrics', {'loss': '1'}), ('arrays', {'w': 3}), ('files', 3)],
)
def test_a_manifest_of_other_types_is_damage_whoever_has_sealed_it(key, value, tmp_path):
    save(tmp_path, [2, 3])
    path = tmp_path / '3' / 'manifest.json'
    path.write_text(seal(unseal(path) | {key: value}))
    assert restore(tmp_path, read_only=True)[0] == 2


def test_a_checkpoint_of_what_was_spoilt_is_not_read(tmp_path, caplog):
    save(tmp_path, [1, 2])
    checkpoints = Checkpoints(tmp_path, keep=10)
    spoilt = make_state(3)
    spoilt['params']['w'] = spoilt['params']['w'].at[3, 1].set(jnp.nan)
    checkpoints.save(3, spoilt, {}, None)
    checkpoints.close()
    with pytest.raises(UserError, match=r"damaged \(\['params'\]\['w'\] is not finite\)"):
        restore(tmp_path, 3)
    step, state, _ = restore(tmp_path)
    assert step == 2 and 'is not finite' in caplog.text
    assert_equal(state, make_state(2))


def test_all_damaged_is_an_error_that_names_them(tmp_path):
    save(tmp_path, [1])
    (tmp_path / '1' / 'manifest.json').write_text('{}')
    with pytest.raises(UserError, match='1'):
        restore(tmp_path)
    assert (tmp_path / '1').is_dir()


def test_a_step_that_another_run_has_saved(tmp_path):
    save(tmp_path, [1])
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match='another run'):
        checkpoints.save(1, make_state(1), {}, None)
    checkpoints.close()
    assert restore(tmp_path)[0] == 1


def test_read_only_moves_nothing(tmp_path):
    save(tmp_path, [1, 2])
    (tmp_path / '2' / 'manifest.json').write_text('{}')
    assert restore(tmp_path, read_only=True)[0] == 1
    assert not (tmp_path / 'damaged').exists()


def test_a_step_that_is_not_there(tmp_path):
    save(tmp_path, [1, 2])
    assert restore(tmp_path, 1)[0] == 1
    with pytest.raises(UserError, match='1, 2'):
        restore(tmp_path, 7)


NAMES = [
    'lr[0.1]', 'a[!b]', 'a*b', 'a?b', '**', 'a\\b', 'a\nb', 'a\udcffb', 'ü', 'a b ', ' a', '~', '~root',
    '$HOME', '-rf', '{0}{x}%s%20', "a'b", 'a"b', 'a:b', 'a#b?c=d&e', '<b>', '[x]m[/y]', 'a;b|c', '\t',
    '\x1b[31m', '.hidden', '...', 'é' * 127,
]  # fmt: skip


def test_every_name_that_a_folder_can_have(tmp_path):
    """Orbax looks for files by patterns, and Tensorstore takes nothing but UTF-8."""
    state = {'w': jnp.arange(5.0)}
    for name in NAMES:
        for directory in (tmp_path / name / 'run', tmp_path / name):
            checkpoints = Checkpoints(directory)
            checkpoints.save(1, state, {}, None)
            checkpoints.close()
            restored = Checkpoints(directory, read_only=True)
            np.testing.assert_array_equal(restored.restore(state)[1]['w'], np.arange(5.0), repr(name))
            restored.close()


def test_a_path_that_is_too_long_for_checkpoints_is_refused_at_once(tmp_path):
    path = tmp_path
    while len(str(path)) < 3900:
        path /= 'x' * min(200, 3950 - len(str(path)))
    with pytest.raises(
        UserError, match=r'Cannot write checkpoints .* \(File name too long\); choose another'
    ):
        Checkpoints(path)


def test_a_checkpoint_that_cannot_be_read_back_is_not_sealed(tmp_path, monkeypatch):
    """As Orbax leaves it under a name with brackets: its files are all there, but not put together."""
    monkeypatch.setattr(checkpoints_module, '_PLAIN', re.compile('.*'))
    checkpoints = Checkpoints(tmp_path / 'lr[0.1]')
    checkpoints.save(1, make_state(), {}, None)
    with pytest.raises(UserError, match='step 1 could not be written'):
        checkpoints.wait()
    assert checkpoints.steps() == []
    checkpoints.close()


def test_files_as_they_were_written_that_cannot_be_read_are_damage(tmp_path):
    # Of one array: where several fail at once, those that are slower meet an event loop that Orbax has
    # closed, which ends a process now and then.
    like = {'w': jnp.arange(6.0)}
    for step in (1, 2):
        with contextlib.closing(Checkpoints(tmp_path, keep=10)) as checkpoints:
            checkpoints.save(step, like, {}, None)
    folder = tmp_path / '2'
    (folder / 'arrays' / 'manifest.ocdbt').unlink()
    record = unseal_file(folder)
    del record['files']['arrays/manifest.ocdbt']
    (folder / 'manifest.json').write_text(seal(record))
    with contextlib.closing(Checkpoints(tmp_path, read_only=True)) as checkpoints:
        assert checkpoints.restore(like)[0] == 1
        with pytest.raises(UserError, match=r'2 is damaged \(its arrays cannot be read: .*; there are 1'):
            checkpoints.restore(like, 2)


@pytest.mark.parametrize('file', ['../1/manifest.json', '/dev/zero'])
def test_a_manifest_that_names_files_elsewhere_is_damaged(file, tmp_path):
    save(tmp_path, [1, 2])
    record = unseal_file(tmp_path / '2')
    record['files'][file] = record['files'].pop('arrays/manifest.ocdbt')
    (tmp_path / '2' / 'manifest.json').write_text(seal(record))
    with pytest.raises(UserError, match='is not in it'):
        restore(tmp_path, 2)


def unseal_file(folder):
    record = json.loads((folder / 'manifest.json').read_text())
    del record['sha256']
    return record


@pytest.mark.parametrize(
    'manifest', ['[' * 100_000, '[]', '{}', seal({'step': 2}), seal({'arrays': 3, 'files': []}), '\xff']
)
def test_any_other_manifest_is_damaged(manifest, tmp_path):
    save(tmp_path, [1, 2])
    (tmp_path / '2' / 'manifest.json').write_text(manifest, encoding='latin-1')
    assert restore(tmp_path, read_only=True)[0] == 1


def test_a_step_may_be_a_link(tmp_path):
    save(tmp_path / 'run', [3])
    (tmp_path / 'run' / '3').rename(tmp_path / 'elsewhere')
    (tmp_path / 'run' / '3').symlink_to(tmp_path / 'elsewhere')
    step, state, _ = restore(tmp_path / 'run', read_only=True)
    assert step == 3
    assert_equal(state, make_state(3))


def test_a_step_under_the_name_of_another_is_damage(tmp_path):
    save(tmp_path, [3])
    (tmp_path / '3').rename(tmp_path / '4')
    with pytest.raises(UserError, match='it is of step 3'):
        restore(tmp_path)


def test_a_pipe_among_the_arrays_is_damage(tmp_path):
    """Whoever has sealed it: it is not waited for."""
    save(tmp_path, [3])
    pipe = tmp_path / '3' / 'arrays' / 'manifest.ocdbt'
    pipe.unlink()
    os.mkfifo(pipe)
    record = unseal_file(tmp_path / '3')
    del record['files']['arrays/manifest.ocdbt']
    (tmp_path / '3' / 'manifest.json').write_text(seal(record))
    with pytest.raises(UserError, match='ocdbt is not a regular file'):
        restore(tmp_path)


def test_a_step_that_is_pruned_while_it_is_listed_or_read(tmp_path, monkeypatch):
    """Whoever reads takes a newer one; nothing is said of damage."""
    save(tmp_path, [1, 2], best='loss')
    listed = Checkpoints.steps
    read = Checkpoints._read_kept

    def prune(step):
        (tmp_path / str(step)).rename(tmp_path / f'{step}.deleted')
        save(tmp_path, [step + 1], best='loss')

    def steps_of_before(self):
        steps = listed(self)
        if steps == [1, 2]:
            prune(2)
        return steps

    monkeypatch.setattr(Checkpoints, 'steps', steps_of_before)
    assert restore(tmp_path, read_only=True)[0] == 3

    def pruned_meanwhile(self, step, like):
        if step == 3:
            prune(3)
        return read(self, step, like)

    monkeypatch.setattr(Checkpoints, '_read_kept', pruned_meanwhile)
    assert restore(tmp_path, 'best', best='loss', read_only=True)[0] == 4
    with pytest.raises(UserError, match='no checkpoint of step 3; there are 1, 4'):
        restore(tmp_path, 3, read_only=True)

    best = Checkpoints.best_step

    def best_of_before(self):
        step = best(self)
        if step == 4:
            prune(4)
        return step

    monkeypatch.setattr(Checkpoints, 'best_step', best_of_before)
    assert restore(tmp_path, 'best', best='loss', read_only=True)[0] == 5


def test_a_step_that_another_process_finds_pruned_is_given_up_by_all(tmp_path, monkeypatch):
    save(tmp_path, [1, 2])
    agreed, answers = checkpoints_module._all_processes, iter([False])
    monkeypatch.setattr(checkpoints_module, '_all_processes', lambda good: next(answers, agreed(good)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, '_set_aside', lambda *_: pytest.fail('taken for damaged'))
        assert restore(tmp_path)[0] == 2


def test_a_checkpoint_is_not_pruned_while_it_is_read(tmp_path, monkeypatch):
    save(tmp_path, [1])
    read = Checkpoints._read_kept

    def slowly(self, step, like):
        writer = Checkpoints(tmp_path, keep=1)
        for step_ in (2, 3):
            writer.save(step_, make_state(step_), {}, None)
            writer.wait()
        assert writer.steps() == [1, 3]
        writer.close()
        return read(self, step, like)

    monkeypatch.setattr(Checkpoints, '_read_kept', slowly)
    assert restore(tmp_path, 1, read_only=True)[0] == 1
    monkeypatch.undo()
    writer = Checkpoints(tmp_path, keep=1)
    writer.save(4, make_state(4), {}, None)
    writer.wait()
    assert writer.steps() == [4]
    writer.close()


def test_who_only_reads_is_not_told_to_delete(tmp_path):
    save(tmp_path, [1])
    (tmp_path / '1' / 'manifest.json').write_text('{}')
    with pytest.raises(UserError) as raised:
        restore(tmp_path, read_only=True)
    assert str(raised.value).endswith('; restore one from a copy.')


def test_what_is_sealed_comes_back(tmp_path):
    assert Checkpoints(tmp_path, read_only=True).sealed() is None
    save(tmp_path, [0])
    assert Checkpoints(tmp_path, read_only=True).sealed() is None
    first, second = ({'config': {'seed': seed}, 'data': {}} for seed in (1, 2))
    save(tmp_path, [1], sealed=first)
    save(tmp_path, [2], sealed=second)
    assert Checkpoints(tmp_path, read_only=True).sealed() == second
    (tmp_path / '2' / 'manifest.json').write_text('{}')
    assert Checkpoints(tmp_path, read_only=True).sealed() == first


@pytest.mark.parametrize('change', ['shape', 'dtype', 'name'])
def test_another_state_is_no_damage(change, tmp_path):
    save(tmp_path, [1])
    other = make_state()
    w = other['params'].pop('w')
    changed = {'shape': w[:-1], 'dtype': w.astype(jnp.bfloat16), 'name': w}[change]
    other['params']['v' if change == 'name' else 'w'] = changed
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(
        UserError, match=r'params.* use the config, and the version of vq_jax, it was trained'
    ):
        checkpoints.restore(other)
    checkpoints.close()
    assert (tmp_path / '1').is_dir()


SAVE_UNDER_A_LIMIT = """
    import resource, signal, sys
    from pathlib import Path
    import jax.numpy as jnp
    from vq_jax.errors import UserError
    from vq_jax.training.checkpoints import Checkpoints
    checkpoints = Checkpoints(Path(sys.argv[1]))
    checkpoints.save(1, {'w': jnp.ones(1000)}, {}, None)
    checkpoints.wait()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        import numpy as np
        noise = np.random.default_rng(0).normal(size=10**6)
        checkpoints.save(2, {'w': jnp.asarray(noise)}, {}, None)
        checkpoints.wait()
    except UserError as error:
        print(error)
    checkpoints.close()
"""


def test_a_full_disk_is_told_and_the_older_checkpoint_is_good(tmp_path):
    result = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(SAVE_UNDER_A_LIMIT), str(tmp_path)],
        env=os.environ | {'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert 'step 2 could not be written' in result.stdout and 'still good: 1' in result.stdout
    assert '(File too large)' in result.stdout
    assert len(result.stdout.splitlines()) == 1 and not result.stderr
    checkpoints = Checkpoints(tmp_path)
    step, state, _ = checkpoints.restore({'w': jnp.zeros(1000)})
    assert step == 1
    np.testing.assert_array_equal(state['w'], 1)
    checkpoints.close()


def test_of_files_that_cannot_be_written_the_first_is_told(tmp_path, caplog):
    save(tmp_path / 'saved', [1])  # which sets the filter
    loop = asyncio.new_event_loop()
    with pytest.raises(FileNotFoundError) as caught:
        ocp.PyTreeCheckpointer().restore(tmp_path / 'absent')
    for error in (caught.value, OSError('of others')):
        # What runs in a thread, as the writing of a file, has no coroutine that could name Orbax.
        future = loop.create_future()
        future.set_exception(error)
        del future
        gc.collect()
    loop.close()
    (record,) = [record for record in caplog.records if record.name == 'asyncio']
    assert 'of others' in record.getMessage()


SAVE_FOR_EVER = """
    import sys
    from pathlib import Path
    import jax.numpy as jnp
    from vq_jax.training.checkpoints import Checkpoints
    checkpoints = Checkpoints(Path(sys.argv[1]), keep=3)
    last = checkpoints.restore({'w': jnp.zeros(300_000)})
    step = last[0] if last else 0
    while True:
        step += 1
        checkpoints.save(step, {'w': jnp.full(300_000, step, jnp.float32)}, {}, None)
        print(step, flush=True)
"""


def test_kill_during_a_save_leaves_the_one_before(tmp_path):
    for delay in (0.0, 0.02, 0.05):
        process = subprocess.Popen(
            [sys.executable, '-c', textwrap.dedent(SAVE_FOR_EVER), str(tmp_path)],
            env=os.environ | {'JAX_PLATFORMS': 'cpu'},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3):
            started = int(process.stdout.readline())
        if delay:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(delay)
        process.kill()
        process.communicate()
        checkpoints = Checkpoints(tmp_path)
        step, state, _ = checkpoints.restore({'w': jnp.zeros(300_000)})
        checkpoints.close()
        assert step >= started - 1
        np.testing.assert_array_equal(state['w'], step)
        assert not [p for p in tmp_path.iterdir() if 'saving' in p.name]


TWO_PROCESSES = """
    import sys
    import jax
    coordinator, index, directory, expected = sys.argv[1:]
    jax.distributed.initialize(coordinator, 2, int(index))
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    from vq_jax.training.checkpoints import Checkpoints, UnreadableError

    everywhere = Mesh(np.array(jax.devices()), ('all',))
    here = Mesh(np.array(jax.local_devices()), ('all',))
    numbers = np.arange(24, dtype=np.float32).reshape(4, 6)

    def make_state(step):
        def spread(*axes):
            sharding = NamedSharding(everywhere, P(*axes))
            return jax.make_array_from_callback((4, 6), sharding, lambda i: (numbers * step)[i])

        local = NamedSharding(here, P())
        return {
            'sharded': spread('all'),
            'replicated': spread(),
            'local': jax.device_put(numbers * step, local),
            'key': jax.device_put(jax.random.key_data(jax.random.key(step)), local),
            'unplaced': jax.numpy.asarray(step),
        }

    checkpoints = Checkpoints(directory)
    if not checkpoints.steps():
        for step in (1, 2):
            checkpoints.save(step, make_state(step), {'batches': step}, {'loss': -step})
    step, state, position = checkpoints.restore(make_state(9))
    assert step == int(expected) and position == {'batches': step}
    for name, wanted in make_state(step).items():
        assert state[name].sharding == wanted.sharding, name
        for x, y in zip(state[name].addressable_shards, wanted.addressable_shards, strict=True):
            np.testing.assert_array_equal(x.data, y.data)
    checkpoints.close()

    # What one of them sees is not what the other does, while a third process trains.
    reader = Checkpoints(directory, best='loss', read_only=True)
    if index == '1':
        reader.best_step = lambda: 1
    assert reader.restore(make_state(9), 'best')[0] == int(expected)
    if index == '1':
        reader.steps = lambda: []
    try:
        reader.restore(make_state(9), int(expected))
    except UnreadableError:
        reader.close()
    else:
        raise AssertionError
"""


def run_two_processes(directory, expected):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        coordinator = f'127.0.0.1:{free.getsockname()[1]}'
    flags = CPU | several(2)
    command = [sys.executable, '-c', textwrap.dedent(TWO_PROCESSES), coordinator]
    processes = [
        subprocess.Popen(
            [*command, str(index), str(directory), str(expected)],
            env=os.environ | flags,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        errors = [process.communicate()[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors


def test_two_processes_save_restore_and_agree_on_damage(tmp_path):
    run_two_processes(tmp_path, 2)
    file = max((tmp_path / '2' / 'arrays').rglob('d/*'), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    run_two_processes(tmp_path, 1)
    assert (tmp_path / 'damaged' / '2').is_dir() and not (tmp_path / '2').exists()

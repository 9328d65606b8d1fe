"""Files of weights of every format: whole, damaged, and written to harm whoever reads them."""

import hashlib
import io
import json
import os
import pickle
import pickletools
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import flax.serialization
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vq_jax.errors import UserError
from vq_jax.weights import pickles, read, read_weights, write_pytorch, write_safetensors

# What `make_checkpoints.py` wrote.
CHECKPOINTS = ('lightning.ckpt', 'lightning_protocol4.ckpt', 'lightning_legacy.ckpt')
BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
SAVED = {
    'plain': BASE,
    'transposed': BASE.T,
    'stretch': BASE[1:3, ::2],
    'half': np.array([0.5, -2.0], np.float16),
    'brain': np.array([0.5, -3.0], jnp.bfloat16),
    'count': np.array(7),
    'flags': np.array([True, False]),
    'bytes': np.array([1, 255], np.uint8),
    'empty': np.zeros((0, 3), np.float32),
    'learned': np.array([1.5], np.float32),
}
A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)


def equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array)


def refused(path, told):
    with pytest.raises(UserError) as raised:
        read_weights([path])
    message = str(raised.value)
    assert path.name in message and message.endswith('.') and '\n' not in message
    assert re.search(told, message), message


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_checkpoints_of_pytorch_hold_what_was_saved(name):
    arrays = read_weights([Path(__file__).with_name(name)]).arrays
    state = {name: array for name, array in arrays.items() if name.startswith('state_dict.')}
    equal(state, {f'state_dict.{name}': array for name, array in SAVED.items()})
    others = {
        'callbacks.pytorch_lightning.ModelCheckpoint.best_model_score': np.float32(0.25),
        'optimizer_states.0.state.0.exp_avg': np.ones(2, np.float32),
    }
    assert arrays.keys() - state.keys() == others.keys()
    for name, array in others.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_files_are_read_together_and_named_with_their_checksum(tmp_path, capsys):
    np.savez(tmp_path / 'a.npz', **{'features.0.weight': A})
    save_file({'lin0': B}, tmp_path / 'b.safetensors')
    weights = read_weights([tmp_path / 'a.npz', str(tmp_path / 'b.safetensors')])
    equal(weights.arrays, {'features.0.weight': A, 'lin0': B})
    printed = capsys.readouterr().out
    for name in ('a.npz', 'b.safetensors'):
        checksum = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        assert f'{tmp_path / name}, SHA-256 {checksum}' in printed
        assert weights.checksums[str(tmp_path / name)] == checksum


def test_the_checksum_is_of_what_was_read(tmp_path, monkeypatch):
    """And not of another file that has its name meanwhile."""
    save_file({'a': A}, tmp_path / 'a.safetensors')
    save_file({'a': A + 1}, tmp_path / 'b.safetensors')
    checksum = hashlib.sha256((tmp_path / 'a.safetensors').read_bytes()).hexdigest()
    map_first = read.mapped

    def replaced(path):
        data = map_first(path)
        os.replace(tmp_path / 'b.safetensors', path)
        return data

    monkeypatch.setattr(read, 'mapped', replaced)
    weights = read_weights([tmp_path / 'a.safetensors'])
    equal(weights.arrays, {'a': A})
    assert weights.checksums == {str(tmp_path / 'a.safetensors'): checksum}


def test_safetensors_are_those_of_the_package(tmp_path):
    arrays = {name: np.ascontiguousarray(array) for name, array in SAVED.items() if name != 'brain'}
    save_file(arrays, tmp_path / 'theirs.safetensors', {'format': 'np'})
    equal(read_weights([tmp_path / 'theirs.safetensors']).arrays, arrays)
    write_safetensors(tmp_path / 'ours.safetensors', {**SAVED, 'brain': B}, {'from': 'here'})
    equal(load_file(tmp_path / 'ours.safetensors'), {**SAVED, 'brain': B})
    write_safetensors(tmp_path / 'all.safetensors', SAVED, {})
    equal(read_weights([tmp_path / 'all.safetensors']).arrays, SAVED)


def test_what_is_written_as_pytorch_does_is_read(tmp_path):
    """PyTorch 2.13 reads it too, also with `weights_only` and `mmap`, which was tried by hand."""
    write_pytorch(tmp_path / 'a.ckpt', {'state_dict': SAVED, 'b': B})
    arrays = {f'state_dict.{name}': array for name, array in SAVED.items()}
    equal(read_weights([tmp_path / 'a.ckpt']).arrays, arrays | {'b': B})
    with zipfile.ZipFile(tmp_path / 'a.ckpt') as archive:
        pickletools.dis(archive.read('a/data.pkl'), io.StringIO())  # raises if it is no whole pickle
        assert archive.testzip() is None


def test_msgpack_is_flaxs_own(tmp_path, monkeypatch):
    monkeypatch.setattr(flax.serialization, 'MAX_CHUNK_SIZE', 40)  # so that BASE takes three values
    tree = {'params': {'Conv_0': {'kernel': BASE, 'bias': SAVED['brain']}}, 'step': 3, 'shares': [B, A]}
    (tmp_path / 'a.msgpack').write_bytes(flax.serialization.msgpack_serialize(tree))
    names = ('params.Conv_0.kernel', 'params.Conv_0.bias', 'shares.0', 'shares.1')
    arrays = (BASE, SAVED['brain'], B, A)
    equal(read_weights([tmp_path / 'a.msgpack']).arrays, dict(zip(names, arrays, strict=True)))


def test_a_large_file_takes_little_memory(tmp_path):
    path, size = tmp_path / 'large.safetensors', 2**26
    header = json.dumps({'x': {'dtype': 'F32', 'shape': [size // 4], 'data_offsets': [0, size]}}).encode()
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(header)) + header)
        file.truncate(8 + len(header) + size)
    tracemalloc.start()
    try:
        array = read_weights([path]).arrays['x']
        assert array[-1] == 0 and array.size == size // 4
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_files_that_are_not_there_or_not_known(tmp_path):
    refused(tmp_path / 'c.npz', 'no file of weights')
    (tmp_path / 'd.h5').write_bytes(b'')
    refused(tmp_path / 'd.h5', r'ends with none of .*\.safetensors')
    (tmp_path / 'e.pth').write_bytes(b'')
    refused(tmp_path / 'e.pth', 'it is empty')
    (tmp_path / 'f.pth').write_bytes(archive(pickle.dumps({'a': 1})))
    refused(tmp_path / 'f.pth', 'holds no arrays of weights by name')
    np.savez(tmp_path / 'g.npz', x=np.array(['text']))
    refused(tmp_path / 'g.npz', 'holds no arrays of weights by name')


def files(folder):
    """One of each format, by its content."""
    np.savez(folder / 'a.npz', a=A)
    save_file({'lin0': B}, folder / 'a.safetensors')
    (folder / 'a.msgpack').write_bytes(flax.serialization.msgpack_serialize({'a': A}))
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    return made | {name: Path(__file__).with_name(name).read_bytes() for name in CHECKPOINTS}


def test_a_file_without_its_end_is_named(tmp_path):
    for name, content in files(tmp_path).items():
        for end in range(1, len(content), max(1, len(content) // 12)):
            (tmp_path / name).write_bytes(content[:end])
            refused(tmp_path / name, 'cannot be read as a file of')


def test_a_damaged_file_is_read_or_named(tmp_path):
    """Formats without checksums cannot know that numbers were changed."""
    rng = np.random.RandomState(0)
    for name, content in files(tmp_path).items():
        for _ in range(20):
            changed = bytearray(content)
            changed[rng.randint(len(content))] ^= 1 << rng.randint(8)
            (tmp_path / name).write_bytes(changed)
            try:
                read_weights([tmp_path / name])
            except UserError as error:
                assert name in str(error) and '\n' not in str(error)


def test_numbers_of_an_archive_are_checked(tmp_path):
    content = Path(__file__).with_name('lightning.ckpt').read_bytes()
    at = content.index(BASE.tobytes())
    (tmp_path / 'a.ckpt').write_bytes(content[:at] + b'\1' + content[at + 1 :])
    refused(tmp_path / 'a.ckpt', r'the checksum of \S+/data/\d+ in it is another')


def archive(content, **storages):
    """What `torch.save` would write, with a pickle of one's own."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as written:
        written.writestr('archive/data.pkl', content)
        for name, data in storages.items():
            written.writestr(f'archive/data/{name}', data)
    return file.getvalue()


class Runs:
    """What its pickle runs, when it is read by Python."""

    def __init__(self, function, *arguments):
        self.called = function, arguments

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize('protocol', range(6))
def test_what_a_file_wants_run_is_refused_by_name(tmp_path, protocol):
    ran = tmp_path / 'ran'
    for function, arguments, name in (
        (os.system, (f'touch {ran}',), f'{os.name}.system'),
        (eval, (f'open({str(ran)!r}, "w")',), r'(__builtin__|builtins)\.eval'),
        (getattr, (os, 'x'), r'(__builtin__|builtins)\.getattr'),
    ):
        arguments = tuple('module' if argument is os else argument for argument in arguments)
        content = pickle.dumps({'a': Runs(function, *arguments)}, protocol)
        (tmp_path / 'a.pth').write_bytes(archive(content))
        refused(tmp_path / 'a.pth', f'it wants to run {name}, and weights are only read')
        legacy = b''.join(map(pickle.dumps, (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True})))
        (tmp_path / 'b.pth').write_bytes(legacy + content + pickle.dumps([]))
        refused(tmp_path / 'b.pth', f'it wants to run {name}, and weights are only read')
    assert not ran.exists()


@pytest.mark.parametrize(
    'content, name',
    [
        (b'(S"x"\nios\nsystem\n.', 'os.system'),  # INST
        (b'(cos\nsystem\nS"x"\no.', 'os.system'),  # OBJ
        (b'ccollections\nOrderedDict\n)R}b0cos\nsystem\n(S"x"\ntR.', 'os.system'),
        (b'cos\nsystem\n)\x81)R.', 'an object of _Object'),  # an object that is called
        (b'ctorch.hub\nload\n(S"x"\ntR.', 'torch.hub.load'),
        (b'ca\x1b[2J\nb\n)R.', r'a\\x1b\[2J\.b'),  # which a terminal would obey
    ],
)
def test_what_pickles_by_hand_want_run_is_refused(tmp_path, content, name):
    pickletools.dis(content, io.StringIO())  # it is a whole one
    (tmp_path / 'a.pth').write_bytes(archive(content))
    refused(tmp_path / 'a.pth', f'it wants to run {name}, and')


def tensor(*args, **kwargs):
    """The pickle of a tensor by the name of 'x', of the storage 'data/0'."""
    return b'(d' + item('x', *args, **kwargs) + b'.'


def item(name, shape, strides, offset=0, count=6, kind='FloatStorage'):
    """The part of a pickle that puts it into a dictionary."""

    def numbers(values):
        return '(' + ''.join(f'L{value}L\n' for value in values) + 't'

    storage = f"(S'storage'\nctorch\n{kind}\nS'0'\nS'cpu'\nL{count}L\ntQ"
    arguments = f'({storage}L{offset}L\n{numbers(shape)}{numbers(strides)}I00\nNt'
    return f"S'{name}'\nctorch._utils\n_rebuild_tensor_v2\n{arguments}Rs".encode()


def test_a_view_by_hand(tmp_path):
    (tmp_path / 'a.pth').write_bytes(archive(tensor((2, 2), (3, 1), 1), **{'0': A.tobytes()}))
    equal(read_weights([tmp_path / 'a.pth']).arrays, {'x': A[:, 1:]})


@pytest.mark.parametrize(
    'described',
    [
        {'shape': (2**31, 2**31), 'strides': (1, 1)},
        {'shape': (2, 3), 'strides': (3, 2)},
        {'shape': (6,), 'strides': (1,), 'offset': 1},
        {'shape': (2,), 'strides': (-1,), 'offset': 1},
        {'shape': (-2,), 'strides': (1,)},
        {'shape': (2,), 'strides': (1,), 'offset': -4},
        {'shape': (6,), 'strides': (1, 1)},
        {'shape': (2,), 'strides': (1,), 'count': 2**50},
        {'shape': (2,), 'strides': (1,), 'count': -1},
    ],
    ids=str,
)
def test_a_tensor_that_is_not_in_its_storage_is_refused(tmp_path, described):
    (tmp_path / 'a.pth').write_bytes(archive(tensor(**described), **{'0': A.tobytes()}))
    refused(tmp_path / 'a.pth', r'cannot be read as a file of weights \(')


def test_what_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(read, '_MOST_VALUES', 2**12)
    memory = {
        'an index': b'N' + b'r\xff\xff\xff\x7f' + b'.',
        'a text of a terabyte': b'\x8d' + struct.pack('<Q', 2**40) + b'x.',
    }
    # Each list holds the one before it ten times.
    laughs = b'](' + b'K\1' * 10 + b'e' + b''.join(b'q%c0](' % i + b'h%c' % i * 10 + b'e' for i in range(12))
    memory['a number a trillion times'] = laughs + b'.'
    memory['and printed in a name'] = laughs + b"S'x'\n\x93."
    # What describes a storage: a word, a type, a key, a device, and how many numbers.
    parts = [b"S'storage'\n", b'ctorch\nFloatStorage\n', b"S'0'\n", b"S'cpu'\n", b'K\6']
    for number in (0, 2, 4):
        described = [*parts[:number], laughs, *parts[number + 1 :]]
        memory[f'and printed of part {number}'] = b'(' + b''.join(described) + b'tQ.'
    # A text of 1 MiB, of which each call would make a copy.
    text, call = b'X' + struct.pack('<I', 2**20) + b'a' * 2**20 + b'q\0', b'h\1h\0\x85R'
    for name in (b'torch\nSize', b'collections\nOrderedDict'):
        memory[f'copies by {name}'] = text + b'c' + name + b'\nq\1' + call * 200 + b'.'
    memory['names'] = text + b'h\0\x93' + b'h\0h\0\x93' * 200 + b'.'
    tracemalloc.start()
    try:
        for content in memory.values():
            (tmp_path / 'a.pth').write_bytes(archive(content))
            refused(tmp_path / 'a.pth', 'a.pth')
        for header in (2**62, 2**27):
            (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', header) + b'{}')
            refused(tmp_path / 'a.safetensors', 'a file of weights')
        (tmp_path / 'a.msgpack').write_bytes(b'\xdd\xff\xff\xff\xff' * 20)
        refused(tmp_path / 'a.msgpack', 'a file of weights')
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    'content',
    [
        b'})' + b'\x85' * 200_000 + b'Ns.',  # a key: a tuple in a tuple in a tuple
        b'ccollections\nOrderedDict\n](])' + b'\x85' * 200_000 + b'aNae\x85R.',
        b'}L%dL\nNs.' % (2**61 - 1),  # the hash of its multiples is 0
        b'}p%d\n.' % (2**61 - 1),
        tensor((2**61,) * 10_000, (1,)),
        tensor((10**4000,), (1,)),
    ],
    ids=['key', 'ordered key', 'number', 'place', 'axes', 'digits'],
)
def test_what_would_take_python_down_or_years_is_refused(tmp_path, content):
    (tmp_path / 'a.pth').write_bytes(archive(content, **{'0': A.tobytes()}))
    refused(tmp_path / 'a.pth', 'has a key that is a (tuple|number above)|has too many axes, or a size')


def test_keys_of_storages_that_would_take_python_down_are_refused(tmp_path):
    header = b''.join(map(pickle.dumps, (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True})))
    (tmp_path / 'a.pth').write_bytes(header + b'}.' + b'](' + b')' + b'\x85' * 200_000 + b'e.' + bytes(64))
    refused(tmp_path / 'a.pth', 'names its storages by what is no text')


def test_what_calls_copy_counts_as_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, '_MOST_STEPS', 2**10)
    pairs = b'](' + b'K\1K\2\x86' * 100 + b'eq\0'
    for calls, told in ((3, 'holds no arrays of weights by name'), (30, 'has more than 1,024 steps')):
        call = b'ccollections\nOrderedDict\nh\0\x85R0'
        (tmp_path / 'a.pth').write_bytes(archive(b'}' + pairs + b'0' + call * calls + b'.'))
        refused(tmp_path / 'a.pth', told)


def test_members_of_an_archive_that_lie_over_each_other_are_refused(tmp_path):
    """Each would be read for its checksum."""
    pickled = b''.join(tensor((6,), (1,)).replace(b"S'0'", b"S'%d'" % i)[:-1] for i in range(200)) + b'.'
    content = bytearray(archive(pickled, **{str(i): A.tobytes() * 1000 for i in range(200)}))
    (tmp_path / 'a.pth').write_bytes(content)
    assert read_weights([tmp_path / 'a.pth']).arrays.keys() == {'x'}
    with zipfile.ZipFile(io.BytesIO(content)) as archived:
        places = {name: archived.getinfo(name).header_offset for name in archived.namelist()}
    start = archived.start_dir
    first, directory = places['archive/data/0'], bytes(content[start:])
    for place in sorted(places.values()):
        if place > first:
            directory = directory.replace(struct.pack('<I', place), struct.pack('<I', first))
    end = directory.rindex(b'PK\5\6') + 16
    size = first + 30 + len('archive/data/0') + A.nbytes * 1000
    directory = directory[:end] + struct.pack('<I', size) + directory[end + 4 :]
    (tmp_path / 'b.pth').write_bytes(bytes(content[:size]) + directory)
    refused(tmp_path / 'b.pth', 'the files in it lie over each other')


@pytest.mark.parametrize('kind', ['F8_E5M2', 'C64', 'x'])
def test_numbers_that_are_no_weights_are_told(tmp_path, capsys, kind):
    size = 4 * {'F8_E5M2': 1, 'C64': 8, 'x': 4}[kind]
    odd = {'dtype': kind, 'shape': [4], 'data_offsets': [0, size]}
    others = {'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [size, size + 4]}}
    for entries in ({'x': odd}, {'x': odd} | others):
        header = json.dumps(entries).encode()
        (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + bytes(size + 4))
        if 'a' in entries:
            equal(read_weights([tmp_path / 'a.safetensors']).arrays, {'a': np.zeros(1, np.float32)})
        else:
            refused(tmp_path / 'a.safetensors', 'holds no arrays of weights by name')
        told = f'weights: not read of {tmp_path}/a.safetensors: x (numbers of the type {kind})'
        assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    'odd, why',
    [
        ({'shape': (2**40,), 'strides': (0,)}, 'the same numbers many times'),  # a petabyte of one number
        ({'shape': (3, 2), 'strides': (1, 1), 'kind': 'ComplexFloatStorage'}, 'numbers of the type Complex'),
    ],
)
def test_tensors_that_are_no_weights_are_told(tmp_path, capsys, odd, why):
    """Others of the file are read."""
    both = b'(d' + item('x', **odd) + item('a', (6,), (1,)) + b'.'
    (tmp_path / 'a.pth').write_bytes(archive(both, **{'0': A.tobytes()}))
    equal(read_weights([tmp_path / 'a.pth']).arrays, {'a': A.reshape(-1)})
    assert f'not read of {tmp_path}/a.pth: x ({why}' in capsys.readouterr().out


@pytest.mark.parametrize(
    'entry',
    [
        {'dtype': 'F32', 'shape': [3], 'data_offsets': [0, 16]},
        {'dtype': 'F32', 'shape': [4], 'data_offsets': [16, 0]},
        {'dtype': 'F32', 'shape': [4], 'data_offsets': [8, 24]},
        {'dtype': 'F32', 'shape': [-4], 'data_offsets': [0, 16]},
        {'dtype': 'F32', 'shape': [2**62, 4], 'data_offsets': [0, 16]},
    ],
)
def test_safetensors_that_contradict_themselves_are_refused(tmp_path, entry):
    header = json.dumps({'x': entry}).encode()
    (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + bytes(16))
    refused(tmp_path / 'a.safetensors', r'cannot be read as a file of weights \(')


def test_a_file_without_an_ending_is_flaxs(tmp_path):
    (tmp_path / 'checkpoint_100').write_bytes(flax.serialization.to_bytes({'params': {'a': A}}))
    equal(read_weights([tmp_path / 'checkpoint_100']).arrays, {'params.a': A})
    (tmp_path / 'checkpoint_100').write_bytes(b'a text')
    refused(tmp_path / 'checkpoint_100', 'a file of Flax, as which one without an ending is read')

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from PIL import Image

from vq_jax.data import DataConfig, Record, Source, eval_batches, open_dataset, train_batches
from vq_jax.errors import UserError


def take(batches, number):
    result = list(itertools.islice(batches, number))
    batches.close()
    return result


def same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert sorted(one) == sorted(other) == ['label', 'mask', 'x']
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


def open_folder(root, split='train', **options):
    return open_dataset(DataConfig(name=f'folder:{root}', **options), split)


def augmented(root, **options):
    """A data set with every source of randomness in use."""
    return open_folder(root, image_size=4, resize=6, random_crop=True, flip=True, **options)


@pytest.fixture
def varied(tmp_path):
    """Forty-one noise images of different sizes."""
    random = np.random.default_rng(0)
    (tmp_path / 'varied' / 'train').mkdir(parents=True)
    for i in range(41):
        pixels = random.integers(0, 256, (6 + i % 3, 6 + i % 5, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'varied' / 'train' / f'{i}.png')
    return tmp_path / 'varied'


def seen(batches):
    """The numbers that `write_images` painted."""
    return np.concatenate([batch['x'][:, 0, 0, 0] for batch in batches]).tolist()


def test_batch_format(digits):
    (batch,) = take(train_batches(digits, batch_size=7, seed=0), 1)
    assert batch['x'].shape == (7, *digits.spec.shape) == (7, 8, 8, 1)
    assert batch['x'].dtype == np.uint8
    assert batch['label'].dtype == np.int32
    assert batch['mask'].dtype == bool
    assert batch['mask'].all()


@pytest.mark.parametrize('batch_size', [4, 10, 25])
def test_every_epoch_is_another_permutation(write_images, batch_size):
    write_images(10, 'set/train')
    data = open_folder(write_images(0, 'set'))
    batches = take(train_batches(data, batch_size=batch_size, seed=5), 100 // batch_size)
    order = seen(batches)
    epochs = [tuple(order[i : i + 10]) for i in range(0, 100, 10)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert len(set(epochs)) == 10
    other = seen(take(train_batches(data, batch_size=batch_size, seed=6), 100 // batch_size))
    # No epoch of one seed is an epoch of the next one either, as adding seed and epoch would give.
    assert not set(epochs) & {tuple(other[i : i + 10]) for i in range(0, 100, 10)}


def test_order_is_uniform(write_images):
    """Each of the six orders of three examples comes up equally often."""
    write_images(3, 'set/train')
    data = open_folder(write_images(0, 'set'))
    orders = [tuple(b['x'][:, 0, 0, 0]) for b in take(train_batches(data, batch_size=3, seed=1), 1200)]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert sum(counts) == 1200
    # Standard deviation sqrt(1200 * 1/6 * 5/6) = 12.9; five of them
    assert max(abs(count - 200) for count in counts) < 65


def test_resumes_anywhere(varied):
    for data in augmented(varied), augmented(varied, cache_gib=0):
        whole = take(train_batches(data, batch_size=6, seed=2), 20)
        for start in 1, 7, 19:
            part = take(train_batches(data, batch_size=6, seed=2, start=start), 20 - start)
            same(part, whole[start:])


def test_far_start_costs_nothing(digits):
    start = 10**12
    one, two = take(train_batches(digits, batch_size=64, seed=0, start=start), 2)
    same([two], take(train_batches(digits, batch_size=64, seed=0, start=start + 1), 1))
    assert (one['x'] != two['x']).any()


@pytest.mark.slow
def test_workers_threads_and_memory_change_nothing(varied):
    data = augmented(varied)
    assert data.cached
    reference = take(train_batches(data, batch_size=6, seed=9), 12)
    same(take(train_batches(data, batch_size=6, seed=9), 12), reference)  # now from memory
    for options in {'prefetch': 0}, {'prefetch': 3}, {'workers': 1}, {'workers': 2}:
        streamed = augmented(varied, cache_gib=0, **options)
        assert not streamed.cached
        same(take(train_batches(streamed, batch_size=6, seed=9), 12), reference)
        if 'workers' in options:
            same(list(eval_batches(streamed, batch_size=6)), list(eval_batches(data, batch_size=6)))


@pytest.mark.parametrize('cache_gib', [0.0, 1.0])
def test_processes_share_the_global_batch(varied, cache_gib):
    data = augmented(varied, cache_gib=cache_gib)
    whole = take(train_batches(data, batch_size=6, seed=9), 10)
    parts = [
        take(train_batches(data, batch_size=6, seed=9, process_index=p, process_count=2), 10)
        for p in range(2)
    ]
    joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)]
    same(joined, whole)
    whole = list(eval_batches(data, batch_size=6))
    parts = [list(eval_batches(data, batch_size=6, process_index=p, process_count=2)) for p in range(2)]
    joined = [{key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*parts, strict=True)]
    same(joined, whole)


def test_crops_and_flips_cover_all_places(tmp_path):
    """An image whose pixels are numbered shows which crop was taken."""
    (tmp_path / 'train').mkdir()
    numbered = np.arange(36, dtype=np.uint8).reshape(6, 6)
    Image.fromarray(numbered).save(tmp_path / 'train' / 'a.png')
    data = augmented(tmp_path, channels=1)
    images = np.concatenate([b['x'] for b in take(train_batches(data, batch_size=50, seed=0), 20)])
    found = set()
    for image in images[..., 0]:
        flipped = image[0, 0] > image[0, 1]
        image = image[:, ::-1] if flipped else image
        top, left = divmod(int(image[0, 0]), 6)
        np.testing.assert_array_equal(image, numbered[top : top + 4, left : left + 4])
        found.add((top, left, bool(flipped)))
    assert found == set(itertools.product(range(3), range(3), [False, True]))


def test_memory_does_not_change_under_flips(write_images):
    """Flipping a batch in place must not flip what is kept."""
    root = write_images(0, 'set/train')
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(root / 'a.png')
    data = open_folder(root.parent, channels=1, flip=True)
    take(train_batches(data, batch_size=8, seed=0), 20)
    (batch,) = eval_batches(data, batch_size=1)
    np.testing.assert_array_equal(batch['x'][0, :, :, 0], np.arange(16).reshape(4, 4))


@pytest.mark.parametrize('batch_size', [1, 4, 11, 50])
def test_evaluation_sees_each_example_once_in_order(write_images, batch_size):
    write_images(11, 'set/train')
    data = open_folder(write_images(0, 'set'))
    batches = list(eval_batches(data, batch_size=batch_size, pad=True))
    assert len(batches) == -(-11 // batch_size)
    assert all(len(batch['mask']) == batch_size for batch in batches)
    mask = np.concatenate([batch['mask'] for batch in batches])
    assert mask.tolist() == [True] * 11 + [False] * (len(mask) - 11)
    images = np.concatenate([batch['x'] for batch in batches])
    assert sorted(images[mask][:, 0, 0, 0]) == list(range(11))
    assert not images[~mask].any()
    same(list(eval_batches(data, batch_size=batch_size, pad=True)), batches)


def test_batches_hold_no_padding_unless_it_is_asked_for(write_images):
    root = write_images(5, 'set/train')
    (root / 'broken.png').write_bytes(b'no image')
    data = open_folder(root.parent, max_undecodable=0.5)
    padded = list(eval_batches(data, batch_size=4, pad=True))
    assert [len(batch['mask']) for batch in padded] == [4, 4]
    plain = list(eval_batches(data, batch_size=4))
    assert sum(len(batch['mask']) for batch in plain) == 5
    same(plain, [{name: rows[batch['mask']] for name, rows in batch.items()} for batch in padded])


def options_of(mode):
    return {'memory': {}, 'threads': {'cache_gib': 0}, 'process': {'cache_gib': 0, 'workers': 1}}[mode]


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(logging, 'warning', lambda text, *values: lines.append(text % values))
    return lines


@pytest.mark.parametrize('mode', ['memory', 'threads', 'process'])
def test_undecodable_images_are_skipped_and_named(write_images, warnings, mode):
    broken = {2, 3, 11}
    root = write_images(12, 'set/train', broken=broken).parent
    data = open_folder(root, image_size=6, max_undecodable=0.25, **options_of(mode))
    whole = open_folder(write_images(12, 'good/train').parent, image_size=6)
    steps = 6
    batches = take(train_batches(data, batch_size=8, seed=0), steps)
    listing = seen(eval_batches(whole, batch_size=12))
    expected = seen(take(train_batches(whole, batch_size=8, seed=0), steps))
    for row, number in enumerate(expected):
        place = listing.index(number)
        while listing[place] in broken:
            place = (place + 1) % 12
        expected[row] = listing[place]
    assert seen(batches) == expected
    assert all(batch['mask'].all() for batch in batches)

    (batch,) = eval_batches(data, batch_size=12, pad=True)
    assert batch['mask'].tolist() == [number not in broken for number in listing]
    for number in broken:
        assert len([line for line in warnings if str(root / f'train/{number:03}.png') in line]) == 1
    assert len(warnings) == 3


@pytest.mark.parametrize('mode', ['memory', 'threads', 'process'])
def test_too_many_undecodable_images_stop(write_images, mode):
    root = write_images(12, 'set/train', broken={2, 3, 11}).parent
    data = open_folder(root, image_size=6, max_undecodable=0.2, **options_of(mode))
    with pytest.raises(UserError, match=r'3 images of 12 .*0\d\d\.png.*max_undecodable'):
        list(eval_batches(data, batch_size=4))
    with pytest.raises(UserError, match='max_undecodable'):
        take(train_batches(data, batch_size=12, seed=0), 3)


@pytest.mark.parametrize(('share', 'stops'), [(0.0, True), (0.01, False), (1.0, False)])
def test_how_many_are_tolerated(write_images, share, stops):
    root = write_images(5, 'set/train', broken={1}).parent
    data = open_folder(root, max_undecodable=share, image_size=6)
    if stops:
        with pytest.raises(UserError, match='1 image of 5'):
            list(eval_batches(data, batch_size=5))
    else:
        (batch,) = eval_batches(data, batch_size=5)
        assert batch['mask'].sum() == 4


def test_all_undecodable(write_images):
    root = write_images(3, 'set/train', broken={0, 1, 2}).parent
    with pytest.raises(UserError, match='3 images of 3'):
        open_folder(root, max_undecodable=1.0)
    data = open_folder(root, max_undecodable=1.0, image_size=6)
    with pytest.raises(UserError, match='3 images of 3'):
        next(train_batches(data, batch_size=2, seed=0))


@pytest.mark.parametrize('mode', ['memory', 'threads', 'process'])
def test_unequal_sizes(write_images, mode):
    root = write_images(5, 'set/train').parent
    Image.new('RGB', (7, 9)).save(root / 'train' / 'other.png')
    data = open_folder(root, **options_of(mode))
    with pytest.raises(UserError, match=r'\.png is (7x9|6x6) pixels, not (6x6|7x9).*image_size'):
        list(eval_batches(data, batch_size=2))


class Labelled(Source):
    """A source whose labels are wrong."""

    name, class_names, kind, shape = 'wrong', ('a', 'b'), 'image', (8, 8, 1)

    def __init__(self, label):
        self.label = label

    def __len__(self):
        return 1

    def read(self, indices):
        return [Record(b'', self.label) for _ in indices]

    def describe(self, index):
        return f'record {index}'


@pytest.mark.parametrize('label', [-1, 2])
@pytest.mark.parametrize('workers', [0, 1])
def test_label_out_of_range(label, workers):
    from vq_jax.data.dataset import Dataset

    data = Dataset(DataConfig(workers=workers, cache_gib=0), Labelled(label))
    with pytest.raises(UserError, match=f'record 0 has label {label}, .* from 0 to 1'):
        next(train_batches(data, batch_size=1, seed=0))


@pytest.mark.parametrize(('batch_size', 'count'), [(0, 1), (7, 2)])
def test_batch_size_must_fit(digits, batch_size, count):
    with pytest.raises(UserError, match='batch size'):
        train_batches(digits, batch_size=batch_size, seed=0, process_count=count)
    with pytest.raises(UserError, match='batch size'):
        eval_batches(digits, batch_size=batch_size, process_count=count)


def test_needs_no_tensorflow(digits):
    take(train_batches(digits, batch_size=4, seed=0), 1)
    assert 'tensorflow' not in sys.modules


def test_leaving_is_quiet_and_stops_everything(digits, tmp_path):
    batches = train_batches(digits, batch_size=4, seed=0)
    next(batches)
    batches.close()
    assert list(batches) == []

    script = tmp_path / 'script.py'
    script.write_text(
        'import multiprocessing, os, signal, sys, threading, time\n'
        'from vq_jax.data import DataConfig, open_dataset, train_batches\n'
        'read = threading.Event()\n'
        'def interrupt():\n'
        '    while not read.is_set():\n'
        '        for worker in multiprocessing.active_children():\n'
        '            os.kill(worker.pid, signal.SIGINT)\n'
        '            os.kill(worker.pid, signal.SIGTERM)\n'
        '        time.sleep(0.01)\n'
        "if __name__ == '__main__':\n"
        '    config = DataConfig(data_dir=sys.argv[1], cache_gib=0, workers=int(sys.argv[2]))\n'
        "    batches = train_batches(open_dataset(config, 'train'), batch_size=8, seed=0)\n"
        # As Ctrl-C does, or a scheduler, from the moment that there is a worker; the run stops them itself.
        '    interrupting = threading.Thread(target=interrupt, daemon=True)\n'
        '    interrupting.start()\n'
        '    for _ in range(50):\n'
        '        next(batches)\n'
        '    read.set()\n'
        '    interrupting.join()\n'
        '    raise SystemExit(3)\n'
    )
    for workers in '0', '2':
        result = subprocess.run(
            [sys.executable, script, digits.config.data_dir, workers], capture_output=True, text=True
        )
        assert (result.returncode, result.stderr) == (3, '')


LEFT = """
import multiprocessing, sys, time
from multiprocessing import shared_memory
from vq_jax.data import DataConfig, open_dataset, train_batches
shared_memory._SHM_NAME_PREFIX = sys.argv[2]  # in the workers too, which read this
if __name__ == '__main__':
    config = DataConfig(data_dir=sys.argv[1], cache_gib=0, workers=2)
    batches = train_batches(open_dataset(config, 'train'), batch_size=512, seed=0)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(10**6)
"""


def is_alive(pid):
    """Whether there is such a process that has not ended; one that nobody asks after still has a number."""
    status = Path(f'/proc/{pid}/stat')
    return status.exists() and status.read_text().rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.skipif(not Path('/dev/shm').is_dir(), reason='shared memory cannot be listed here')
def test_workers_and_their_memory_end_with_a_killed_run(digits, tmp_path):
    """A worker whose queue is full would otherwise wait for ever."""
    (tmp_path / 'left.py').write_text(LEFT)
    prefix = f'l{os.getpid()}_'
    command = [sys.executable, tmp_path / 'left.py', digits.config.data_dir, prefix]
    # A pipe ends when all that hold it have: the workers and who watches over shared memory as well.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        assert list(Path('/dev/shm').glob(f'{prefix}*'))
        process.kill()
        process.communicate()
    assert not any(map(is_alive, workers))
    # What was being made at that moment may be left as a name, to which no memory belongs yet.
    names = list(Path('/dev/shm').glob(f'{prefix}*'))
    assert not any(name.stat().st_blocks for name in names)
    for name in names:
        name.unlink()


@pytest.fixture
def streaming(varied):
    """Batches of one worker, the first of which was read, and the worker."""
    batches = train_batches(augmented(varied, cache_gib=0, workers=1, prefetch=1), batch_size=6, seed=9)
    next(batches)
    (worker,) = (c for c in multiprocessing.active_children() if c.name.startswith('grain-'))
    yield batches, worker
    batches.close()


def test_a_worker_that_is_killed_is_told(streaming):
    batches, worker = streaming
    worker.kill()
    words = r'^a process that reads data was killed, .*exit code -9\); lower config.data.workers'
    with pytest.raises(UserError, match=words):
        take(batches, 100)


def test_a_worker_that_is_stopped_is_not_waited_for_for_ever(streaming, monkeypatch):
    batches, worker = streaming
    monkeypatch.setattr('vq_jax.data.batches._PATIENCE_WITH_STOPPED', 2)
    os.kill(worker.pid, signal.SIGSTOP)
    words = rf'^a process that reads data \({worker.pid}\) has been stopped for 2 seconds; .*workers to 0'
    with pytest.raises(UserError, match=words):
        take(batches, 100)
    worker.join()
    assert worker.exitcode == -signal.SIGKILL

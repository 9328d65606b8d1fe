"""Images per second of the input pipeline, beside plain decoding in a loop.

    python benchmarks/input_pipeline.py [--data_dir DIR] [--seconds 2] [--rounds 3] [--output FILE]

`plain` reads a batch of records, then decodes and resizes one image after the other, with nothing
around it.
The other columns are training batches: images kept in memory (after their first visit), streamed
by threads, and streamed by one or two worker processes. Rounds alternate between the columns; the
median is printed with its ratio to plain decoding, because machines are noisy.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import grain  # noqa: F401  (loaded before the clock starts)
import numpy as np
import skimage
from PIL import Image

from vq_jax.data import DataConfig, open_dataset, train_batches
from vq_jax.data.open import open_source
from vq_jax.data.transforms import image as images
from vq_jax.errors import UserError

BATCH = 128
COLUMNS = {
    'plain': None,
    'memory': {'cache_gib': 4.0},
    'threads': {'cache_gib': 0.0},
    '1 worker': {'cache_gib': 0.0, 'workers': 1},
    '2 workers': {'cache_gib': 0.0, 'workers': 2},
}
PHOTOGRAPHS = ('astronaut.png', 'chelsea.png', 'coffee.png', 'motorcycle_left.png', 'rocket.jpg')


def write_folder(root, number=1000, side=256):
    """Writes JPEG crops of photographs, as a folder of somebody's images has them."""
    source = Path(skimage.__file__).parent / 'data'
    photos = [Image.open(source / name, formats=('JPEG', 'PNG')).convert('RGB') for name in PHOTOGRAPHS]
    random = np.random.default_rng(0)
    for i in range(number):
        photo = photos[i % len(photos)]
        left = int(random.integers(photo.width - side + 1))
        top = int(random.integers(photo.height - side + 1))
        folder = Path(root, 'train', PHOTOGRAPHS[i % len(photos)].split('.')[0])
        folder.mkdir(parents=True, exist_ok=True)
        photo.crop((left, top, left + side, top + side)).save(folder / f'{i:04}.jpg', quality=90)


def plain(config, seconds):
    """Images per second of a loop that reads a batch and decodes one image after the other."""
    source = open_source(config, config.train_split, prepare=True)
    channels = config.channels or source.shape[-1]
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for record in source.read([i % len(source) for i in range(done, done + BATCH)]):
            images.arrange(images.decode(record.stored, channels), config)
        done += BATCH
    return done / (time.perf_counter() - begin)


def pipeline(data, seconds):
    """Images per second of training batches, and seconds until the first one."""
    begin = time.perf_counter()
    batches = train_batches(data, batch_size=BATCH, seed=0)
    next(batches)
    first = time.perf_counter() - begin
    if data.cached:
        # After one epoch everything is in memory.
        for _ in range(len(data) // BATCH + 1):
            next(batches)
    for _ in range(2 * data.config.prefetch):  # what was made before the clock started
        next(batches)
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        next(batches)
        done += BATCH
    speed = done / (time.perf_counter() - begin)
    batches.close()
    return speed, first


def measure(config, seconds, rounds):
    """Returns images per second (median) and seconds to the first batch of each column."""
    datasets = {
        column: open_dataset(dataclasses.replace(config, **options), config.train_split, prepare=True)
        for column, options in COLUMNS.items()
        if options is not None
    }
    speeds = {column: [] for column in COLUMNS}
    firsts = {}
    for _ in range(rounds):
        speeds['plain'].append(plain(config, seconds))
        for column, data in datasets.items():
            speed, first = pipeline(data, seconds)
            speeds[column].append(speed)
            firsts.setdefault(column, first)  # later, the memory is warm
    return {column: statistics.median(values) for column, values in speeds.items()}, firsts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data_dir', help='prepared data sets; default TFDS_DATA_DIR')
    parser.add_argument('--seconds', type=float, default=2.0, help='length of one measurement')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--output', type=Path, help='JSON file to write')
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        write_folder(folder)
        cases = {
            'digits 8': DataConfig(name='digits'),
            'mnist 32': DataConfig(name='mnist', data_dir=args.data_dir, pad=2),
            'imagenette 128': DataConfig(
                name='imagenette/160px-v2', data_dir=args.data_dir, image_size=128, flip=True
            ),
            'imagenette 64 crop': DataConfig(
                name='imagenette/160px-v2',
                data_dir=args.data_dir,
                image_size=64,
                resize=72,
                random_crop=True,
                flip=True,
            ),
            'folder 256 to 128': DataConfig(name=f'folder:{folder}', image_size=128),
        }
        print(f'{os.cpu_count()} CPU cores, {platform.machine()}, batches of {BATCH}')
        print(f'{"images/s (ratio to plain)":<26}' + ''.join(f'{c:>18}' for c in COLUMNS))
        results = {}
        for case, config in cases.items():
            try:
                speeds, firsts = measure(config, args.seconds, args.rounds)
            except UserError as error:
                print(f'{case:<26}skipped: {error}')
                continue
            results[case] = {'images_per_second': speeds, 'seconds_to_first_batch': firsts}
            cells = [f'{v:,.0f} ({v / speeds["plain"]:.2f})' for v in speeds.values()]
            print(f'{case:<26}' + ''.join(f'{cell:>18}' for cell in cells))
            waits = ['seconds to first batch', '', *(f'{value:.2f}' for value in firsts.values())]
            print(f'{"  " + waits[0]:<26}' + ''.join(f'{wait:>18}' for wait in waits[1:]))
    if args.output:
        machine = {'cpu_cores': os.cpu_count(), 'machine': platform.machine(), 'batch': BATCH}
        args.output.write_text(json.dumps(machine | {'results': results}, indent=2) + '\n')


if __name__ == '__main__':
    main()

"""What each host of a pod reads of the training data, against the number of hosts, by pretending to be each.

    python benchmarks/hosts.py [--data_dir DIR] [--hosts 1,4,16,64] [--output FILE]

The batches of one epoch are made as each host makes its own, one host after the other, each with the whole
machine to itself, in one thread. Counted are the examples and bytes that a host reads, those that it looks at
first included; measured are the seconds until it has all its batches. All hosts together must read each
example of the epoch once. The disks and the network that the hosts of a pod share are not pretended.
"""

import argparse
import collections
import json
import os
import platform
import time
from pathlib import Path

import grain  # noqa: F401  (loaded before the clock starts)

from vq_jax.data import DataConfig, train_batches
from vq_jax.data.dataset import Dataset
from vq_jax.data.open import open_source

BATCH = 1024


class Counted:
    """A source that counts what is read of it.

    Attributes:
      reads: how often each example was read.
      bytes: of all that was read.
    """

    def __init__(self, source):
        self._source = source
        self.reads, self.bytes = collections.Counter(), 0

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __len__(self):
        return len(self._source)

    def read(self, indices):
        """What the source has of the examples."""
        examples = self._source.read(indices)
        self.reads.update(map(int, indices))
        self.bytes += sum(len(example.stored) for example in examples)
        return examples


def epoch(config, host, hosts):
    """How often a host reads each example for the batches of an epoch, all bytes it reads, and seconds."""
    source = Counted(open_source(config, config.train_split, prepare=True))
    data = Dataset(config, source)
    source.reads.clear()
    begin = time.perf_counter()
    batches = train_batches(data, batch_size=BATCH, seed=0, process_index=host, process_count=hosts)
    for _ in range(len(data) // BATCH):
        next(batches)
    seconds = time.perf_counter() - begin
    batches.close()
    return source.reads, source.bytes, seconds


def measure(config, hosts):
    """What the hosts of a pod of so many read, the least and the most of them."""
    reads, sizes, seconds = collections.Counter(), [], []
    for host in range(hosts):
        own, size, took = epoch(config, host, hosts)
        reads += own
        sizes.append(size)
        seconds.append(took)
    times = set(reads.values())
    if times != {1}:
        raise AssertionError(f'of {hosts} hosts, examples were read {sorted(times)} times')
    return {
        'hosts': hosts,
        'examples': reads.total(),
        'megabytes': [min(sizes) / 1e6, max(sizes) / 1e6],
        'seconds': [min(seconds), max(seconds)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data_dir', help='prepared data sets; default TFDS_DATA_DIR')
    parser.add_argument('--name', default='imagenette/160px-v2', help='of the data set')
    parser.add_argument('--size', type=int, default=128, help='of its images, pixels')
    parser.add_argument('--hosts', default='1,4,16,64', help='numbers of hosts')
    parser.add_argument('--output', type=Path, help='JSON file to write')
    args = parser.parse_args()

    config = DataConfig(
        name=args.name, data_dir=args.data_dir, image_size=args.size, flip=True, cache_gib=0, prefetch=0
    )
    print(f'{args.name}, batches of {BATCH}, {os.cpu_count()} CPU cores, {platform.machine()}')
    print('hosts, examples of all, MB of each host, seconds of each host')
    rows = []
    for hosts in map(int, args.hosts.split(',')):
        rows.append(row := measure(config, hosts))
        (least, most), (fast, slow) = row['megabytes'], row['seconds']
        print(
            f'{hosts}, {row["examples"]:,}, {least:.2f} to {most:.2f}, {fast:.2f} to {slow:.2f}', flush=True
        )
    if args.output:
        args.output.write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
    main()

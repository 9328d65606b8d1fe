"""Videos for tests: a square that moves over a ground of another colour, to the left or to the right."""

import numpy as np

from vq_jax.data import Record, Source, parts_of

FRAMES, SIZE = 5, 16


class Films(Source):
    """32 to learn from, the first 8 of which are to test with, of 5 frames of 16x16 in colour."""

    kind, shape, rate, class_names = 'video', (FRAMES, SIZE, SIZE, 3), 8.0, ('left', 'right')

    def __init__(self, config, split):
        self.name = f'films ({split})'
        self.numbers = [i for _, indices in parts_of(split, {'train': 32, 'test': 8}) for i in indices]

    def __len__(self):
        return len(self.numbers)

    def read(self, indices):
        return [Record(film(self.numbers[i], FRAMES), self.numbers[i] % 2) for i in indices]


def film(i, frames):
    """Video number i, uint8 [frames 16 16 3]."""
    rng = np.random.default_rng(i)
    colours, top, start = rng.integers(0, 256, (2, 3)), rng.integers(0, 10), rng.integers(0, SIZE)
    x = np.broadcast_to(colours[0], (frames, SIZE, SIZE, 3)).astype(np.uint8)
    for frame in range(frames):
        x[frame, top : top + 6, :6] = colours[1]
        x[frame] = np.roll(x[frame], start + (2 if i % 2 else -2) * frame, axis=1)
    return x

"""Moving MNIST: two digits that bounce off the walls, made of MNIST when they are asked for.

The data of Srivastava et al. 2015, Unsupervised Learning of Video Representations using LSTMs
(arXiv:1502.04681), with the speed of their code. The videos of its test set are others than those of the file
`mnist_test_seq.npy`, which papers share.
"""

from collections.abc import Sequence

import numpy as np

from vq_jax.data.config import DataConfig
from vq_jax.data.source import Record, Source, parts_of
from vq_jax.data.sources.tfds import TfdsSource, data_dir, find, missing
from vq_jax.data.transforms import Undecodable
from vq_jax.data.transforms.image import decode, pixels
from vq_jax.errors import UserError

NAME = 'moving_mnist'
_FRAMES, _SIDE, _DIGIT, _DIGITS = 20, 64, 28, 2
_ROOM = _SIDE - _DIGIT  # pixels that a digit can move
_SPEED = 0.1  # of the room, in a frame
# Of the paper's training set there is no end. Each split is of the digits of the same split of MNIST.
_SIZES = {'train': 1_000_000, 'test': 10_000}
_SEEDS = {'train': 0, 'test': 1}


class MovingMnistSource(Source):
    """Videos of 20 frames of 64x64 pixels, grey: each is a function of its split and number alone."""

    kind = 'video'
    shape = (_FRAMES, _SIDE, _SIDE, 1)

    def __init__(self, config: DataConfig, split: str) -> None:
        """Opens a split, in the syntax of tensorflow-datasets.

        Raises:
          UserError: If there is no such split, or MNIST is not prepared.
        """
        self.name = f'{NAME} ({split})'
        try:
            self._parts = parts_of(split, _SIZES)
        except UserError as error:
            raise UserError(f'{error} Set {config.split_key(split)} to one of them.') from error
        self._ends = np.cumsum([len(numbers) for _, numbers in self._parts])
        place = data_dir(config.data_dir)
        folder = find('mnist', place)
        if folder is None:
            raise missing('mnist', place, ())
        of_digits = DataConfig(name='mnist', data_dir=config.data_dir)
        self._digits = {part: TfdsSource(folder, part, of_digits) for part, _ in self._parts}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, indices: Sequence[int]) -> list[Record]:
        """Returns the frames of each, uint8 [20 64 64 1]."""
        videos = [self._place(int(index)) for index in indices]
        made = [trajectories(_SEEDS[part], number, len(self._digits[part])) for part, number in videos]
        wanted: dict[str, list[int]] = {part: [] for part in self._digits}
        for (part, _), (chosen, _) in zip(videos, made, strict=True):
            wanted[part] += chosen
        # All at once: each call of the reader starts threads.
        digits = {part: iter(self._digits[part].read(numbers)) for part, numbers in wanted.items()}
        return [
            _video([next(digits[part]) for _ in chosen], places)
            for (part, _), (chosen, places) in zip(videos, made, strict=True)
        ]

    def _place(self, index: int) -> tuple[str, int]:
        """Returns the split of an example, and its number there."""
        at = int(np.searchsorted(self._ends, index, side='right'))
        part, numbers = self._parts[at]
        return part, numbers[index - int(self._ends[at - 1] if at else 0)]


def _video(digits: Sequence[Record], places: np.ndarray) -> Record:
    """Puts digits into frames; the brighter one is seen where they overlap."""
    frames = np.zeros((_FRAMES, _SIDE, _SIDE), np.uint8)
    for record, path in zip(digits, places, strict=True):
        if isinstance(record.stored, Exception):
            return Record(record.stored)
        try:
            image = pixels(decode(record.stored, channels=1))[..., 0]
        except Undecodable as error:
            return Record(error)
        for frame, (top, left) in zip(frames, path, strict=True):
            under = frame[top : top + _DIGIT, left : left + _DIGIT]
            np.maximum(under, image, out=under)
    return Record(frames[..., None])


def trajectories(seed: int, number: int, digits: int) -> tuple[list[int], np.ndarray]:
    """Chooses digits, and says where they are in each frame.

    A digit begins anywhere, goes in any direction, and is reflected by the walls. The numbers come from the
    mixing function of NumPy's `SeedSequence`, which does not change from version to version.

    Args:
      seed: Of a split.
      number: Of a video in it.
      digits: How many there are to choose from.

    Returns:
      Their numbers, and the pixel at the top and the left of each, int [2 20 2].
    """
    words = np.random.SeedSequence((seed, number)).generate_state(4 * _DIGITS).reshape(_DIGITS, 4)
    uniform = words[:, 1:] / 2**32
    angles = 2 * np.pi * uniform[:, 2]
    directions = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    straight = uniform[:, None, :2] + _SPEED * np.arange(_FRAMES)[:, None] * directions[:, None]
    reflected = 1 - np.abs(straight % 2 - 1)
    return (words[:, 0] % digits).tolist(), (_ROOM * reflected).astype(int)

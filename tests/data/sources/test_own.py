"""Data sets of one's own: arrays of any kind, conditions, and what does not fit."""

from typing import ClassVar

import numpy as np
import pytest

from vq_jax.data import DataConfig, Record, Source, eval_batches, open_dataset, parts_of, train_batches
from vq_jax.errors import UserError
from vq_jax.extensions import allowing
from vq_jax.spec import ConditionSpec


class Blobs(Source):
    """Videos whose first value is their number; the third cannot be read."""

    kind, shape, rate, class_names = 'video', (2, 4, 4, 1), 8.0, ('a', 'b')
    conditions: ClassVar = {'speed': ConditionSpec(()), 'way': ConditionSpec((2,), 'int32')}

    def __init__(self, config, split):
        self.name = f'blobs ({split})'
        self.numbers = [i for _, indices in parts_of(split, {'train': 12, 'test': 4}) for i in indices]

    def __len__(self):
        return len(self.numbers)

    def read(self, indices):
        return [self.record(self.numbers[i]) for i in indices]

    def record(self, i):
        if i == 2:
            return Record(ValueError('it is torn'))
        return Record(np.full(self.shape, i, np.uint8), i % 2, {'speed': i / 2, 'way': [i, -i]})


class Waves(Source):
    """Sounds, with a condition of another type than is said."""

    kind, shape, conditions = 'audio', (8, 1), {'x': ConditionSpec(())}

    def __init__(self, config, split):
        self.name = 'waves'

    def __len__(self):
        return 1

    def read(self, indices):
        return [Record((np.zeros((8, 1), np.int16), 8.0), 0, {'x': 'loud'}) for _ in indices]


class Pitched(Waves):
    conditions: ClassVar = {'pitch': ConditionSpec(())}


class Uneven(Blobs):
    kind, shape, rate = 'text', (3,), None

    def record(self, i):
        return Record(np.zeros(2, np.int32), 0, {'speed': 0, 'way': [0, 0]})


def opened(name, split='train', **keys):
    with allowing([__name__]):
        return open_dataset(DataConfig(name=f'class:{__name__}:{name}', **keys), split)


@pytest.mark.parametrize('cache_gib', [0, 1])
def test_batches_have_the_conditions_of_their_examples(cache_gib):
    data = opened('Blobs', cache_gib=cache_gib, max_undecodable=0.2)
    assert str(data.spec) == 'video of 2x4x4x1' and data.spec.rate == 8
    for batches in (train_batches(data, batch_size=8, seed=0), eval_batches(data, batch_size=5, pad=True)):
        for _ in range(3):
            batch = next(batches)
            number = batch['x'][:, 0, 0, 0, 0]
            assert batch['speed'].dtype == np.float32 and batch['way'].dtype == np.int32
            np.testing.assert_array_equal(batch['speed'], number / 2)
            np.testing.assert_array_equal(batch['way'][:, 1], -number.astype(int))
            np.testing.assert_array_equal(batch['label'], number % 2)
        batches.close()
    np.testing.assert_array_equal(batch['mask'], [True, True, False, False, False])


def test_a_split_is_a_part_of_it():
    assert len(opened('Blobs', 'test[:50%]')) == 2
    with pytest.raises(UserError, match="no split 'nosuch'; the data set has train, test"):
        opened('Blobs', 'nosuch')


@pytest.mark.parametrize(
    'name, words',
    [
        ('Waves', 'has conditions of the names x, which batches have for something else'),
        ('Pitched', r'the condition pitch of waves example 0 is object \[\]; give float32 \[\]'),
        ('Uneven', r'is int32 of shape \(2,\), not int32 of \(3,\)'),
        ('DataConfig', 'no subclass of vq_jax.data.Source'),
        ('Nosuch', 'has no class Nosuch'),
    ],
)
def test_what_a_source_may_not_give(name, words):
    with pytest.raises(UserError, match=words):
        next(train_batches(opened(name), batch_size=1, seed=0))


def test_keys_of_other_kinds_are_refused():
    with pytest.raises(UserError, match=r'config\.data\.sample_rate is 8, which is for audio'):
        opened('Blobs', sample_rate=8)

"""Reference statistics that somebody else may have written."""

import json

import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.evaluators.reference import Reference
from vq_jax.ops.moments import Moments

MADE = {'dataset': 'digits', 'split': 'test'}
FEATURES = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)


@pytest.fixture
def file(tmp_path):
    Reference(Moments.of(FEATURES), FEATURES, MADE).save(tmp_path / 'reference.npz')
    return tmp_path / 'reference.npz'


def test_what_was_saved_is_read(file):
    read = Reference.read(file, MADE, least=9)
    np.testing.assert_array_equal(read.features, FEATURES)
    np.testing.assert_array_equal(read.moments.scatter, Moments.of(FEATURES).scatter)
    assert read.moments.count == 9 and read.made == MADE


@pytest.mark.parametrize(
    'name, value',
    [
        ('count', 9.0),
        ('count', np.arange(2)),
        ('count', 8),
        ('count', 'many'),
        ('mean', np.zeros(4)),
        ('mean', np.zeros(3, np.complex128)),
        ('mean', np.full(3, np.nan)),
        ('scatter', np.zeros((3, 4))),
        ('scatter', np.full((3, 3), np.inf)),
        ('features', FEATURES[0]),
        ('features', FEATURES[:1]),
        ('features', FEATURES.astype(np.float64)),
        ('features', FEATURES.astype('U8')),
        ('made', 3),
        ('made', '[]'),
        ('made', '[' * 100_000),
        ('made', 'no JSON'),
        ('made', None),
    ],
)
def test_other_content_is_told_in_a_sentence(file, name, value):
    arrays = dict(np.load(file))
    arrays.pop(name)
    np.savez(file, **arrays, **({} if value is None else {name: value}))
    with pytest.raises(UserError, match=r'cannot be read as reference statistics \(.*; name another') as told:
        Reference.read(file, MADE)
    assert '\n' not in str(told.value)


def test_too_few_images_and_other_ones(file):
    with pytest.raises(UserError, match='features of 9 of 9 images'):
        Reference.read(file, MADE, least=10)
    arrays = dict(np.load(file))
    np.savez(file, **arrays | {'made': json.dumps(MADE | {'dataset': [3]})})
    with pytest.raises(UserError, match=r"of another dataset \(there \[3\], here 'digits'\)"):
        Reference.read(file, MADE)

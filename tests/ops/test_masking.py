"""Schedules of masks, and masks sampled from them."""

import typing

import jax
import numpy as np
import pytest

from vq_jax.ops.masking import Schedule, masked_share, random_mask


@pytest.mark.parametrize('schedule', typing.get_args(Schedule))
def test_a_schedule_falls_from_one_to_nothing(schedule):
    shares = np.asarray(masked_share(schedule, np.linspace(0, 1, 33, dtype=np.float32)))
    assert shares[0] == 1 and abs(shares[-1]) < 1e-6
    assert (np.diff(shares) < 0).all()


def test_the_cosine_schedule_is_the_published_one():
    np.testing.assert_allclose(masked_share('cosine', np.float32(1 / 3)), np.cos(np.pi / 6), rtol=1e-6)


def test_masks_cover_the_share_that_the_schedule_gives_on_average():
    masks = random_mask(jax.random.split(jax.random.key(0), 4_000), 64, 'cosine')
    counts = np.asarray(masks).sum(1)
    assert counts.min() >= 1 and counts.max() == 64
    # The mean of cos(pi r / 2) over r; rounding up adds half a token.
    assert abs(counts.mean() - (64 * 2 / np.pi + 0.5)) < 1.0
    places = np.asarray(masks).mean(0)  # no place is preferred
    assert places.std() < 0.02

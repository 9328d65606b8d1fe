"""Schedules of masks, and masks sampled from them."""

import typing

import jax
import numpy as np
import pytest

from vq_jax.ops.masking import Schedule, masked_share, random_holes, random_mask, training_holes


@pytest.mark.parametrize('schedule', typing.get_args(Schedule))
def test_a_schedule_falls_from_one_to_nothing(schedule):
    shares = np.asarray(masked_share(schedule, np.linspace(0, 1, 33, dtype=np.float32)))
    assert shares[0] == 1 and abs(shares[-1]) < 1e-6
    assert (np.diff(shares) < 0).all()


def test_the_cosine_schedule_is_the_published_one():
    np.testing.assert_allclose(masked_share('cosine', np.float32(1 / 3)), np.cos(np.pi / 6), rtol=1e-6)


def test_masks_cover_the_share_that_the_schedule_gives_on_average():
    masks = random_mask(jax.random.split(jax.random.key(0), 4_000), np.ones((4_000, 64), bool), 'cosine')
    counts = np.asarray(masks).sum(1)
    assert counts.min() >= 1 and counts.max() == 64
    # The mean of cos(pi r / 2) over r; rounding up adds half a token.
    assert abs(counts.mean() - (64 * 2 / np.pi + 0.5)) < 1.0
    places = np.asarray(masks).mean(0)  # no place is preferred
    assert places.std() < 0.02


def test_masks_are_among_what_is_not_known():
    keys = jax.random.split(jax.random.key(0), 2_000)
    among = np.random.default_rng(0).random((2_000, 30)) < np.linspace(0.1, 1, 2_000)[:, None]
    among[:, 0] = True
    masks = np.asarray(random_mask(keys, among, 'linear'))
    assert masks.any(1).all() and not (masks & ~among).any()
    # The mean of 1 - r; rounding up adds half a token.
    assert abs((masks.sum(1) - among.sum(1) / 2).mean() - 0.5) < 0.3


def test_holes_leave_the_first_or_both_ends_or_are_boxes():
    grid = (5, 4, 3)
    holes = np.asarray(random_holes(jax.random.split(jax.random.key(0), 900), grid))
    assert holes.shape == (900, *grid) and holes.any((1, 2, 3)).all()
    seen = {'follows': 0, 'between': 0, 'box': 0}
    for hole in holes:
        of_axes = [hole.any(tuple({0, 1, 2} - {axis})) for axis in range(3)]
        assert (hole == np.einsum('i,j,k->ijk', *of_axes)).all()
        assert all(np.abs(np.diff(axis.astype(int))).sum() <= 2 for axis in of_axes)  # each in one piece
        whole = of_axes[1].all() and of_axes[2].all() and not of_axes[0][0]
        ends = of_axes[0][-1]
        seen['box' if not whole else 'follows' if ends else 'between'] += 1
    assert all(220 < number < 380 for number in seen.values()), seen
    starts = [hole.any((1, 2)).argmax() for hole in holes if hole[-1].all() and hole[0].sum() == 0]
    assert set(starts) == {1, 2, 3, 4}
    for short in ((1,), (2,), (1, 2)):  # of which there are no two ends with something between
        assert np.asarray(random_holes(jax.random.split(jax.random.key(0), 50), short)).any().all()


def test_a_share_of_the_examples_has_a_hole_and_the_others_are_one():
    holes = np.asarray(training_holes(jax.random.split(jax.random.key(0), 2_000), 0.3, (4, 4, 4)))
    assert abs(1 - holes.all((1, 2, 3)).mean() - 0.3) < 0.04

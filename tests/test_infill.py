"""Stretches of time that are sampled anew, in examples of any length, by a model of one length."""

import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vq_jax
from vq_jax.run import Run
from vq_jax.spec import Spec
from vq_jax.tasks import default_config
from vq_jax.tasks.restore import Restored


def inpaint(state, keys, images, mask, labels):
    """Noise of each example's own key, so that no two windows that are sampled alike stay unknown."""
    noise = jax.vmap(lambda key, x: jax.random.randint(key, x.shape, 1, 100))(keys, images)
    return jnp.where(mask[..., None], noise, images).astype(images.dtype)


def opened(spec):
    task = types.SimpleNamespace(
        inpaint=inpaint, num_labels=0, conditioner=None, check_spec=lambda given: given == spec or 1 / 0
    )
    return Run(Restored(default_config('prior'), task, {}, spec, 0, Path()))


@pytest.mark.parametrize('spec', [Spec('audio', (8, 2), 4), Spec('video', (8, 4, 6, 1), 4)], ids=str)
@pytest.mark.parametrize('total, start, stop', [(20, 9, 12), (20, 20, 31), (3, 3, 6), (5, 0, 2), (20, 3, 19)])
def test_only_the_stretch_is_sampled(spec, total, start, stop):
    x = np.full((2, total, *spec.shape[1:]), 100, spec.dtype)
    x[1] = 200
    made = opened(spec).infill(x, start, stop)
    assert made.shape == (2, max(total, stop), *spec.shape[1:]) and made.dtype == spec.dtype
    np.testing.assert_array_equal(np.delete(made, np.s_[start:stop], 1), np.delete(x, np.s_[start:stop], 1))
    stretch = made[:, start:stop]
    assert (stretch > 0).all() and (stretch < 100).all()
    columns = stretch.reshape(2, stop - start, -1)
    assert len(np.unique(columns.reshape(2 * (stop - start), -1), axis=0)) == 2 * (stop - start)
    np.testing.assert_array_equal(made[:1], opened(spec).infill(x[:1], start, stop))
    assert (opened(spec).infill(x, start, stop, seed=1)[:, start:stop] != stretch).any()


def seen(spec, x, *stretch, **options):
    """What `inpaint` is given as the hole, of one window after the other, bool [windows t]."""
    run, holes = opened(spec), []

    def keep(given, mask, label, seed, **rest):
        holes.append(mask.reshape(len(mask), len(mask[0]), -1).all((0, 2)))
        return given

    run.inpaint = keep
    run.infill(x, *stretch, **options)
    return np.array(holes, int)


def test_what_is_known_of_what_follows():
    """Silence follows sounds that are shorter than the model's; nothing is known of what follows videos."""
    sound, video = np.zeros((1, 5, 1), np.int16), np.zeros((1, 5, 4, 6, 1), np.uint8)
    np.testing.assert_array_equal(seen(Spec('audio', (8, 1)), sound, 1, 3), [[0, 1, 1, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(seen(Spec('audio', (8, 1)), sound, 5, 6), [[0, 0, 0, 0, 0, 1, 1, 1]])
    of_video = Spec('video', (8, 4, 6, 1))
    np.testing.assert_array_equal(seen(of_video, video, 1, 3), [[0, 1, 1, 0, 0, 1, 1, 1]])
    long = np.zeros((1, 20, 4, 6, 1), np.uint8)
    np.testing.assert_array_equal(seen(of_video, long, 9, 11), [[0, 0, 0, 1, 1, 0, 0, 0]])
    two = [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1]]
    np.testing.assert_array_equal(seen(of_video, long, 20, 26), two)


def test_a_gap_in_a_text_that_ends_has_fewer_tokens():
    """And what follows, which stays, comes after it: -1 stands after a text alone."""
    run, x = opened(Spec('text', (8,))), np.array([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, -1]], np.int32)
    sampled = np.array([9, -1, 9, 9, 9, 9, 9, 9])
    run.inpaint = lambda given, mask, *rest, **others: np.where(mask, np.roll(sampled, 2), given)
    np.testing.assert_array_equal(run.infill(x, 2, 4), [[0, 1, 9, 4, 5, -1], [5, 4, 9, 1, -1, -1]])


def test_a_part_of_a_stretch():
    """Of a long video, of each its own part; windows in which there is none are left out."""
    spec = Spec('video', (8, 4, 6, 1))
    x = np.full((2, 40, 4, 6, 1), 100, np.uint8)
    mask = np.zeros((2, 40, 4, 6), bool)
    mask[0, 2:6, 1:3, 2:5] = mask[1, 4:30, :, 0] = mask[1, 38] = True
    made = opened(spec).infill(x, 0, 36, mask=mask)
    sampled = mask & (np.arange(40) < 36)[:, None, None]
    np.testing.assert_array_equal(made[..., 0] != 100, sampled)
    narrow = np.zeros((40, 4, 6), bool)
    narrow[[2, 38], 1, 1] = True
    assert len(seen(spec, x, 0, 40, mask=narrow)) == 2
    followed = opened(spec).infill(x, 0, 44, mask=narrow)
    assert followed.shape[1] == 44 and (followed[:, 40:] < 100).all()
    np.testing.assert_array_equal(followed[0, :40, ..., 0] != 100, narrow)
    with pytest.raises(vq_jax.UserError, match='nothing of the mask is True from 3 to 38; give one that is'):
        opened(spec).infill(x, 3, 38, mask=narrow)
    with pytest.raises(
        vq_jax.UserError, match=r'bool of shape \(40, 4, 6\) or \(2, 40, 4, 6\); this is bool'
    ):
        opened(spec).infill(x, 3, 38, mask=narrow[0])


@pytest.mark.parametrize('start, stop', [(9, 12), (5, 5), (-1, 5), (0.0, 5)])
def test_stretches_that_are_none(start, stop):
    x = np.zeros((1, 8, 1), np.int16)
    with pytest.raises(vq_jax.UserError, match=rf'the stretch is from {start} to {stop} of 8; give whole'):
        opened(Spec('audio', (8, 1))).infill(x, start, stop)


def test_images_have_no_time():
    with pytest.raises(vq_jax.UserError, match=r'images have no time in which .*; give inpaint a mask'):
        opened(Spec('image', (8, 8, 1))).infill(np.zeros((1, 8, 8, 1), np.uint8), 1, 2)

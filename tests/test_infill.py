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


@pytest.mark.parametrize('start, stop', [(9, 12), (5, 5), (-1, 5), (0.0, 5)])
def test_stretches_that_are_none(start, stop):
    x = np.zeros((1, 8, 1), np.int16)
    with pytest.raises(vq_jax.UserError, match=rf'the stretch is from {start} to {stop} of 8; give whole'):
        opened(Spec('audio', (8, 1))).infill(x, start, stop)


def test_images_have_no_time():
    with pytest.raises(vq_jax.UserError, match=r'images have no time in which .*; give inpaint a mask'):
        opened(Spec('image', (8, 8, 1))).infill(np.zeros((1, 8, 8, 1), np.uint8), 1, 2)

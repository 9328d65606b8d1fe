"""Random keys of examples."""

import jax
import numpy as np

from vq_jax.ops.keys import content_keys, normal


def data(keys):
    return np.asarray(jax.random.key_data(keys))


def test_content_keys_depend_on_the_bytes_alone():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    keys = data(content_keys(images))
    np.testing.assert_array_equal(data(content_keys(images[2:3])), keys[2:3])
    for byte in ((0, 0, 0), (3, 3, 2), (1, 2, 0)):
        changed = images[:1].copy()
        changed[(0, *byte)] ^= 1
        assert (data(content_keys(changed)) != keys[:1]).any()
    # Two changes that leave the sum of all numbers, and of each times its place, as they were.
    changed = images[:1].astype(int)
    changed.reshape(-1)[[3, 10, 40, 47]] += [1, -1, -1, 1]
    assert (data(content_keys(changed)) != keys[:1]).any()


def test_noise_is_that_of_each_key():
    keys = jax.random.split(jax.random.key(1), 5)
    noise = normal(keys, (3, 2))
    for key, one in zip(keys, noise, strict=True):
        np.testing.assert_array_equal(one, jax.random.normal(key, (3, 2)))

"""The nearest-code search against the direct one in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops.nearest import nearest_code


def direct(z, codebook):
    """The first code at the least distance, from the definition."""
    distances = np.square(np.float64(z)[:, None] - np.float64(codebook)[None]).sum(-1)
    return distances.argmin(1)


@pytest.mark.parametrize('max_scores', [2**24, 2**12, 2**6])
def test_random_vectors(max_scores, platform):
    rng = np.random.default_rng(0)
    z, codebook = rng.normal(size=(301, 8)), rng.normal(size=(1003, 8))
    found = nearest_code(jnp.asarray(z, 'f4'), jnp.asarray(codebook, 'f4'), max_scores=max_scores)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, direct(z, codebook))


@pytest.mark.parametrize('max_scores', [2**24, 2**10, 2**6, 1])
def test_ties_go_to_the_first_code(max_scores, platform):
    """Whole numbers are exact in float32, so equal distances are equal; codes repeat across blocks."""
    rng = np.random.default_rng(1)
    z = rng.integers(-2, 3, (67, 3))
    codebook = np.concatenate([rng.integers(-2, 3, (50, 3))] * 3)
    expected = direct(z, codebook)
    distances = np.square(z[:, None] - codebook[None]).sum(-1)
    assert (distances == distances.min(1, keepdims=True)).sum() >= 3 * 67  # there are ties
    found = nearest_code(jnp.asarray(z, 'f4'), jnp.asarray(codebook, 'f4'), max_scores=max_scores)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('max_scores', [2**24, 2**12])
@pytest.mark.parametrize('mean, spread', [(100, 0.1), (-1000, 1), ([3000, 0, -7], [0.5, 1e-3, 1])])
def test_vectors_and_codes_far_from_zero(mean, spread, max_scores):
    rng = np.random.default_rng(2)
    z, codebook = (np.float32(rng.normal(size=(n, 3)) * spread + mean) for n in (500, 200))
    found = nearest_code(z, codebook, max_scores=max_scores)
    distances = np.square(np.float64(z)[:, None] - np.float64(codebook)[None]).sum(-1)
    chosen = distances[np.arange(len(z)), found]
    assert (chosen <= distances.min(1) + 1e-6 * np.square(spread).max()).all()
    assert (found == direct(z, codebook)).mean() > 0.99


@pytest.mark.parametrize('max_scores', [2**24, 2**10])
@pytest.mark.parametrize(
    'd, apart, spread', [(2, 1e3, 0.1), (64, 100, 0.1), (3, 1e20, 1e16), (3, 1e-25, 1e-29)]
)
def test_codes_in_clusters_far_apart(d, apart, spread, max_scores):
    rng = np.random.default_rng(3)
    sides = [apart * rng.choice([-1, 1], (n, 1)) for n in (150, 200)]
    z, codebook = (np.float32(rng.normal(size=(len(side), d)) * spread + side) for side in sides)
    found = nearest_code(z, codebook, max_scores=max_scores)
    distances = np.square(np.float64(z)[:, None] - np.float64(codebook)[None]).sum(-1)
    chosen = distances[np.arange(len(z)), found]
    assert (chosen <= 1.001 * distances.min(1)).all()
    assert (found == direct(z, codebook)).mean() > 0.98


def test_ties_in_clusters_go_to_the_first_code():
    rng = np.random.default_rng(4)
    z = rng.integers(-2, 3, (67, 3)) + 2**14 * rng.choice([-1, 1], (67, 1))
    codebook = rng.integers(-2, 3, (50, 3)) + 2**14 * rng.choice([-1, 1], (50, 1))
    codebook = np.concatenate([codebook] * 3)
    for max_scores in (2**24, 2**6):
        found = nearest_code(jnp.asarray(z, 'f4'), jnp.asarray(codebook, 'f4'), max_scores=max_scores)
        np.testing.assert_array_equal(found, direct(z, codebook))


def test_a_large_search_fits_in_two_gigabytes(platform):
    z = jax.ShapeDtypeStruct((65_536, 8), jnp.float32)
    codebook = jax.ShapeDtypeStruct((262_144, 8), jnp.float32)
    memory = jax.jit(nearest_code).lower(z, codebook).compile().memory_analysis()
    used = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert used < 2e9


def test_no_gradient_passes():
    z, codebook = jnp.ones((4, 2)), jnp.eye(2)
    gradient = jax.grad(lambda z: codebook[nearest_code(z, codebook)].sum())(z)
    np.testing.assert_array_equal(gradient, 0)

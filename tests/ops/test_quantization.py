"""Vector quantization's pure functions against closed forms and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.ops import quantization
from vq_jax.ops.kmeans import kmeans


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    z, e, weight = jnp.asarray([1.0, 2.0]), jnp.asarray([3.0, 5.0]), jnp.asarray([7.0, -1.0])
    np.testing.assert_allclose(quantization.straight_through(z, e), e)
    gradients = jax.grad(lambda z, e: jnp.vdot(weight, quantization.straight_through(z, e)), (0, 1))(z, e)
    np.testing.assert_allclose(gradients[0], weight)
    np.testing.assert_allclose(gradients[1], 0)


def test_each_loss_moves_its_own_side():
    rng = np.random.default_rng(0)
    z, e = (jnp.asarray(rng.normal(size=(2, 3, 5)), jnp.float32) for _ in range(2))
    for loss, moved, still, sign in (
        (quantization.codebook_loss, 1, 0, -1),
        (quantization.commitment_loss, 0, 1, 1),
    ):
        np.testing.assert_allclose(loss(z, e), np.square(z - e).mean((1, 2)), rtol=1e-6)
        gradients = jax.grad(lambda z, e, loss=loss: loss(z, e).sum(), (0, 1))(z, e)
        np.testing.assert_allclose(gradients[moved], sign * 2 * (z - e) / 15, rtol=1e-5)
        np.testing.assert_array_equal(gradients[still], 0)


@pytest.mark.parametrize('max_scores', [2**24, 70])
def test_shares_and_sums(max_scores, platform):
    """A code that there is not is counted nowhere."""
    rng = np.random.default_rng(0)
    codes, z = rng.integers(0, 7, 50), rng.normal(size=(50, 3)).astype('f4')
    shares = quantization.code_shares(jnp.asarray(codes), 9)
    sums = quantization.code_sums(jnp.asarray(z), jnp.where(codes == 6, 9, codes), 9, max_scores=max_scores)
    expected = np.zeros((9, 3))
    np.add.at(expected, codes, z)
    expected[6] = 0
    np.testing.assert_allclose(shares, np.bincount(codes, minlength=9) / 50, rtol=1e-6)
    np.testing.assert_allclose(sums, expected / 50, rtol=1e-5, atol=1e-7)


def test_perplexity():
    np.testing.assert_allclose(quantization.perplexity(jnp.full(8, 1 / 8)), 8, rtol=1e-5)
    np.testing.assert_allclose(quantization.perplexity(jnp.eye(5)), np.ones(5))
    p = np.asarray([0.5, 0.25, 0.25])
    np.testing.assert_allclose(quantization.perplexity(jnp.asarray(p)), 2**1.5, rtol=1e-5)


def test_entropy_has_a_gradient_where_nothing_is():
    p = jnp.asarray([0.5, 0.25, 0.25, 0.0])
    np.testing.assert_allclose(quantization.entropy(p), 1.5 * np.log(2), rtol=1e-6)
    gradient = jax.grad(quantization.entropy)(p)
    np.testing.assert_allclose(gradient[:3], -np.log(p[:3]) - 1, rtol=1e-6)
    assert np.isfinite(gradient[3])


def test_normalise():
    x = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(quantization.normalise(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    gradient = jax.grad(lambda x: quantization.normalise(x).sum())(x)
    assert np.isfinite(gradient).all()


def test_kmeans_finds_clusters():
    rng = np.random.default_rng(0)
    truth = np.asarray([[0, 0], [10, 0], [0, 10], [10, 10]], 'f4')
    points = np.concatenate([c + rng.normal(size=(100, 2)) * 0.1 for c in truth]).astype('f4')
    # One draw in several starts in each cluster; from there Lloyd's algorithm is exact.
    best = min(
        (kmeans(jax.random.key(seed), jnp.asarray(points), 4) for seed in range(10)),
        key=lambda found: np.square(points[:, None] - np.asarray(found[0])).sum(-1).min(1).sum(),
    )
    centres = np.asarray(sorted(best[0].tolist(), key=lambda c: (round(c[1]), round(c[0]))))
    np.testing.assert_allclose(centres, points.reshape(4, 100, 2).mean(1), atol=1e-4)
    np.testing.assert_allclose(best[1], 0.25)


def test_kmeans_of_too_few_points():
    with pytest.raises(UserError, match='3 points cannot start 4 centres'):
        kmeans(jax.random.key(0), jnp.zeros((3, 2)), 4)


def test_kmeans_passes_are_lloyds():
    points = np.random.default_rng(0).normal(size=(60, 3)).astype('f4')
    start, _ = kmeans(jax.random.key(0), jnp.asarray(points), 5, iterations=0)
    assert {tuple(c) for c in np.asarray(start).tolist()} <= {tuple(p) for p in points.tolist()}
    centres = np.float64(start)
    for _ in range(4):
        nearest = np.square(points[:, None] - centres).sum(-1).argmin(1)
        centres = np.stack([points[nearest == i].mean(0) for i in range(5)])
    found, shares = kmeans(jax.random.key(0), jnp.asarray(points), 5, iterations=4)
    np.testing.assert_allclose(found, centres, rtol=1e-4, atol=1e-5)
    nearest = np.square(points[:, None] - centres).sum(-1).argmin(1)
    np.testing.assert_allclose(shares, np.bincount(nearest, minlength=5) / 60)


@pytest.mark.parametrize('spread', [0.01, 1.0])
def test_kmeans_far_from_zero(spread):
    """The centres are where they would be around zero, and as far away as the points."""
    points = np.random.default_rng(3).normal(size=(5000, 3)) * spread
    points = np.float32(np.round(points * 1024) / 1024)  # which stays exact at 1,000
    near, far = (kmeans(jax.random.key(0), jnp.asarray(points + m), 7) for m in (0, 1000))
    np.testing.assert_allclose(far[0] - 1000, near[0], atol=3e-4)  # neighbours in float32 are 6e-5 apart
    np.testing.assert_allclose(far[1], near[1], atol=5e-3)


def test_kmeans_on_the_sphere():
    points = np.random.default_rng(0).normal(size=(40, 3)).astype('f4')
    centres, _ = kmeans(jax.random.key(0), jnp.asarray(points), 6, cosine=True)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, rtol=1e-5)

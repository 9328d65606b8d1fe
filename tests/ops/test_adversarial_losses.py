"""Against NumPy written from the papers, and functions whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops import adversarial_losses

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(size=(2, 5, 3, 3)) * 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mean(x):
    return x.reshape(len(x), -1).mean(1)


@pytest.mark.parametrize(
    'name, discriminator, generator',
    [
        (
            'non_saturating',
            mean(-np.log(sigmoid(REAL)) - np.log(1 - sigmoid(FAKE))),
            mean(-np.log(sigmoid(FAKE))),
        ),
        ('vanilla', mean(-np.log(sigmoid(REAL)) - np.log(1 - sigmoid(FAKE))), mean(-FAKE)),
        ('hinge', mean(np.maximum(0, 1 - REAL) + np.maximum(0, 1 + FAKE)), mean(-FAKE)),
        ('wasserstein', mean(FAKE - REAL), mean(-FAKE)),
    ],
)
def test_losses(name, discriminator, generator):
    np.testing.assert_allclose(
        adversarial_losses.discriminator_loss(name, REAL, FAKE), discriminator, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(adversarial_losses.generator_loss(name, FAKE), generator, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', ['non_saturating', 'vanilla', 'hinge', 'wasserstein'])
def test_the_players_pull_apart(name):
    """The discriminator wants real up and fake down, the generator fake up."""
    loss = lambda r, f: adversarial_losses.discriminator_loss(name, r, f).sum()  # noqa: E731
    small = jnp.zeros(4)
    assert (jax.grad(loss, 0)(small, small) < 0).all() and (jax.grad(loss, 1)(small, small) > 0).all()
    assert (jax.grad(lambda f: adversarial_losses.generator_loss(name, f).sum())(small) < 0).all()


def test_squared_gradients():
    """Of |x|^2 / 2 the gradient is x."""
    x = RNG.normal(size=(4, 3, 3, 2))
    found = adversarial_losses.squared_gradients(lambda v: 0.5 * jnp.sum(v**2, axis=(1, 2, 3)), x)
    np.testing.assert_allclose(found, (x**2).sum((1, 2, 3)), rtol=1e-5)


def test_gradient_penalty():
    """Of a linear critic the gradient is its weight, wherever it is taken."""
    w = RNG.normal(size=(3, 3, 2))
    x, y = RNG.normal(size=(2, 4, 3, 3, 2))
    keys = jax.random.split(jax.random.key(0), 4)
    found = adversarial_losses.gradient_penalty(lambda v: jnp.einsum('bhwc,hwc->b', v, w), keys, x, y)
    np.testing.assert_allclose(found, (np.linalg.norm(w) - 1) ** 2, rtol=1e-5)
    constant = lambda w: adversarial_losses.gradient_penalty(  # noqa: E731
        lambda v: jnp.einsum('bhwc,hwc->b', v, w), keys, x, y
    ).sum()
    assert np.isfinite(jax.grad(constant)(jnp.zeros((3, 3, 2)))).all()


def test_penalties_of_patches_are_the_mean_over_them():
    """Each logit is that of a patch of 2x2 pixels, by itself."""
    x, y = RNG.normal(size=(2, 4, 6, 8, 1))
    patches = lambda v: v.reshape(-1, 3, 2, 4, 2)  # noqa: E731
    cubes = lambda v: jnp.sum(patches(v) ** 3, (2, 4)) / 3  # noqa: E731  of gradient v^2
    each = (patches(x) ** 4).sum((2, 4))
    np.testing.assert_allclose(adversarial_losses.squared_gradients(cubes, x), mean(each), rtol=1e-5)
    # A critic whose patches all have a slope of 1.5.
    slope = lambda v: 1.5 * jnp.sum(patches(v), (2, 4)) / 2  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 4)
    np.testing.assert_allclose(adversarial_losses.gradient_penalty(slope, keys, x, y), 0.25, rtol=1e-5)


def test_lecam():
    expected = mean(np.maximum(0, REAL + 0.3) ** 2) + mean(np.maximum(0, 0.4 - FAKE) ** 2)
    np.testing.assert_allclose(adversarial_losses.lecam(REAL, FAKE, 0.4, -0.3), expected, rtol=1e-5)


def test_adaptive_weight():
    a, b = RNG.normal(size=(2, 3, 3, 8, 4))
    expected = np.sqrt((a**2).sum()) / (np.sqrt((b**2).sum()) + 1e-4)
    np.testing.assert_allclose(adversarial_losses.adaptive_weight(a, b), expected, rtol=1e-5)
    assert adversarial_losses.adaptive_weight(a, np.zeros_like(b)) == 1e4
    assert adversarial_losses.adaptive_weight(np.zeros_like(a), b) == 0

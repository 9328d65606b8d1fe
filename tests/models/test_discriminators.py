"""Sizes, normalisations and conditioning of the discriminators; the generator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.initialised import initialised
from vq_jax.models.discriminators import BATCH_STATS, Discriminator, PatchDiscriminator
from vq_jax.models.generator import Generator

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 32, 32, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0])


def test_patchgan_has_the_published_size():
    """Four convolutions of 4x4 with 64 to 512 channels, three batch normalisations, one logit."""
    expected = (16 * 3 * 64 + 64) + 16 * (64 * 128 + 128 * 256 + 256 * 512) + 2 * 896 + (16 * 512 + 1)
    variables = jax.eval_shape(PatchDiscriminator().init, jax.random.key(0), IMAGES, LABELS)
    assert sum(x.size for x in jax.tree.leaves(variables['params'])) == expected == 2_765_633


def test_a_logit_of_patchgan_sees_70_pixels():
    model = PatchDiscriminator(channels=4, norm='none')
    x = jnp.asarray(RNG.normal(size=(1, 128, 128, 1)), jnp.float32)
    variables = initialised(model.init, jax.random.key(0), x, LABELS[:1])
    logits = lambda x: model.apply(variables, x, LABELS[:1]).logits[0]  # noqa: E731
    middle = logits(x).shape[0] // 2
    seen = np.abs(jax.grad(lambda x: logits(x)[middle, middle])(x))[0, :, :, 0] > 0
    assert seen.any(0).sum() == seen.any(1).sum() == 70


@pytest.mark.parametrize('kind', [Discriminator, PatchDiscriminator])
def test_spectral_norm_brings_the_largest_singular_value_to_one(kind):
    model = kind(channels=8, norm='none', spectral_norm=True)
    variables = initialised(model.init, jax.random.key(0), IMAGES, LABELS)
    steps = []
    for _ in range(30):  # the power iteration goes on with each training call
        _, changed = model.apply(variables, IMAGES, LABELS, train=True, mutable=[BATCH_STATS])
        variables, layers = {**variables, **changed}, changed[BATCH_STATS].values()
        steps.append({k: v for layer in layers for k, v in layer.items() if 'sigma' in k})
    found = steps[-1]
    assert len(found) == (5 if kind is PatchDiscriminator else 4)
    for name, sigma in found.items():
        kernel = variables['params'][name.split('/')[0]]['kernel']
        largest = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
        np.testing.assert_allclose(sigma, largest, rtol=1e-2)
        np.testing.assert_allclose(steps[0][name], largest, rtol=0.1)  # from the first call on
    # The kernels that are applied are divided by it.
    divided = {
        name: {**layer, 'kernel': layer['kernel'] / found[f'{name}/kernel/sigma']}
        for name, layer in variables['params'].items()
    }
    expected = kind(channels=8, norm='none').apply({'params': divided}, IMAGES, LABELS).logits
    np.testing.assert_allclose(model.apply(variables, IMAGES, LABELS).logits, expected, rtol=1e-2, atol=1e-4)
    larger = jax.tree.map(lambda p: 7 * p if p.ndim > 1 else p, variables['params'])
    logits = model.apply({**variables, 'params': larger}, IMAGES, LABELS).logits
    np.testing.assert_allclose(logits, expected, rtol=1e-2, atol=1e-4)
    assert np.abs(expected).max() > 1e-2


@pytest.mark.parametrize('kind', [Discriminator, PatchDiscriminator])
def test_a_class_counts_where_it_is_asked_for(kind):
    options = {'conditional': True} if kind is Discriminator else {}
    for model, differs in ((kind(channels=8, num_classes=3, **options), True), (kind(channels=8), False)):
        variables = initialised(model.init, jax.random.key(0), IMAGES, LABELS)
        a, b = (model.apply(variables, IMAGES, labels).logits for labels in (LABELS, (LABELS + 1) % 3))
        assert np.allclose(a, b) != differs


def test_the_probe_gives_the_features_no_gradient():
    model = Discriminator(channels=8, num_classes=3)
    variables = initialised(model.init, jax.random.key(0), IMAGES, LABELS)

    def loss(params):
        judgement = model.apply({**variables, 'params': params}, IMAGES, LABELS)
        return jnp.sum(judgement.classes**2)

    grads = jax.grad(loss)(variables['params'])
    moved = {name for name, g in grads.items() if any(np.abs(x).max() > 0 for x in jax.tree.leaves(g))}
    assert moved == {'probe'}


@pytest.mark.parametrize('size, classes', [(32, 0), (64, 10)])
def test_the_generator_draws_images_that_depend_on_noise_and_class(size, classes):
    model = Generator((size, size, 3), noise_dim=16, channels=8, num_classes=classes)
    noise = RNG.normal(size=(6, 16)).astype(np.float32)
    labels = np.arange(6)
    variables = initialised(model.init, jax.random.key(0), noise, labels)
    draw = lambda noise, labels: model.apply(  # noqa: E731
        variables, noise, labels, train=True, mutable=[BATCH_STATS]
    )[0]
    images = draw(noise, labels)
    assert images.shape == (6, size, size, 3) and np.abs(images).max() < 1
    assert np.abs(images - draw(noise[::-1], labels)).max() > 0.01
    assert (np.abs(images - draw(noise, labels[::-1])).max() > 0.01) == bool(classes)

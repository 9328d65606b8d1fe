"""What is told to those who ask a run for what it cannot do."""

from pathlib import Path

import numpy as np
import pytest

from vq_jax.errors import UserError
from vq_jax.run import Run
from vq_jax.spec import Spec, Tokens
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.arguments import checked_examples
from vq_jax.tasks.restore import Restored

IMAGES = np.zeros((2, 16, 16, 1), np.uint8)


def opened(name, **changes):
    """A run without a state: nothing may be computed before it is known that it can be."""
    config = default_config(name)
    for key, value in changes.items():
        section, key = key.split('__')
        config[section][key] = value
    task = make_task(config, Spec('image', IMAGES.shape[1:]), num_classes=2)
    return Run(Restored(config, task, None, Spec('image', IMAGES.shape[1:]), 0, Path()))


@pytest.mark.parametrize(
    'run, call, words',
    [
        ('vqvae', lambda run: run.sample(1), 'cannot sample images; train a prior on its codes (configs/'),
        ('vqvae', lambda run: run.log_prob(IMAGES), 'cannot tell the likelihood of codes; train a prior on'),
        (
            'vqvae',
            lambda run: run.inpaint(IMAGES, np.ones((16, 16), bool)),
            'cannot sample a part of an image anew; train a prior on its codes',
        ),
        (
            'vqvae',
            lambda run: run.image_to_image(IMAGES, 0.5),
            'change images as a whole; one of diffusion',
        ),
        (
            'vae',
            lambda run: run.denoise(IMAGES, 3.0),
            'cannot take noise out of images; one of diffusion can',
        ),
        ('vae', lambda run: run.upscale(IMAGES), 'cannot make small images large; one of diffusion can'),
        ('gan', lambda run: run.encode(IMAGES), 'encode images; one of vae, vqvae, vqgan or prior can'),
        ('gan', lambda run: run.decode(IMAGES), 'cannot decode; one of vae, vqvae, vqgan or prior can'),
        ('gan', lambda run: run.reconstruct(IMAGES), 'gan cannot reconstruct images; one of vae, vqvae'),
        (
            'gan',
            lambda run: run.interpolate(IMAGES[0], IMAGES[1]),
            'gan cannot interpolate between images; one of vae or diffusion can',
        ),
        (
            'classifier',
            lambda run: run.sample(1),
            'cannot sample images; one of vae, gan, prior or diffusion',
        ),
    ],
)
def test_what_a_run_cannot_do(run, call, words):
    with pytest.raises(UserError) as raised:
        call(opened(run))
    assert words in str(raised.value)


@pytest.mark.parametrize(
    'spec, words',
    [
        (
            Spec('audio', (64, 1), rate=8000),
            'sounds; train a prior .* \\(configs/audio/speech_prior.py with ',
        ),
        (Spec('video', (8, 8, 8, 1)), 'videos; train a prior .* \\(configs/video/prior_sprites.py with '),
    ],
    ids=str,
)
def test_what_is_told_of_a_tokenizer_of_no_images(spec, words):
    task = make_task(default_config('vqvae'), spec)
    run = Run(Restored(default_config('vqvae'), task, None, spec, 0, Path()))
    with pytest.raises(UserError, match=f'cannot sample {words}'):
        run.sample(1)


def test_an_autoencoder_of_latents_leads_to_latent_diffusion():
    run = opened('vqgan', variant__bottleneck='gaussian', perceptual__kind='none', discriminator__stages=1)
    with pytest.raises(UserError, match=r'config\.latent\.workdir=RUN'):
        run.sample(1)


@pytest.mark.parametrize('token', [-2, 256])
def test_tokens_that_there_are_not(token):
    spec, texts = Spec('text', (2,), tokens=Tokens('bytes')), np.array([[0, -1], [255, 3]], np.int32)
    np.testing.assert_array_equal(checked_examples(texts, spec), texts)
    texts[1, 1] = token
    with pytest.raises(UserError, match=rf'the tokens are from .*{token}.*from 0 to 255, and -1 after'):
        checked_examples(texts, spec)


def test_numbers_that_are_no_tokens_are_not_to_be_scaled():
    with pytest.raises(UserError, match=r'texts must be int32 .* these are float64 of shape \(1, 2\)\.$'):
        checked_examples(np.ones((1, 2)), Spec('text', (2,), tokens=Tokens('bytes')))

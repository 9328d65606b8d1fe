"""Which examples a model can take, by the strides of its stages."""

import dataclasses

import pytest

from vq_jax.errors import UserError
from vq_jax.spec import Spec
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.vqvae import VQVAETask

VIDEO = Spec('video', (5, 16, 24, 3))


def made(spec, factors):
    """A task whose model reduces such examples, of which no more is known."""
    return VQVAETask(None, spec, factors, 'config.model.stages', (), None, None)


@pytest.mark.parametrize(
    'spec, factors',
    [(VIDEO, (1, 8, 8)), (Spec('audio', (160, 2)), (16,)), (Spec('image', (8, 8, 1)), (4,))],
)
def test_sizes_that_fit(spec, factors):
    made(dataclasses.replace(spec, shape=(*[1] * spec.rank, spec.channels)), factors).check_spec(spec)


@pytest.mark.parametrize(
    'factors, channels, says',
    [
        ((4,), 3, r'5x16x24 cannot be divided by 4 \(config.model.stages\); use a multiple of 4'),
        ((1, 8, 16), 3, r'5x16x24 cannot be divided by 1x8x16'),
        ((2, 2), 3, r'strides is \(2, 2\); give one number for all 3 axes'),
        ((1, 8, 8), 1, r'have 3 channels and the model was made for 1'),
    ],
)
def test_sizes_that_do_not_fit(factors, channels, says):
    with pytest.raises(UserError, match=says):
        made(dataclasses.replace(VIDEO, shape=(5, 16, 24, channels)), factors).check_spec(VIDEO)


@pytest.mark.parametrize('task', ['vqvae', 'vqgan'])
def test_a_model_of_grey_images_takes_no_sounds(task):
    """Their sizes and channels would fit: as a tokenizer of sounds it would fail within a layer."""
    config = default_config(task)
    if task == 'vqgan':
        config.perceptual.kind = 'none'
    made = make_task(config, Spec('image', (32, 32, 1)))
    with pytest.raises(UserError, match=r'are audio and the model was made for image; set config.data.name'):
        made.check_spec(Spec('audio', (32, 1)))


def test_a_gan_of_sounds_says_how_their_length_is_set():
    with pytest.raises(UserError, match=r'examples of 24 do not have .* set config.data.num_samples\.'):
        make_task(default_config('gan'), Spec('audio', (24, 1)))


def test_a_diffusion_model_of_sounds_says_how_their_length_is_set():
    with pytest.raises(UserError, match=r'learned is 25 and .* change them, or config.data.num_samples'):
        make_task(default_config('diffusion'), Spec('audio', (25, 1)))

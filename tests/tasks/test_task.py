"""What all tasks ask of a data set, and what models that decode with another ask of it."""

import types

import pytest

from vq_jax.data import DataConfig
from vq_jax.errors import UserError
from vq_jax.spec import Spec, TextVectors, Tokens
from vq_jax.tasks import default_config, make_task
from vq_jax.tasks.codec import Identity

SHAPE = (16, 16, 1)
CONDITIONAL = {
    'gan': 'model',
    'vqvae': 'model',
    'vqgan': 'variant',
    'prior': 'model',
    'diffusion': 'model',
}


def made(name, conditional=False, num_classes=10):
    config = default_config(name)
    if name in CONDITIONAL:
        config[CONDITIONAL[name]].class_conditional = conditional
    if name == 'vqgan':
        config.perceptual.kind = 'none'
        config.discriminator.stages = 1
    if name == 'diffusion':
        config.unet.multipliers, config.unet.attention_resolutions = (1,), ()
    return make_task(config, Spec('image', SHAPE), num_classes)


def dataset(num_classes):
    return types.SimpleNamespace(name='other', key='x', spec=Spec('image', SHAPE), num_classes=num_classes)


@pytest.mark.parametrize(
    'name, conditional', [*((name, True) for name in CONDITIONAL), ('gan', False), ('classifier', False)]
)
def test_labels_that_are_read_must_be_of_as_many_classes(name, conditional):
    """A GAN's probe and a classifier read them too."""
    task = made(name, conditional)
    task.check_dataset(dataset(10))
    for num_classes, words in ((12, '12 classes'), (9, '9 classes'), (0, 'no classes')):
        with pytest.raises(UserError, match=f'other has {words} and the model was made for 10'):
            task.check_dataset(dataset(num_classes))


def reading(name, kind):
    """A task of which examples have texts, and vectors of them."""
    config = default_config(name, conditioner=kind)
    config.data.caption_length = 8
    if name == 'diffusion':
        config.unet.multipliers, config.unet.attention_resolutions = (1,), ()
    vectors = TextVectors(4, 3, 'none')
    spec = Spec('image', SHAPE, tokens=Tokens('bytes'), text_vectors=vectors)
    return make_task(config, spec)


@pytest.mark.parametrize(
    'name, kind, elsewhere',
    [
        ('vqvae', None, False),
        ('captioner', None, False),
        ('dual_encoder', None, False),
        ('diffusion', 'text', True),
        ('prior', None, True),
        ('prior', 'embedded_text', None),
    ],
)
def test_vectors_of_texts_that_nothing_reads_are_refused(name, kind, elsewhere):
    task = reading(name, kind)
    task.check_vectors_read(types.SimpleNamespace(config=DataConfig(caption_length=8)))
    given = types.SimpleNamespace(config=DataConfig(caption_length=8, text_vectors='vectors'))
    if elsewhere is None:
        task.check_vectors_read(given)
        return
    other = ', or set config.conditioner.kind=embedded_text' if elsewhere else ''
    words = (
        rf'^config\.data\.text_vectors is set, and this .* reads no vectors of texts; leave it out{other}\.$'
    )
    with pytest.raises(UserError, match=words):
        task.check_vectors_read(given)


@pytest.mark.parametrize(
    'name, kind, elsewhere',
    [('dual_encoder', None, False), ('captioner', None, False), ('prior', 'text', True)],
)
def test_advice_names_keys_that_the_config_has(name, kind, elsewhere):
    without = types.SimpleNamespace(name='other', conditions={})
    with pytest.raises(UserError, match='other has the conditions none, and this model reads text') as error:
        reading(name, kind).check_conditions(without)
    assert ('config.conditioner' in str(error.value)) == elsewhere


@pytest.mark.parametrize(
    'name, key, value',
    [
        ('vqvae', 'model.residual_blocks', -1),
        ('vqvae', 'model.strides', (17,)),
        ('vqvae', 'quantizer.num_codes', 0),
        ('vqvae', 'quantizer.decay', 1.0),
        ('vqvae', 'fsq.levels', (1,)),
        ('vqvae', 'lfq.bits', 31),
        ('vqvae', 'optimizer.b1', 1.0),
        ('vqgan', 'gaussian.latent_dim', 0),
        ('vqgan', 'model.residual_blocks', -1),
        ('vqgan', 'discriminator.stages', 0),
        ('vqgan', 'discriminator_optimizer.warmup_steps', -1),
        ('vqgan', 'loss.kl_weight', -1.0),
        ('gan', 'generator.noise_dim', 0),
        ('gan', 'discriminator.channels', 0),
        ('gan', 'adversarial.r1', -1.0),
        ('vae', 'mlp.hidden', (0,)),
        ('vae', 'convolutional.stages', 0),
        ('prior', 'transformer.depth', 0),
        ('prior', 'pixelcnn.kernel', 2),
        ('prior', 'sampling.steps', 0),
        ('diffusion', 'unet.dropout', 1.0),
        ('diffusion', 'sampling.eta', 2.0),
        ('diffusion', 'model.variational_weight', -1.0),
        ('classifier', 'model.stages', 0),
        ('classifier', 'model.dropout', 1.0),
    ],
)
def test_a_value_that_no_part_takes_is_named_by_its_key(name, key, value):
    config = default_config(name)
    if name == 'vqgan' and key.startswith('gaussian'):
        config.variant.bottleneck = 'gaussian'
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError) as error:
        make_task(config, Spec('image', SHAPE), 10)
    assert str(error.value).startswith(f'config.{key} is {value}; give ')


@pytest.mark.parametrize('name', ['vqvae', 'vqgan', 'prior', 'diffusion', 'classifier'])
def test_images_of_other_channels_are_told_the_key(name):
    """A tokenizer is asked so by a prior over it."""
    task = made(name)
    for shape, words in (
        ((16, 16, 3), 'made for .*; set config.data.channels to 1'),
        ((32, 32, 3), 'made for .*; (resize them and )?set config.data.channels to 1'),
    ):
        with pytest.raises(UserError, match=words):
            task.check_spec(Spec('image', shape))


@pytest.mark.parametrize('name', ['vae', 'vqvae', 'vqgan', 'prior', 'diffusion'])
def test_where_labels_are_not_read_any_classes_will_do(name):
    for num_classes in (0, 9, 12):
        made(name).check_dataset(dataset(num_classes))


@pytest.mark.parametrize('name', ['prior', 'diffusion'])
def test_a_decoder_is_of_the_same_classes_or_of_none(name, monkeypatch):
    for theirs in (0, 10):
        monkeypatch.setattr(Identity, 'num_labels', theirs)
        assert made(name, conditional=True).num_labels == 10
    for theirs, conditional in ((8, True), (12, True), (10, False)):
        monkeypatch.setattr(Identity, 'num_labels', theirs)
        with pytest.raises(UserError, match=f'conditioned on {theirs} classes and this model on'):
            made(name, conditional)

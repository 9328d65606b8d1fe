"""Every layer and model over grids of one axis (sound) and three (video).

A model of video is made of one of images by putting the kernels of the latter in the middle of its own, with
zeros before and after in time: of a film in which nothing moves, each frame must come out as the model of
images has it.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from tests.autoencoders import vqgan, vqvae, vqvae2
from tests.initialised import initialised
from vq_jax.errors import UserError
from vq_jax.models import Context
from vq_jax.models.autoencoder import Autoencoder
from vq_jax.models.classifier import Classifier
from vq_jax.models.convolution import Conv, ConvTranspose
from vq_jax.models.discriminators import Discriminator, PatchDiscriminator, halving_strides
from vq_jax.models.generator import Generator
from vq_jax.models.mlp import MLPEncoder, MLPSizes, mlp_decoder
from vq_jax.models.normalisation import GroupNorm
from vq_jax.models.observation import Observation
from vq_jax.models.residual import Downsample, ResidualEncoder, ResidualSizes, Upsample, residual_decoder
from vq_jax.models.strided import FlatEncoder, FlatTrunk, StridedEncoder, StridedSizes, strided_decoder
from vq_jax.quantizers.gaussian import GaussianBottleneck
from vq_jax.quantizers.vq import VectorQuantizer

RNG = np.random.default_rng(0)
FRAMES = 3
STRIDES = {1: (4,), 3: (1, 2, 2)}
SHAPES = {1: (32, 2), 3: (4, 8, 8, 2)}
LABELS = np.array([0, 2])
CLASSES = Context(vector=np.eye(3, dtype=np.float32)[LABELS])
SMALL = {'channels': 4, 'residual_blocks': 1, 'residual_channels': 2}


def vq():
    return VectorQuantizer(num_codes=8, dim=3, codebook_init='random')


def residual_sizes(strides):
    return ResidualSizes(4, (1, 2), 1, (1,), 3, strides=strides)


def vae(encoder, decoder, features=None):
    return Autoencoder(encoder, GaussianBottleneck(3, features), decoder, Observation('gaussian'))


def models(rank):
    """Models by their names, each with its arguments."""
    shape, strides = SHAPES[rank], STRIDES[rank]
    x = RNG.normal(size=(2, *shape)).astype(np.float32)
    sizes, flat, mlp = residual_sizes(strides), StridedSizes(4, 1, 1, 2, strides), MLPSizes((8,), 'tanh')
    few = dataclasses.replace(sizes, residual_blocks=0)
    residual = ResidualEncoder(few, 6), residual_decoder(few, 2)
    return {
        'vqvae': (vqvae(vq(), out_channels=2, stages=1, strides=strides, **SMALL), (x,)),
        'vqvae2': (
            vqvae2(vq(), vq(), out_channels=2, likelihood='gaussian', stages=1, strides=strides, **SMALL),
            (x,),
        ),
        'vqgan': (vqgan(vq(), sizes, out_channels=2, conditional=True), (x, CLASSES)),
        'kl': (vqgan(GaussianBottleneck(2, 3), few, out_channels=2), (x,)),
        'vae mlp': (vae(MLPEncoder(mlp), mlp_decoder(mlp, shape)), (x,)),
        'vae flat': (vae(FlatEncoder(flat), strided_decoder(flat, 2, FlatTrunk(flat, shape[:-1]))), (x,)),
        'vae grid': (vae(*residual, features=3), (x,)),
        'generator': (
            Generator(shape, noise_dim=4, channels=4, num_classes=3),
            (x.reshape(2, -1)[:, :4], LABELS),
        ),
        'discriminator': (
            Discriminator(channels=4, norm='none', num_classes=3, conditional=True),
            (x, LABELS),
        ),
        'patches': (
            PatchDiscriminator(channels=4, stages=1, norm='none', num_classes=3, strides=strides),
            (x, LABELS),
        ),
        'classifier': (Classifier(channels=4, stages=1, features=4, dropout=0.0, num_classes=3), (x,)),
    }


# But for what is made of parts that another of the same rank has too.
@pytest.mark.parametrize(
    'name, rank',
    [
        pytest.param(*case, marks=pytest.mark.slow) if case in (('kl', 3), ('vqgan', 3)) else case
        for case in sorted(
            {*itertools.product(models(1), (1, 3))} - {('vqgan', 1), ('kl', 1), ('vae grid', 3)}
        )
    ],
)
def test_shapes_and_gradients(name, rank):
    """Outputs have the shape of an example, or are one for each; all parameters have finite gradients."""
    model, arguments = models(rank)[name]
    variables = initialised(model.init, jax.random.key(0), *arguments)
    rest = {name: values for name, values in variables.items() if name != 'params'}

    def loss(params):
        outputs = model.apply({'params': params, **rest}, *arguments)
        floats = [x for x in jax.tree.leaves(outputs) if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum(jnp.sum(jnp.sin(x + 0.3)) for x in floats), outputs

    grads, outputs = jax.jit(jax.grad(loss, has_aux=True))(variables['params'])
    moved = {k: np.abs(g).max() for k, g in flatten_dict(grads).items()}
    assert all(np.isfinite(list(moved.values())))
    assert all(g > 0 for k, g in moved.items() if k[-1] == 'kernel'), moved
    shape, shorter = SHAPES[rank], {1: (8,), 3: (4, 4, 4)}[rank]
    if name in ('discriminator', 'classifier'):
        assert outputs.logits.shape == {'discriminator': (2,), 'classifier': (2, 3)}[name]
    elif name == 'patches':
        # Each of the two convolutions of stride 1 takes away as many positions as the strides, less 1.
        assert outputs.logits.shape == (2, *{1: (2,), 3: (4, 2, 2)}[rank])
    elif name == 'generator':
        assert outputs.shape == (2, *shape)
    else:
        reconstruction, latent = outputs
        assert getattr(reconstruction, 'outputs', reconstruction).shape == (2, *shape)
        shapes = {
            'vqvae2': [(*{1: (2,), 3: (4, 2, 2)}[rank], 1), (*shorter, 1)],
            'kl': [(*shorter, 2)],
            'vae mlp': [(3,)],
            'vae flat': [(3,)],
            'vae grid': [(*shorter, 3)],
        }.get(name, [(*shorter, 1)])
        assert [x.shape for x in latent.codes] == [(2, *shape) for shape in shapes]


def inflated(params, shapes):
    """Parameters of a model of images as those of one of video (see the head of this file)."""
    found = {}
    for path, shape in flatten_dict(shapes).items():
        array = flatten_dict(params)[path]
        if path[-1] == 'kernel' and array.ndim == 4:
            frames = np.zeros((shape.shape[0], *array.shape), np.float32)
            frames[shape.shape[0] // 2] = array
            array = frames
        assert array.shape == shape.shape, path
        found[path] = array
    return unflatten_dict(found)


SIZES = residual_sizes((2,))
FILM = residual_sizes((1, 2, 2))
STRIDED, STRIDED_FILM = (StridedSizes(4, 1, 1, 2, strides) for strides in ((2,), (1, 2, 2)))
STILL = [
    (Conv(3), Conv(3), 2),
    (ConvTranspose(3, 4, 2), ConvTranspose(3, (3, 4, 4), (1, 2, 2)), 2),
    (GroupNorm(), GroupNorm(), 8),
    (Downsample(), Downsample(strides=(1, 2, 2)), 2),
    (Upsample(), Upsample(strides=(1, 2, 2)), 2),
    (StridedEncoder(STRIDED, 3), StridedEncoder(STRIDED_FILM, 3), 2),
    (strided_decoder(STRIDED, 3), strided_decoder(STRIDED_FILM, 3), 2),
    (ResidualEncoder(SIZES, 3), ResidualEncoder(FILM, 3), 2),
    (residual_decoder(SIZES, 2), residual_decoder(FILM, 2), 3),
    (PatchDiscriminator(4, 1, norm='none'), PatchDiscriminator(4, 1, (1, 2, 2), norm='none'), 2),
]


@pytest.mark.parametrize('images, video, channels', STILL, ids=lambda x: type(x).__name__)
def test_a_film_in_which_nothing_moves_is_the_image_in_each_frame(images, video, channels):
    x = RNG.normal(size=(2, 8, 8, channels)).astype(np.float32)
    film = np.repeat(x[:, None], FRAMES, axis=1)
    labels = (LABELS,) if isinstance(images, PatchDiscriminator) else ()
    params = initialised(images.init, jax.random.key(0), x, *labels)['params']
    shapes = jax.eval_shape(video.init, jax.random.key(0), film, *labels)['params']
    found = jax.jit(video.apply)({'params': inflated(params, shapes)}, film, *labels)
    expected = jax.jit(images.apply)({'params': params}, x, *labels)
    for frames, image in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert frames.shape == (2, FRAMES, *image.shape[1:]) and np.abs(image).max() > 0
        np.testing.assert_allclose(frames, np.repeat(image[:, None], FRAMES, axis=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('grid, strides', [((5,), (3,)), ((2, 3, 4), (1, 2, 4))])
def test_upsample_repeats_and_convolves(grid, strides):
    x = RNG.normal(size=(2, *grid, 3)).astype(np.float32)
    module = Upsample(strides=strides)
    variables = module.init(jax.random.key(0), x)
    variables = jax.tree.map(lambda p: RNG.normal(size=p.shape).astype(np.float32), variables)
    repeated = x
    for axis, stride in enumerate(strides, 1):
        repeated = repeated.repeat(stride, axis)
    plain = nn.Conv(3, (3,) * len(grid)).apply(variables, repeated)
    np.testing.assert_allclose(module.apply(variables, x), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('stride', [1, 2, 3, 4])
def test_downsample_misses_no_position(stride):
    x = jnp.asarray(RNG.normal(size=(1, 12, 1)), jnp.float32)
    module = Downsample(strides=(stride,))
    variables = module.init(jax.random.key(0), x)
    assert module.apply(variables, x).shape == (1, 12 // stride, 1)
    assert (jax.grad(lambda x: jnp.sum(module.apply(variables, x)))(x) != 0).all()


def test_all_axes_are_halved_until_they_have_four_positions():
    assert halving_strides((32, 32)) == [(2, 2)] * 3
    assert halving_strides((4, 8, 16)) == [(1, 2, 2), (1, 1, 2)]
    assert halving_strides((64,)) == [(2,)] * 4


@pytest.mark.parametrize('strides', [(), (0,), (2, 17)])
def test_strides_that_no_model_can_have(strides):
    with pytest.raises(UserError, match=r'strides is .* give numbers from 1 to 16'):
        residual_sizes(strides)


def test_a_kernel_for_another_number_of_axes_is_a_mistake():
    with pytest.raises(UserError, match=r'kernel_size is \(3, 3\)'):
        Conv(2, (3, 3)).init(jax.random.key(0), jnp.zeros((1, 8, 2)))

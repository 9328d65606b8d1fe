"""Small models of other projects with random weights, the same whenever they are made."""

import dataclasses
import functools
import zlib

import numpy as np

from vq_jax.weights import PROJECTS
from vq_jax.weights.dit import DiTSizes
from vq_jax.weights.gpt import GPTSizes
from vq_jax.weights.maskgit import TransformerSizes
from vq_jax.weights.project import Folded, theirs_of
from vq_jax.weights.sound import CodecSizes
from vq_jax.weights.unet import UNetSizes
from vq_jax.weights.vqgan import Sizes, VQGANProject

CODED = Sizes(
    image_channels=3,
    channels=128,
    multipliers=(1, 2),
    residual_blocks=1,
    attention=(1,),
    features=16,
    latent=8,
    num_codes=32,
)
SCALED = dataclasses.replace(CODED, features=8)
SCALES = (1, 2, 3, 4, 6, 8)  # of the multi-scale quantizer, of an image of 16x16
KL = dataclasses.replace(CODED, features=8, num_codes=0)
MASKGIT = dataclasses.replace(CODED, attention=(), latent=16)


# Transformers over 8x8 codes.
OF_CODES = {
    'taming-gpt': GPTSizes(2, 64, 256, num_codes=1024, positions=64, classes=0),
    'llamagen-gpt': GPTSizes(2, 64, 256, num_codes=32, positions=0, classes=10),
}
# MaskGIT's, over as many.
OF_MASKED = TransformerSizes(2, 64, 4, 256, num_codes=32, positions=64)
# Diffusion transformers over the latents of images of 8x8, of an autoencoder of one resolution.
OF_LATENTS = {
    'dit': DiTSizes(2, 64, 256, patch=2, latent=4, outputs=8, positions=16, classes=10),
    'sit': DiTSizes(2, 64, 256, patch=2, latent=4, outputs=8, positions=16, classes=10),
}
# U-Nets over pixels of 8x8, and what the configs of diffusers say of them.
OF_PIXELS = {
    'added': (
        UNetSizes(3, 3, 128, (1, 2), 1, (1,), 'add'),
        {
            'attention_head_dim': None,
            'freq_shift': 1,
            'flip_sin_to_cos': False,
            'downsample_padding': 0,
            'norm_eps': 1e-6,
        },
    ),
    'scaled': (
        UNetSizes(3, 6, 128, (1, 1), 1, (0,), 'scale_shift'),
        {
            'attention_head_dim': 32,
            'freq_shift': 0,
            'flip_sin_to_cos': True,
            'downsample_padding': 1,
            'norm_eps': 1e-2,
            'attn_norm_num_groups': 32,
            'resnet_time_scale_shift': 'scale_shift',
        },
    ),
}
# The U-Net of latent-diffusion over the same latents as the transformers.
OF_CLASSES = UNetSizes(4, 4, 128, (1, 2), 1, (1,), 'add', depth=1, token=16, classes=10)
# Codecs of sound, with 8 samples a position.
OF_SOUND = {
    'dac': CodecSizes(8, 6, (2, 4), 3, features=16, depth=3, num_codes=32, code_dim=8),
    'encodec': CodecSizes(8, 8, (2, 4), 1, features=16, depth=3, num_codes=32, code_dim=None),
}
OF_MASKGIT = {'maskgit': MASKGIT, 'maskgit-transformer': OF_MASKED}
HEADS = 4
TOKENIZERS = tuple(
    name
    for name, project in PROJECTS.items()
    if isinstance(project, VQGANProject) and project.bottleneck != 'gumbel'
)
GUMBEL = dataclasses.replace(CODED, latent=16)


def sizes_of(project):
    if project in (others := OF_CODES | OF_LATENTS | OF_SOUND | OF_MASKGIT):
        return others[project]
    return {'vq': CODED, 'gumbel': GUMBEL, 'multi_scale': SCALED, 'kl': KL}[PROJECTS[project].bottleneck]


def random_weights(project, sizes=None, **config):
    """Arrays by the names of a project; those of the same layer of ours are the same in all projects."""
    config |= {'transformer.heads': HEADS, 'model.class_conditional': True}
    rows = PROJECTS[project].table(sizes or sizes_of(project), config)
    weights = theirs_of(rows, {row.ours: _random(row) for row in rows})
    for name, shape in {
        n: shape for row in rows if isinstance(row, Folded) for n, shape in row.shapes.items()
    }.items():
        normal = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        weights[name] = (normal / 5 + name.endswith('weight_g')).astype(np.float32)
    return weights


def _random(row):
    normal = np.random.RandomState(zlib.crc32('.'.join(row.ours).encode())).standard_normal(row.ours_shape)
    if row.ours[-1] in ('kernel', 'recurrent_kernel'):
        normal /= np.sqrt(np.prod(row.ours_shape[:-1]))
    elif row.ours[-1] != 'codebook':
        normal = normal / 5 + (row.ours[-1] in ('scale', 'alpha'))
    return normal.astype(np.float32)


def images():
    """Two of 16x16, uint8."""
    return np.random.RandomState(0).randint(0, 256, (2, 16, 16, 3), 'uint8')


def codes(project):
    """Of two images, int32 [2 64]."""
    return np.random.RandomState(1).randint(0, OF_CODES[project].num_codes, (2, 64), 'int32')


LABELS = (3, 7)  # of these


def masked_codes():
    """The same for MaskGIT, of which -1 is masked."""
    rng = np.random.RandomState(1)
    found = rng.randint(0, OF_MASKED.num_codes, (2, 64), 'int32')
    return np.where(rng.uniform(size=found.shape) < 0.5, -1, found)


def latents():
    """Noisy ones, of two images, float32 [2 8 8 4]."""
    return np.random.RandomState(2).standard_normal((2, 8, 8, 4)).astype(np.float32)


STEPS = (0, 700)  # of noise, counted from 0, at which these are


@functools.cache
def unet_weights(kind):
    """Those of a U-Net of `OF_PIXELS`, or of latent-diffusion's, 'classes'."""
    sizes, settings = (OF_CLASSES, {'freq_shift': 0}) if kind == 'classes' else OF_PIXELS[kind]
    project = 'latent-diffusion-unet' if kind == 'classes' else 'diffusers-unet'
    return random_weights(project, sizes, **{'unet.sinusoid_endpoint': settings['freq_shift'] == 1})


SAMPLED = (1000, 750, 500, 1)  # steps of noise, counted from 1, from which samplers take some of it


def pixels():
    """Noise, and that of each of four steps that take it from two images, float32 [5 2 8 8 3]."""
    return np.random.RandomState(4).standard_normal((5, 2, 8, 8, 3)).astype(np.float32)


def sounds():
    """Two of 256 samples, float32 [2 256 1] in [-1, 1]."""
    return np.random.RandomState(3).uniform(-1, 1, (2, 256, 1)).astype(np.float32)

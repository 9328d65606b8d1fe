"""Flax modules: descriptions with typed attributes; none is given a config or reads one."""

from vq_jax.models.autoencoder import Autoencoder
from vq_jax.models.classifier import Classifier
from vq_jax.models.context import Context
from vq_jax.models.decoder import Decoder
from vq_jax.models.discriminators import Discriminator, PatchDiscriminator
from vq_jax.models.dit import DiT
from vq_jax.models.generator import Generator
from vq_jax.models.mlp import MLPDecoder, MLPEncoder, MLPSizes
from vq_jax.models.observation import Observation
from vq_jax.models.pixelcnn import PixelCNN
from vq_jax.models.residual import ResidualDecoder, ResidualEncoder, ResidualSizes
from vq_jax.models.strided import FlatDecoder, FlatEncoder, StridedDecoder, StridedEncoder, StridedSizes
from vq_jax.models.transformer import Transformer
from vq_jax.models.two_scales import TwoScaleBottleneck, TwoScaleDecoder
from vq_jax.models.unet import UNet

__all__ = [
    'Autoencoder',
    'Classifier',
    'Context',
    'Decoder',
    'DiT',
    'Discriminator',
    'FlatDecoder',
    'FlatEncoder',
    'Generator',
    'MLPDecoder',
    'MLPEncoder',
    'MLPSizes',
    'Observation',
    'PatchDiscriminator',
    'PixelCNN',
    'ResidualDecoder',
    'ResidualEncoder',
    'ResidualSizes',
    'StridedDecoder',
    'StridedEncoder',
    'StridedSizes',
    'Transformer',
    'TwoScaleBottleneck',
    'TwoScaleDecoder',
    'UNet',
]

"""Flax modules: descriptions with typed attributes; none is given a config or reads one."""

from vq_jax.models.autoencoder import Autoencoder
from vq_jax.models.classifier import Classifier
from vq_jax.models.clip_text import CLIPTextEncoder
from vq_jax.models.code_encoder import CodeEncoder
from vq_jax.models.context import Conditioner, Context
from vq_jax.models.decoder import Decoder
from vq_jax.models.discriminators import Discriminator, PatchDiscriminator
from vq_jax.models.dit import DiT
from vq_jax.models.dual_encoder import DualEncoder
from vq_jax.models.embedded_text import EmbeddedText
from vq_jax.models.generator import Generator
from vq_jax.models.mlp import MLPEncoder, MLPSizes, mlp_decoder
from vq_jax.models.observation import Observation
from vq_jax.models.pixelcnn import PixelCNN
from vq_jax.models.residual import ResidualEncoder, ResidualSizes, residual_decoder
from vq_jax.models.rq_transformer import RQTransformer
from vq_jax.models.seanet import SEANetEncoder, SEANetSizes, seanet_decoder
from vq_jax.models.sound_discriminators import SoundDiscriminator
from vq_jax.models.strided import FlatEncoder, FlatTrunk, StridedEncoder, StridedSizes, strided_decoder
from vq_jax.models.t5 import T5Encoder
from vq_jax.models.text_encoder import TextEncoder
from vq_jax.models.transformer import Transformer
from vq_jax.models.two_scales import TwoScaleBottleneck, TwoScaleTrunk
from vq_jax.models.unet import UNet

__all__ = [
    'Autoencoder',
    'CLIPTextEncoder',
    'Classifier',
    'CodeEncoder',
    'Conditioner',
    'Context',
    'Decoder',
    'DiT',
    'Discriminator',
    'DualEncoder',
    'EmbeddedText',
    'FlatEncoder',
    'FlatTrunk',
    'Generator',
    'MLPEncoder',
    'MLPSizes',
    'Observation',
    'PatchDiscriminator',
    'PixelCNN',
    'RQTransformer',
    'ResidualEncoder',
    'ResidualSizes',
    'SEANetEncoder',
    'SEANetSizes',
    'SoundDiscriminator',
    'StridedEncoder',
    'StridedSizes',
    'T5Encoder',
    'TextEncoder',
    'Transformer',
    'TwoScaleBottleneck',
    'TwoScaleTrunk',
    'UNet',
    'mlp_decoder',
    'residual_decoder',
    'seanet_decoder',
    'strided_decoder',
]

"""Autoencoders of few parts, for tests of the parts."""

import dataclasses

from vq_jax.models import (
    Autoencoder,
    Observation,
    ResidualEncoder,
    StridedEncoder,
    StridedSizes,
    TwoScaleBottleneck,
    TwoScaleTrunk,
    residual_decoder,
    strided_decoder,
)
from vq_jax.quantizers import GaussianBottleneck


def vqvae(quantizer, out_channels=3, **sizes):
    """A VQ-VAE."""
    sizes = StridedSizes(**sizes)
    return Autoencoder(StridedEncoder(sizes, quantizer.dim), quantizer, strided_decoder(sizes, out_channels))


def vqvae2(coarse, fine, top_stages=1, out_channels=3, likelihood=None, **sizes):
    """A VQ-VAE of two scales."""
    sizes = StridedSizes(**sizes)
    between = dataclasses.replace(sizes, stages=top_stages)
    return Autoencoder(
        StridedEncoder(sizes, sizes.channels),
        TwoScaleBottleneck((coarse, fine), between),
        strided_decoder(sizes, out_channels, TwoScaleTrunk(sizes, between.factors)),
        likelihood and Observation(likelihood),
    )


def vqgan(bottleneck, sizes, out_channels=3, conditional=False):
    """VQGAN's generator, or a KL autoencoder."""
    width = sizes.features * (2 if isinstance(bottleneck, GaussianBottleneck) else 1)
    decoder = residual_decoder(sizes, out_channels)
    return Autoencoder(ResidualEncoder(sizes, width), bottleneck, decoder, conditional=conditional)

"""Autoencoders of few parts, for tests of the parts."""

import dataclasses

from vq_jax.models import (
    Autoencoder,
    Observation,
    ResidualDecoder,
    ResidualEncoder,
    StridedDecoder,
    StridedEncoder,
    StridedSizes,
    TwoScaleBottleneck,
    TwoScaleDecoder,
)
from vq_jax.quantizers import GaussianBottleneck


def vqvae(quantizer, out_channels=3, **sizes):
    """A VQ-VAE."""
    sizes = StridedSizes(**sizes)
    return Autoencoder(StridedEncoder(sizes, quantizer.dim), quantizer, StridedDecoder(sizes, out_channels))


def vqvae2(coarse, fine, top_stages=1, out_channels=3, likelihood=None, **sizes):
    """A VQ-VAE of two scales."""
    sizes = StridedSizes(**sizes)
    return Autoencoder(
        StridedEncoder(sizes, sizes.channels),
        TwoScaleBottleneck((coarse, fine), dataclasses.replace(sizes, stages=top_stages)),
        TwoScaleDecoder(sizes, top_stages, out_channels),
        likelihood and Observation(likelihood),
    )


def vqgan(bottleneck, sizes, out_channels=3, conditional=False):
    """VQGAN's generator, or a KL autoencoder."""
    width = sizes.features * (2 if isinstance(bottleneck, GaussianBottleneck) else 1)
    decoder = ResidualDecoder(sizes, out_channels)
    return Autoencoder(ResidualEncoder(sizes, width), bottleneck, decoder, conditional=conditional)

"""Quantizers: vectors in, the nearest codes out, for any number of axes between the first and the last."""

from vq_jax.quantizers.bsq import BinarySphericalQuantizer
from vq_jax.quantizers.fsq import FiniteScalarQuantizer
from vq_jax.quantizers.gaussian import GaussianBottleneck, Posterior
from vq_jax.quantizers.grouped import GroupedQuantizer
from vq_jax.quantizers.gumbel import GumbelQuantizer
from vq_jax.quantizers.ibq import IndexBackpropagationQuantizer
from vq_jax.quantizers.lfq import LookupFreeQuantizer
from vq_jax.quantizers.multi_scale import MultiScaleQuantizer
from vq_jax.quantizers.quantizer import Quantized, Quantizer
from vq_jax.quantizers.residual import ResidualQuantizer
from vq_jax.quantizers.simvq import SimVectorQuantizer
from vq_jax.quantizers.vq import VectorQuantizer

__all__ = [
    'BinarySphericalQuantizer',
    'FiniteScalarQuantizer',
    'GaussianBottleneck',
    'GroupedQuantizer',
    'GumbelQuantizer',
    'IndexBackpropagationQuantizer',
    'LookupFreeQuantizer',
    'MultiScaleQuantizer',
    'Posterior',
    'Quantized',
    'Quantizer',
    'ResidualQuantizer',
    'SimVectorQuantizer',
    'VectorQuantizer',
]

"""Other people's weights: files read without running anything in them."""

from vq_jax.weights.downloads import INCEPTION_FILES, LPIPS_FILES, download
from vq_jax.weights.read import Weights, read_weights
from vq_jax.weights.safetensors_files import write_safetensors

__all__ = ['INCEPTION_FILES', 'LPIPS_FILES', 'Weights', 'download', 'read_weights', 'write_safetensors']

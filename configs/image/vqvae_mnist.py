"""A VQ-VAE on MNIST: 28x28 digits, padded to 32x32, to 8x8 codes from a codebook of 256.

    python -m vq_jax.prepare mnist
    python -m vq_jax.train --config configs/image/vqvae_mnist.py --workdir runs/vqvae_mnist

Results: test PSNR 24.79 dB, MSE 0.0160 (pixels in [-1, 1]), perplexity 210, in 3 minutes on two cores
of a shared x86-64 machine (jax 0.10.2).
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """64 channels, one and a half passes over the data."""
    config = default_config('vqvae')
    config.steps = 1500
    config.batch_size = 64
    config.eval_every = 500
    config.checkpoint_every = 500
    config.data.name = 'mnist'
    config.data.pad = 2
    config.data.image_size = 32
    config.data.channels = 1
    config.model.channels = 64
    config.model.residual_channels = 32
    config.quantizer.num_codes = 256
    config.quantizer.dim = 32
    config.loss.reconstruction_weight = 3.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    return config

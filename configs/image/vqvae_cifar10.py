"""The VQ-VAE of van den Oord et al. 2017 (arXiv:1711.00937, section 4.1) on CIFAR-10.

32x32 colour images to 8x8 codes from a codebook of 512, 256 channels, 250,000 steps of batch 128. Section 3.2
of the paper mentions 8x8x10 latents for CIFAR-10 without explaining the factor of ten; these are 8x8.

    python -m vq_jax.prepare cifar10
    python -m vq_jax.train --config configs/image/vqvae_cifar10.py --workdir runs/vqvae_cifar10

Not run at this size. The speed of its training step is in benchmarks/README.md.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The paper's network and optimizer."""
    config = default_config('vqvae')
    config.steps = 250_000
    config.batch_size = 128
    config.eval_every = 10_000
    config.checkpoint_every = 10_000
    config.data.name = 'cifar10'
    config.data.image_size = 32
    config.data.channels = 3
    config.model.channels = 256
    config.model.residual_channels = 256
    config.quantizer.num_codes = 512
    config.quantizer.dim = 64
    config.loss.reconstruction_weight = 4.0  # about one over the variance of CIFAR-10's pixels
    config.optimizer.learning_rate = 2e-4
    return config

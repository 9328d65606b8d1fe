"""A VQ-VAE with two levels of codes on MNIST: 32x32 digits to 4x4 top and 8x8 bottom codes out of 256.

python -m vq_jax.train --config configs/vqvae2_mnist.py --workdir runs/vqvae2_mnist

Seen: test PSNR 24.91 dB, MSE 0.0158 (pixels in [-1, 1]), perplexity 206 at the bottom and 206 at the top, in
7 minutes on two busy cores of a shared x86-64 machine (jax 0.10.2). Digits leave little to the top: of the
first 256 test pictures the MSE is 0.0142, with another picture's top codes 0.0167, with its bottom ones 0.39.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The sizes of `vqvae_mnist.py`, and a level more."""
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
    config.model.top_stages = 1
    config.model.residual_channels = 32
    config.quantizer.num_codes = 256
    config.quantizer.dim = 32
    config.loss.reconstruction_weight = 3.0
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = 'cosine'
    return config

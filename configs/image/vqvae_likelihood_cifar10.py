"""The bits per dimension of van den Oord et al. 2017 (arXiv:1711.00937, section 4.1) on CIFAR-10.

`vqvae_cifar10.py` with a decoder that is a likelihood: 32x32 colour images to 8x8 codes from a codebook of
512. The paper reports 4.67 bits per dimension for its VQ-VAE, 4.51 for a VAE and 5.14 for VIMCO, but not with
which prior and how many codes per position (see `vqvae_cifar10.py`). `bits_per_dimension_uniform_prior`
assumes a uniform prior over codes, which accounts for 0.19 of these bits; a learned prior saves a part of
them (`prior_cifar10.py`). The discretised logistic is a choice of this config.

    python -m vq_jax.prepare cifar10
    python -m vq_jax.train --config configs/image/vqvae_likelihood_cifar10.py \
        --workdir runs/likelihood_cifar10

Not run at this size; half as wide, 2,000 steps of 64 images, 6.40 bits per dimension with a uniform prior
(experiments/vqvae_2017).
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The paper's sizes and optimizer."""
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
    config.loss.reconstruction = 'discretised_logistic'
    config.optimizer.learning_rate = 2e-4
    return config

"""The second stage of van den Oord et al. 2017 (arXiv:1711.00937) on CIFAR-10, and the whole bound in bits.

A gated PixelCNN over the 8x8 codes of `vqvae_likelihood_cifar10.py`. Its evaluation gives
`pixel_bits_per_dimension`, `-(log p(x | z) + log p(z))` of the test images; the paper reports 4.67 for its
VQ-VAE, 4.51 for a VAE and 5.14 for VIMCO (section 4.1).

    python -m vq_jax.prepare cifar10
    python -m vq_jax.train --config vqvae_likelihood_cifar10 --workdir runs/likelihood_cifar10
    python -m vq_jax.train --config configs/image/prior_cifar10.py --workdir runs/prior_cifar10

Not run at this size; a smaller one, over the VQ-VAE of 2,000 steps, 6.36 bits per dimension after as many
(experiments/vqvae_2017).
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Trains on images rather than written codes; evaluation needs them for the bound."""
    config = default_config('prior')
    config.steps = 100_000
    config.batch_size = 128
    config.eval_every = 10_000
    config.checkpoint_every = 10_000
    config.data.name = 'cifar10'
    config.data.image_size = 32
    config.data.channels = 3
    config.tokenizer.workdir = 'runs/likelihood_cifar10'
    config.model.kind = 'pixelcnn'
    config.pixelcnn.depth = 12
    config.pixelcnn.channels = 128
    config.pixelcnn.first_kernel = 5
    config.pixelcnn.dropout = 0.1
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_steps = 1_000
    config.optimizer.ema_decay = 0.9995
    return config

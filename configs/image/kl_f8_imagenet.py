"""The KL autoencoder of latent diffusion (Rombach et al. 2022, arXiv:2112.10752, table 8, f = 8) on ImageNet.

256x256 images to a 32x32 grid of 4-dimensional latents; 83,653,863 parameters without the discriminator, as
in the published checkpoint. That one was trained on OpenImages instead (256-pixel crops of images resized to
384).

    python -m vq_jax.prepare imagenet2012
    python -m vq_jax.train --config configs/image/kl_f8_imagenet.py --workdir runs/kl_f8_imagenet

LPIPS needs its published weights; see config.perceptual.weights.

Not run: neither ImageNet nor an accelerator was available.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """The published sizes, weights and start of the discriminator."""
    config = default_config('vqgan')
    config.steps = 500_000
    config.batch_size = 96
    config.eval_every = 20_000
    config.checkpoint_every = 5_000
    config.data.name = 'imagenet2012'
    config.data.eval_split = 'validation'
    config.data.image_size = 256
    config.data.random_crop = True
    config.data.flip = True
    config.data.channels = 3
    config.data.workers = 16
    config.variant.bottleneck = 'gaussian'
    config.model.multipliers = (1, 2, 4, 4)
    config.model.attention_resolutions = ()
    config.model.features = 4
    config.model.dtype = 'bfloat16'
    config.discriminator.dtype = 'bfloat16'
    config.gaussian.latent_dim = 4
    config.loss.kl_weight = 1e-6
    config.adversarial.weight = 0.5
    config.adversarial.start = 50_000
    # The published loss is a sum over the pixels, and so is what its bound of 1e4 is compared with.
    config.adversarial.most_adaptive = 1e4 / (256 * 256 * 3)
    config.adversarial.loss = 'hinge'
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        optimizer.learning_rate = 4.5e-6 * 96
        optimizer.b1 = 0.5
        optimizer.b2 = 0.9
    config.parallel.engine = 'jit'  # of few examples a chip: see docs/pods.md
    return config

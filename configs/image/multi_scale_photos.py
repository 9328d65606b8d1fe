"""VAR's multi-scale tokenizer, very small, on crops of scikit-image's photographs.

64x64 images to 680 codes on ten grids, 1x1 to 16x16, from one codebook of 256 (Tian et al. 2024,
arXiv:2404.02905, whose grids, convolutions and 32-dimensional codes these are; theirs has 4,096 codes, and
photographs of 256x256). All else is as in `vqgan_photos.py`.

    python -m vq_jax.train --config configs/image/multi_scale_photos.py --workdir runs/multi_scale

Seen on a core of a loaded x86-64 machine (Python 3.11, jax 0.10.2), in 15 minutes: 25.4 dB, 1 - MS-SSIM
0.131, perplexity 151 of the 256 codes over all grids, every one of which is used. `vqgan_photos.py`, with its
one grid of 256 codes, has 25.0 dB and 0.130.
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
    config.quantizer.kind = 'multi_scale'
    config.quantizer.num_codes = 256
    config.multi_scale.scales = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
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
